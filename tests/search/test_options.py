import pytest

from search.command_line import parse_options
from search.options import SearchOptions, parse_duration
from search.spaces import SPACES
from trainable.data.unseen import UnseenClasses
from trainable.errors import ConfigError


@pytest.mark.parametrize(
    ("algo", "scheduler"), [("asha", "asha"), ("random", "none"), ("optuna", "asha"), ("hyperopt", "asha")]
)
def test_the_scheduler_follows_the_algorithm(algo: str, scheduler: str) -> None:
    assert parse_options(["--algo", algo]).scheduler == scheduler


def test_a_scheduler_that_is_given_holds() -> None:
    assert parse_options(["--algo", "random", "--scheduler", "asha"]).scheduler == "asha"
    assert parse_options(["--algo", "optuna", "--scheduler", "none"]).scheduler == "none"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("unseen_accuracy", "val_unseen_accuracy"),
        ("harmonic_accuracy", "val_harmonic_accuracy"),
        ("harmonic_balanced_accuracy", "val_harmonic_balanced_accuracy"),
        ("val_unseen_accuracy", "val_unseen_accuracy"),
        ("loss", "val_loss"),
        ("train_loss", "train_loss"),
    ],
)
def test_a_metric_of_validation_may_be_named_without_its_prefix(given: str, meant: str) -> None:
    assert parse_options(["--metric", given]).metric == meant


def test_several_metrics_are_one_twice_whatever_their_prefix() -> None:
    options = parse_options(["--algo", "optuna", "--metric", "unseen_accuracy,epoch_seconds"])
    assert options.metrics == ("val_unseen_accuracy", "epoch_seconds")
    with pytest.raises(ConfigError, match="several different ones"):
        parse_options(["--algo", "optuna", "--metric", "accuracy,val_accuracy"])


@pytest.mark.parametrize(
    ("metric", "group", "needs"),
    [
        ("unseen_accuracy", (), "at least 2"),
        ("unseen_accuracy", ("fear",), "at least 2"),
        ("harmonic_accuracy", (), "at least 1"),
    ],
)
def test_a_metric_of_unseen_classes_needs_some_for_validation(metric: str, group: tuple[str, ...], needs: str) -> None:
    options = parse_options(["--metric", metric])
    options.require_measured(UnseenClasses(validation=("fear", "sad")))
    with pytest.raises(ConfigError, match=f"--metric val_{metric} needs {needs}.*Name them by --unseen"):
        options.require_measured(UnseenClasses(validation=group, test=("happy", "sad")))


@pytest.mark.parametrize("metric", ["val_accuracy", "val_balanced_accuracy", "train_accuracy", "unseen_accuracy"])
def test_more_accuracy_is_better(metric: str) -> None:
    assert parse_options(["--metric", metric]).mode == "max"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--trials 0", "--trials >= 1 must hold, but got 0"),
        ("--keep-best 0", "--keep-best >= 1"),
        ("--max-concurrent 0", "--max-concurrent >= 1"),
        ("--workers-per-trial 0", "--workers-per-trial >= 1"),
        ("--cpus-per-worker 0", "--cpus-per-worker >= 1"),
        ("--seed -1", "--seed 0 to 4294967295 must hold, but got -1"),
        ("--seed 4294967296", "--seed 0 to 4294967295 must hold, but got 4294967296"),
        ("--max-failures -1", "--max-failures >= 0"),
        ("--max-lost-minutes 0", "--max-lost-minutes > 0 must hold, but got 0"),
        ("--reduction-factor 1", "--reduction-factor >= 2"),
        ("--grace-epochs 0", "--grace-epochs >= 1"),
        ("--grace-epochs 9", "--grace-epochs <= --max-epochs must hold, but got 9"),
        ("--gpus-per-worker 1.5", r"--gpus-per-worker 0 to 1 must hold .* --workers-per-trial .*, but got 1.5"),
        ("--gpus-per-worker 2", "--gpus-per-worker 0 to 1 must hold .*a worker trains on one GPU.*, but got 2.0"),
        ("--gpus-per-worker -1", "--gpus-per-worker 0 to 1 must hold"),
        ("--gpus-per-worker inf", "--gpus-per-worker 0 to 1 must hold"),
        ("--gpus-per-worker nan", "--gpus-per-worker 0 to 1 must hold"),
        (
            "--gpus-per-worker 0.5 --workers-per-trial 2",
            r"--gpus-per-worker 0 or 1 must hold with --workers-per-trial 2 \(.* share no GPU\), but got 0.5",
        ),
        ("--gpus-per-worker 0 --accelerator-type A100", "--accelerator-type needs --gpus-per-worker > 0, but got 0"),
        ("--algo ahsa", "--algo must be one of .* Did you mean 'asha'"),
        ("--scheduler hyperbant", "Did you mean 'hyperband'"),
        ("--metric val_loss,train_loss", "with --algo optuna several different ones"),
        ("--algo optuna --metric val_loss,val_loss", "several different ones, but got"),
        ("--sampler gp", "--sampler needs --algo optuna"),
        ("--algo optuna --sampler cma", "Did you mean 'cmaes'"),
        ("--budget-hours 0", "--budget-hours > 0"),
        ("--price-per-hour nan", "--price-per-hour > 0"),
        ("--confirm -1", "--confirm >= 0"),
        ("--space stud", "Did you mean 'study'"),
        ("--metric val_acuracy", "Did you mean 'val_accuracy'"),
        ("--unseen fear:fear", "fear more than once"),
        ("--algo asha --scheduler none", "use --algo random"),
        ("--time-budget 45", "such as 90s, 45m or 1h30m, but got '45'"),
    ],
)
def test_what_cannot_be_is_refused(argv: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_options(argv.split())


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "1x", "0s", "-1h", "1h 30m", "h1", "1.h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--time-budget"):
        parse_duration(text)


def test_the_space_has_the_overrides_and_max_epochs() -> None:
    options = parse_options(["--space", "study", "--set", "embedding_dim=16", "--max-epochs", "27"])
    space = options.build_space()
    assert space.fixed() == {"embedding_dim": 16, "max_epochs": 27}
    assert space.draws().keys() == SPACES["study"].draws().keys() - {"embedding_dim"}


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--algo asha", "--scheduler pbt needs --algo random"),
        ("--algo random --confirm 1", "--scheduler pbt needs --confirm 0"),
        ("--algo random --storage s3://bucket/prefix", "--scheduler pbt needs --storage to be a folder"),
        ("--algo random --set learning_rate=1e-3", "must have learning_rate, weight_decay or augmentation to vary"),
    ],
)
def test_a_population_needs_random_draws_no_confirmation_and_something_to_change(argv: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_options(["--scheduler", "pbt", *argv.split()]).build_space()
    assert parse_options(["--scheduler", "pbt", "--algo", "random"]).build_space()


def test_the_training_loss_ranks_only_trials_of_one_loss_and_batch_size() -> None:
    with pytest.raises(ConfigError, match="different loss,"):
        parse_options(["--metric", "train_loss", "--space", "wide"]).build_space()
    with pytest.raises(ConfigError, match="different batch_size and loss,"):
        parse_options(["--metric", "train_loss", "--space", "wide", "--set", "batch_size=choice(8,16)"]).build_space()
    parse_options(["--metric", "train_loss", "--space", "wide", "--set", "loss=clip"]).build_space()
    parse_options(["--metric", "val_loss", "--space", "wide"]).build_space()


def test_a_space_whose_batches_do_not_divide_among_the_workers_is_refused() -> None:
    parse_options(["--workers-per-trial", "2"]).build_space()
    with pytest.raises(ConfigError, match="multiple of --workers-per-trial 3"):
        parse_options(["--workers-per-trial", "3"]).build_space()


def test_options_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(ConfigError, match="--trials must be of type int"):
        SearchOptions(trials=2.5)  # type: ignore[arg-type]
