import json
from pathlib import Path

import pytest

from search.command_line import MAX_FLAGS, flag_table, parse_options
from search.options import SearchOptions
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
    "--unseen": "",
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
    "--accelerator-type": "",
    "--max-failures": "2",
    "--max-lost-minutes": "10.0",
    "--name": "",
    "--storage": "results",
    "--keep-best": "3",
    "--logger": "",
    "--resume": "",
    "--config": "",
}
"""The command line is frozen: a change here is a change for every user, and stands in the CHANGELOG."""


def test_the_flags_and_their_defaults_are_frozen() -> None:
    assert {flag: default for flag, default, _ in flag_table()} == GOLDEN
    assert len(GOLDEN) == 33 < MAX_FLAGS


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


def test_loggers_are_named_one_by_one_or_in_a_file(tmp_path: Path) -> None:
    assert parse_options(["--logger", "wandb", "--logger", "mlflow", "--logger", "wandb"]).logger == ("wandb", "mlflow")
    file = tmp_path / "search.yaml"
    for text in ("logger: mlflow", "logger: [mlflow]"):
        file.write_text(text)
        assert parse_options(["--config", str(file)]).logger == ("mlflow",)
    with pytest.raises(ConfigError, match="--logger must be one of mlflow, wandb, but got 'mlfow'"):
        parse_options(["--logger", "mlfow"])


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--trails 3", "'--trails'.* Did you mean '--trials'"),
        ("--tria 3", "Did you mean '--trials'"),  # no abbreviations: a later flag would break them
        ("results", "every argument must belong to a flag, but got 'results'"),
        ("--trials x", "--trials: invalid int value"),
        ("--trials", "--trials: expected one argument"),
        ("--storage ~no-such-user/x", "--storage must begin with ~ only before a user's name"),
        ("--config missing.yaml", "missing.yaml: No such file"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused(argv: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_options(argv.split())


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


def test_a_metric_may_be_said_again_in_either_form_where_a_search_goes_on(tmp_path: Path) -> None:
    asked = SearchOptions(algo="optuna", metric="unseen_accuracy,train_loss", dataset="synthetic").to_dict()
    (tmp_path / "experiment.json").write_text(json.dumps({"options": asked}))
    resume = ["--resume", str(tmp_path), "--metric"]

    for same in ("unseen_accuracy,train_loss", "val_unseen_accuracy,train_loss"):
        assert parse_options([*resume, same]).metric == "val_unseen_accuracy,train_loss"
    with pytest.raises(ConfigError, match="--metric must stay what it was where a search goes on, but it was val_un"):
        parse_options([*resume, "accuracy,train_loss"])


def test_null_in_the_file_of_a_search_that_goes_on_leaves_it_as_it_was(tmp_path: Path) -> None:
    asked = SearchOptions(algo="asha", time_budget="1m").to_dict()
    (tmp_path / "experiment.json").write_text(json.dumps({"options": asked}))
    file = tmp_path / "search.yaml"
    file.write_text("scheduler: null\nname: null\nset: null\nwarm-start: null\nlogger:\ntime-budget: null\n")

    options = parse_options(["--resume", str(tmp_path), "--config", str(file)])
    assert (options.scheduler, options.name) == ("asha", tmp_path.name)
    assert (options.overrides, options.warm_start, options.logger) == ((), (), ())
    assert options.time_budget is None  # what may change is lifted


def test_an_experiment_of_an_older_version_has_the_defaults_of_what_is_newer(tmp_path: Path) -> None:
    newer = ("warm_start", "confirm", "budget_hours")
    asked = {name: value for name, value in SearchOptions(trials=8, seed=3).to_dict().items() if name not in newer}
    (tmp_path / "experiment.json").write_text(json.dumps({"options": asked}))

    options = parse_options(["--resume", str(tmp_path), "--budget-hours", "2"])
    assert (options.trials, options.seed, options.budget_hours) == (8, 3, 2.0)
    assert (options.warm_start, options.confirm) == ((), 0)


@pytest.mark.parametrize("options", [None, [], {"of_tomorrow": 1}])
def test_an_experiment_of_another_version_is_refused(tmp_path: Path, options: object) -> None:
    (tmp_path / "experiment.json").write_text(json.dumps({"options": options}))
    with pytest.raises(ConfigError, match="that this version or an older one began"):
        parse_options(["--resume", str(tmp_path)])
