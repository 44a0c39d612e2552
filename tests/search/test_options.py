import json
from pathlib import Path

import pytest

from search.options import MAX_FLAGS, SearchOptions, flag_table, parse_duration, parse_options
from search.spaces import SPACES
from trainable.errors import ConfigError

GOLDEN = {
    "--algo": "asha",
    "--scheduler": "",
    "--space": "scratch",
    "--set": "",
    "--sampler": "",
    "--trials": "16",
    "--metric": "val_accuracy",
    "--seed": "0",
    "--points": "",
    "--warm-start": "",
    "--confirm": "0",
    "--dataset": "synthetic",
    "--data-path": "",
    "--max-epochs": "8",
    "--grace-epochs": "1",
    "--reduction-factor": "3",
    "--time-budget": "",
    "--budget-hours": "",
    "--price-per-hour": "",
    "--workers-per-trial": "1",
    "--max-concurrent": "",
    "--cpus-per-worker": "",
    "--gpus-per-worker": "",
    "--max-failures": "2",
    "--name": "",
    "--storage": "results",
    "--keep-best": "3",
    "--resume": "",
    "--config": "",
}
"""The command line is frozen: a change here is a change for every user, and stands in the CHANGELOG."""


def test_the_flags_and_their_defaults_are_frozen() -> None:
    assert {flag: default for flag, default, _ in flag_table()} == GOLDEN
    assert len(GOLDEN) == 29 < MAX_FLAGS


def test_every_flag_is_in_help_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        parse_options(["--help"])
    assert done.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag, default, doc in flag_table():
        assert f"{flag} " in text
        assert " ".join(doc.split()) in text
        assert not default or f"(default: {default})" in text
    assert all(f"{group}: --" in text for group in ("Search", "Data", "Budget", "Resources", "Output"))
    assert "examples:" in text


def test_no_flags_give_the_defaults() -> None:
    assert parse_options([]) == SearchOptions()


def test_flags_are_read_with_their_types() -> None:
    numbers = "--trials 3 --gpus-per-worker 0.5 --cpus-per-worker 2 --time-budget 1h30m"
    names = "--algo optuna --name fer --set learning_rate=1e-3 --set loss=clip --metric val_loss"
    options = parse_options(f"{numbers} {names}".split())
    assert (options.algo, options.trials, options.gpus_per_worker, options.cpus_per_worker) == ("optuna", 3, 0.5, 2)
    assert (options.name, options.overrides) == ("fer", ("learning_rate=1e-3", "loss=clip"))
    assert (options.time_budget_seconds, options.mode) == (5400.0, "min")


@pytest.mark.parametrize(
    ("algo", "scheduler"), [("asha", "asha"), ("random", "none"), ("optuna", "asha"), ("hyperopt", "asha")]
)
def test_the_scheduler_follows_the_algorithm(algo: str, scheduler: str) -> None:
    assert parse_options(["--algo", algo]).scheduler == scheduler


def test_a_scheduler_that_is_given_holds() -> None:
    assert parse_options(["--algo", "random", "--scheduler", "asha"]).scheduler == "asha"
    assert parse_options(["--algo", "optuna", "--scheduler", "none"]).scheduler == "none"


@pytest.mark.parametrize("metric", ["val_accuracy", "val_balanced_accuracy", "train_accuracy"])
def test_more_accuracy_is_better(metric: str) -> None:
    assert parse_options(["--metric", metric]).mode == "max"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--trails 3", "'--trails'.* Did you mean '--trials'"),
        ("--tria 3", "Did you mean '--trials'"),  # no abbreviations: a later flag would break them
        ("results", "every argument must belong to a flag, but got 'results'"),
        ("--trials x", "--trials: invalid int value"),
        ("--trials", "--trials: expected one argument"),
        ("--trials 0", "--trials >= 1 must hold, but got 0"),
        ("--keep-best 0", "--keep-best >= 1"),
        ("--max-concurrent 0", "--max-concurrent >= 1"),
        ("--workers-per-trial 0", "--workers-per-trial >= 1"),
        ("--cpus-per-worker 0", "--cpus-per-worker >= 1"),
        ("--seed -1", "--seed 0 to 4294967295 must hold, but got -1"),
        ("--seed 4294967296", "--seed 0 to 4294967295 must hold, but got 4294967296"),
        ("--storage ~no-such-user/x", "--storage must begin with ~ only before a user's name"),
        ("--max-failures -1", "--max-failures >= 0"),
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
        ("--algo asha --scheduler none", "use --algo random"),
        ("--time-budget 45", "such as 90s, 45m or 1h30m, but got '45'"),
        ("--config missing.yaml", "missing.yaml: No such file"),
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


def _file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "search.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_holds_the_same_names_and_flags_win_over_it(tmp_path: Path) -> None:
    file = _file(tmp_path, "algo: optuna\ntrials: 5\nmax-epochs: 3\ngpus_per_worker: 1\nname: null\nscheduler: none\n")
    options = parse_options(["--config", file, "--trials", "7"])
    assert options == SearchOptions(algo="optuna", trials=7, max_epochs=3, gpus_per_worker=1, scheduler="none")


@pytest.mark.parametrize(
    "text",
    [
        "set: [learning_rate=1e-3, 'loss=choice(clip,sigmoid)', learn_logit_scale=false]",
        "set:\n  learning_rate: 1e-3\n  loss: choice(clip,sigmoid)\n  learn_logit_scale: false\n",
    ],
)
def test_a_files_dimensions_come_before_the_flags(tmp_path: Path, text: str) -> None:
    file = _file(tmp_path, text)
    options = parse_options(["--set", "learning_rate=1e-2", "--config", file])
    assert options.overrides == (
        "learning_rate=1e-3",
        "loss=choice(clip,sigmoid)",
        "learn_logit_scale=false",
        "learning_rate=1e-2",
    )
    assert options.build_space().fixed() == {"learning_rate": 1e-2, "learn_logit_scale": False, "max_epochs": 8}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("trails: 3", "search.yaml: no option is called 'trails'. Did you mean 'trials'"),
        ("overrides: [a]", "no option is called 'overrides'"),
        ("config: other.yaml", "no option is called 'config'"),
        ("trials: many", "search.yaml: --trials must be of type int, but got 'many'"),
        ("trials: 2.5", "--trials must be of type int"),
        ("trials: true", "--trials must be of type int"),
        ("trials: null", "--trials must be of type int"),
        ("seed: 1e3", "--seed must be of type int"),
        ("time_budget: 90", "--time-budget must be of type str"),
        ("set: 3", "set must be a list"),
        ("- a\n- b", "must hold 'name: value' lines"),
        ("a: [", "must name a YAML file"),
        ("name: 2026-02-30", "must name a YAML file"),
        ("algo: !!python/object/apply:os.getcwd []", "must name a YAML file"),
        ("trials: 0", "--trials >= 1"),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_the_key(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_options(["--config", _file(tmp_path, text)])


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert parse_options(["--config", _file(tmp_path, "# nothing\n")]) == SearchOptions()


def test_home_is_expanded_in_flags_and_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _file(tmp_path, "data_path: ~/faces\n")
    options = parse_options(["--config", "~/search.yaml", "--storage", "~/results"])
    assert (options.storage, options.data_path) == (str(tmp_path / "results"), str(tmp_path / "faces"))
    assert parse_options(["--storage", "a/~b"]).storage == "a/~b"


def test_help_says_what_each_space_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--help"])
    text = capsys.readouterr().out
    assert all(space.description and space.description in text for space in SPACES.values())


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


@pytest.mark.parametrize("scheduler", ["pbt", "none"])
def test_a_population_cannot_grow_where_it_goes_on(tmp_path: Path, scheduler: str) -> None:
    asked = SearchOptions(algo="random", scheduler=scheduler, trials=8).to_dict()
    (tmp_path / "experiment.json").write_text(json.dumps({"options": asked}))
    resume = ["--resume", str(tmp_path)]

    assert parse_options([*resume, "--keep-best", "1", "--trials", "8"]).keep_best == 1
    for more in (["--trials", "9"], ["--max-epochs", "9"]):
        if scheduler == "none":
            assert parse_options([*resume, *more])
        else:
            with pytest.raises(ConfigError, match=f"{more[0]} must stay what it was where a search goes on"):
                parse_options([*resume, *more])


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
