"""Every search as a study that optuna-dashboard opens, whatever drew it."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.conditions import Condition
from search.dimensions import Choice, Fixed, LogUniform
from search.options import ALGORITHMS
from search.searchers import Objective, SearcherOptions
from search.spaces import Space
from search.study_file import StudyFile
from tests.search.bench import Bench, KilledError, kill

SPACE = Space(
    {"loss": Choice(("clip", "sigmoid")), "weight_decay": LogUniform(1e-4, 1e-1), "max_epochs": Fixed(4)},
    conditions={"weight_decay": Condition("loss", ("sigmoid",))},
)
CONFIG = {"loss": "sigmoid", "weight_decay": 0.01, "max_epochs": 4}
STATES = {"FINISHED": TrialState.COMPLETE, "STOPPED": TrialState.PRUNED, "FAILED": TrialState.FAIL}


def opened(file: Path) -> optuna.Study:
    """The study as another process sees it."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))
    return optuna.load_study(study_name="glance", storage=storage)


def follower(file: Path, *trials: Any) -> StudyFile:
    objective = Objective(metric="val_accuracy", mode="max")
    return StudyFile(SearcherOptions(space=SPACE, objective=objective, seed=0, journal=file), trials)


def test_a_trial_is_there_while_it_runs_and_what_it_was_at_its_end(make_trial: Any, tmp_path: Path) -> None:
    study = follower(tmp_path / "study.log")
    trial = make_trial(0, "RUNNING", (), config=CONFIG)
    study.started(trial)
    study.reported(trial, {"epoch": 1, "time": 1.0, "val_accuracy": 0.5})
    (found,) = opened(tmp_path / "study.log").trials
    assert (found.state, found.params) == (TrialState.RUNNING, {"loss": "sigmoid", "weight_decay": 0.01})
    assert found.intermediate_values == {1: 0.5}

    study.paused(trial)
    study.started(trial)
    study.ended(make_trial(0, "STOPPED", (0.5,), config=CONFIG))
    (found,) = opened(tmp_path / "study.log").trials
    assert (found.state, found.value) == (TrialState.PRUNED, 0.5)


def test_trials_of_before_are_there_and_those_that_confirm_are_not(make_trial: Any, tmp_path: Path) -> None:
    before = [make_trial(0, "FINISHED", (0.1, 0.2), config=CONFIG), make_trial(1, "RUNNING", (0.3,), config=CONFIG)]
    study = follower(tmp_path / "study.log", *before)
    again = make_trial(2, "FINISHED", (0.2,), config=CONFIG)
    again.confirms = before[0].trial_id
    study.started(again)
    study.reported(again, again.reports[0])
    study.ended(again)

    first, second = opened(tmp_path / "study.log").trials
    assert (first.state, first.value, first.intermediate_values) == (TrialState.COMPLETE, 0.2, {1: 0.1, 2: 0.2})
    assert (second.state, second.intermediate_values) == (TrialState.RUNNING, {1: 0.3})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_study_of_a_search_by_any_algorithm_has_what_the_ledger_says(bench: Bench, algorithm: str) -> None:
    bench.fails = lambda trial: trial.number == 2
    assert bench.run("--algo", algorithm) == 0
    study = opened(bench.experiment / "study.log")

    assert [trial.user_attrs["trial_id"] for trial in study.trials] == [trial.trial_id for trial in bench.trials]
    for found, trial in zip(study.trials, bench.trials, strict=True):
        assert found.state is STATES[trial.state]
        assert found.params == {name: trial.config[name] for name in found.distributions}
        assert found.intermediate_values == {report["epoch"]: report["val_accuracy"] for report in trial.reports}
    assert {"learning_rate", "logit_scale", "embedding_dim", "weight_init"} == study.trials[0].params.keys()


@pytest.mark.parametrize("lost", [False, True])
def test_a_search_that_goes_on_has_the_whole_study_again(bench: Bench, lost: bool) -> None:
    bench.after = kill(lambda trial: trial.number == 3)
    with pytest.raises(KilledError):
        bench.run()
    bench.after = lambda recorder, trial: None
    if lost:
        (bench.experiment / "study.log").unlink(missing_ok=True)
    assert bench.resume() == 0
    assert [trial.state for trial in opened(bench.experiment / "study.log").trials] == [TrialState.COMPLETE] * 6


@pytest.mark.e2e
def test_optuna_dashboard_shows_the_study(
    bench: Bench, serve: Callable[..., Any], eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    pytest.importorskip("optuna_dashboard", reason="needs optuna-dashboard (make setup installs it)")
    bench.fails = lambda trial: trial.number == 2
    assert bench.run("--algo", "asha", "--trials", "9") == 0
    with socket.socket() as free:  # it says which port it was given, not which it has
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = serve("optuna_dashboard._cli", "--port", str(port), str(bench.experiment / "study.log"))
    assert eventually(lambda: server.ask("/api/studies") is not None)
    (study,) = server.ask("/api/studies")["study_summaries"]
    shown = server.ask(f"/api/studies/{study['study_id']}?after=0")

    assert study["study_name"] == "glance"
    assert len(shown["trials"]) == 9
    states = {"FINISHED": "Complete", "STOPPED": "Pruned", "FAILED": "Fail"}
    assert [trial["state"] for trial in shown["trials"]] == [states[trial.state] for trial in bench.trials]
