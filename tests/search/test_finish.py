import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from search import finish
from search.dimensions import Choice, Fixed
from search.experiment import Experiment
from search.finish import exit_status, print_summary, recover_undelivered
from search.ledger import SEARCH_STATES, LedgerWriter
from search.place import FolderPlace
from search.recorder import Recorder
from search.spaces import Space
from search.trials import Inherited
from tests.evaluations import evaluation, points
from trainable.slot.cluster import TrialResources

SPACE = Space({"embedding_dim": Choice((8, 16)), "max_epochs": Fixed(4)})
PLAIN: dict[str, Any] = {
    "space": SPACE,
    "resources": TrialResources(),
    "options": SimpleNamespace(price_per_hour=None, confirm=0, metrics=("val_accuracy",), trials=2),
    "place": FolderPlace(),
}
FAILURE = {
    "kind": "ValueError",
    "message": "no tower",
    "where": "a.py:1",
    "traceback": "Traceback (most ...)\nno tower",
}


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment.create(tmp_path, "x", {"dataset": {"name": "faces"}, "algorithm": "random"})


@pytest.fixture
def recorder(experiment: Experiment) -> Recorder:
    recorder = Recorder(LedgerWriter(experiment.ledger_path), [], retained=lambda trial: None, trials=9)
    for number, trial_id in enumerate("ab"):
        recorder.created(trial_id, number, {"embedding_dim": 8, "max_epochs": 4})
        recorder.started(trial_id, node="here", pid=1)
        recorder.reported(trial_id, {"epoch": 1, "val_accuracy": 0.25})
    return recorder


def leave(experiment: Experiment, trial_id: str, *, report: int, best: int) -> None:
    """What a slot leaves on disk after reporting one epoch and saving the weights of another as its best."""
    folder = experiment.checkpoints / trial_id
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps({"epoch": report, "val_accuracy": report / 4}))
    (folder / "best").mkdir()
    save_file({"weight": np.zeros(1)}, folder / "best" / "model.safetensors", {"epoch": str(best)})


def test_a_report_that_was_saved_but_not_delivered_is_recorded(experiment: Experiment, recorder: Recorder) -> None:
    leave(experiment, "a", report=2, best=2)
    recover_undelivered(recorder, experiment.checkpoints)

    assert [report["val_accuracy"] for report in recorder.trials["a"].reports] == [0.25, 0.5]
    assert recorder.trials["b"].epochs == 1


@pytest.mark.parametrize(("report", "best"), [(1, 1), (2, 1)], ids=["delivered", "weights not those of the epoch"])
def test_any_other_report_on_disk_is_left_alone(
    experiment: Experiment, recorder: Recorder, report: int, best: int
) -> None:
    leave(experiment, "a", report=report, best=best)
    recover_undelivered(recorder, experiment.checkpoints)

    assert recorder.trials["a"].epochs == 1


def test_a_trial_that_ended_gets_no_further_report(experiment: Experiment, recorder: Recorder) -> None:
    leave(experiment, "a", report=2, best=2)
    recorder.completed("a")
    recover_undelivered(recorder, experiment.checkpoints)

    assert recorder.trials["a"].epochs == 1


@pytest.mark.parametrize(
    ("state", "succeeded", "status"),
    [
        ("COMPLETED", True, 0),
        ("COMPLETED", False, 1),
        ("TIME_BUDGET", True, 0),
        ("TIME_BUDGET", False, 1),
        ("BUDGET", True, 0),
        ("BUDGET", False, 1),
        ("ABORTED", False, 1),
        ("ABORTED", True, 1),
        ("INTERRUPTED", True, 130),
        ("INTERRUPTED", False, 130),
        ("FAILED", True, 1),
    ],
)
def test_exit_status(state: str, succeeded: bool, status: int) -> None:
    assert exit_status(state, succeeded) == status


def test_a_best_trial_that_cannot_be_tested_is_kept_with_the_reason(
    experiment: Experiment, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise OSError("the store is gone")

    trial = recorder.trials["a"]
    experiment.write_best(trial, trial.reports[0], {"name": "faces"})
    monkeypatch.setattr(finish, "run_like_a_trial", broken)
    search: Any = SimpleNamespace(experiment=experiment, data="faces", nodes=[], **PLAIN)
    untested = finish.measure_on_test(search)

    assert untested is not None
    assert "the store is gone" in (experiment.path / untested["traceback_file"]).read_text()
    assert "test_accuracy" not in json.loads(experiment.best_path.read_text())["metrics"]
    out = io.StringIO()
    print_summary(Console(file=out, width=200), search, recorder, "COMPLETED", untested)
    assert "The best trial could not be tested: OSError: the store is gone" in out.getvalue()
    assert "val_accuracy" in out.getvalue()


def test_the_test_is_measured_once_and_kept_with_what_each_unseen_class_gave(
    experiment: Experiment, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = {"test": {"awed": {"images": 4, "accuracy": 0.5, "generalised_accuracy": 0.25}}}
    metrics = {"accuracy": 0.75, "loss": 0.5, "predicted_classes": 7, "unseen_accuracy": 0.5, "generalised_chance": 0.1}
    calls = iter([{"metrics": metrics, "unseen": classes, "look": (evaluation(), points())}])
    trial = recorder.trials["a"]
    experiment.write_best(trial, trial.reports[0], {"name": "faces"})
    monkeypatch.setattr(finish, "run_like_a_trial", lambda *arguments, **options: next(calls))
    search: Any = SimpleNamespace(experiment=experiment, data="faces", nodes=[], **PLAIN)

    assert finish.measure_on_test(search) is finish.measure_on_test(search) is None
    best = json.loads(experiment.best_path.read_text())
    assert best["unseen"] == classes
    assert best["metrics"] == {
        **{"val_accuracy": 0.25, "test_accuracy": 0.75, "test_loss": 0.5},
        **{"test_unseen_accuracy": 0.5, "test_generalised_chance": 0.1},
    }
    text = summary(experiment, recorder, "COMPLETED")
    assert "test_unseen_accuracy" in text
    assert "generalised" not in text
    assert json.loads((experiment.best / "evaluation.json").read_text())["classes"] == ["angry", "happy", "sad"]
    assert (experiment.tensorboard / "0000" / "test epoch 1" / "projector_config.pbtxt").is_file()


@pytest.mark.parametrize("broken", ["task", "file"])
def test_a_best_trial_that_cannot_be_shown_is_tested_all_the_same(
    experiment: Experiment, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError("no room")

    trial = recorder.trials["a"]
    experiment.write_best(trial, trial.reports[0], {"name": "faces"})
    look = {**FAILURE, "message": "no room"} if broken == "task" else (evaluation(), points())
    measured = {"metrics": {"accuracy": 0.75}, "unseen": {}, "look": look}
    monkeypatch.setattr(finish, "run_like_a_trial", lambda *arguments, **options: measured)
    monkeypatch.setattr(finish, "write_evaluation", full)
    search: Any = SimpleNamespace(experiment=experiment, data="faces", nodes=[], **PLAIN)
    untested = finish.measure_on_test(search)

    assert untested is not None
    assert (experiment.path / untested["traceback_file"]).is_file()
    assert json.loads(experiment.best_path.read_text())["metrics"]["test_accuracy"] == 0.75
    out = io.StringIO()
    print_summary(Console(file=out, width=200), search, recorder, "COMPLETED", untested)
    assert f"The best trial could not be shown: {untested['kind']}: no room" in out.getvalue()


def summary(
    experiment: Experiment, recorder: Recorder, state: str, price: float | None = None, width: int = 200, **asked: Any
) -> str:
    options = SimpleNamespace(**{**vars(PLAIN["options"]), "price_per_hour": price, **asked})
    search: Any = SimpleNamespace(experiment=experiment, **{**PLAIN, "options": options})
    out = io.StringIO()
    print_summary(Console(file=out, width=width), search, recorder, state)
    return out.getvalue()


def test_summary_shows_the_best_trial_and_where_to_look(experiment: Experiment, recorder: Recorder) -> None:
    trial = recorder.trials["a"]
    experiment.write_best(trial, trial.reports[0], {"name": "faces"})
    experiment.add_to_best({"test_accuracy": 0.24})
    text = summary(experiment, recorder, "COMPLETED")

    assert "Best: trial 0, epoch 1" in text
    for row in (("embedding_dim", "8"), ("val_accuracy", "0.25"), ("test_accuracy", "0.24")):
        assert any(all(word in line for word in row) for line in text.splitlines()), row
    assert "max_epochs" not in text
    assert f"glance-report {experiment.path}" in text
    assert f"tensorboard --logdir {experiment.tensorboard}" in text


def test_summary_shows_what_the_search_went_by(experiment: Experiment, recorder: Recorder) -> None:
    recorder.reported("a", {"epoch": 2, "val_accuracy": 0.5, "epoch_seconds": 7.25, "train_loss": 1.0})
    trial = recorder.trials["a"]
    experiment.write_best(trial, trial.reports[1], {"name": "faces"})
    text = summary(experiment, recorder, "COMPLETED", metrics=("epoch_seconds",))
    assert text.count("epoch_seconds") == 1
    assert "7.25" in text
    assert "train_loss" not in text

    text = summary(experiment, recorder, "COMPLETED", metrics=("val_accuracy", "epoch_seconds"))
    assert "7.25" in text
    assert "It is the best by val_accuracy alone; the Pareto front" in text
    assert "what others give for epoch_seconds." in text


def test_summary_shows_the_schedule_that_trained_the_best_weights(experiment: Experiment, recorder: Recorder) -> None:
    search: Any = SimpleNamespace(
        experiment=experiment,
        place=FolderPlace(),
        space=SPACE,
        options=SimpleNamespace(metrics=("val_accuracy",), mode="max", confirm=0, price_per_hour=None),
    )
    recorder.inherited("b", Inherited(source="a", epoch=1, config={"embedding_dim": 16, "max_epochs": 4}))
    recorder.reported("b", {"epoch": 2, "val_accuracy": 0.75})
    leave(experiment, "b", report=2, best=2)
    finish.keep_best(search, recorder)
    text, best = summary(experiment, recorder, "COMPLETED"), json.loads(experiment.best_path.read_text())

    assert (best["config"]["embedding_dim"], best["schedule"][1]["source"]) == (16, "a")
    assert "At first embedding_dim 8" in text
    assert "from epoch 2, on weights of a: embedding_dim 16" in text


def test_the_summary_names_programs_as_they_are_called_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "project" / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "glance-report").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python3"))
    monkeypatch.chdir(tmp_path / "project")
    assert (finish.command("glance-report"), finish.command("tensorboard")) == (
        ".venv/bin/glance-report",
        "tensorboard",
    )
    for elsewhere in (programs, tmp_path / "other"):
        elsewhere.mkdir(exist_ok=True)
        monkeypatch.chdir(elsewhere)
        assert finish.command("glance-report") == str(programs / "glance-report")
    monkeypatch.setenv("PATH", str(programs))
    assert finish.command("glance-report") == "glance-report"
    monkeypatch.setattr(sys, "executable", "/elsewhere/bin/python")
    assert finish.command("glance-report") == "glance-report"


def test_what_the_summary_says_to_call_is_not_broken_into_lines(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Experiment.create(tmp_path / ("x" * 90), "x", {"dataset": {"name": "faces"}, "algorithm": "random"})
    lines = summary(experiment, recorder, "COMPLETED", width=80).splitlines()

    assert any(line.endswith(f"glance-report {experiment.path}") for line in lines)
    assert any(line.endswith(f"--logdir {experiment.tensorboard}") for line in lines)


def test_summary_of_a_search_without_success_shows_each_cause_and_one_traceback(
    experiment: Experiment, recorder: Recorder
) -> None:
    recorder.failed("a", FAILURE)
    recorder.failed("b", {**FAILURE, "traceback": "another trial's"})
    text = summary(experiment, recorder, "COMPLETED")

    assert "No trial succeeded." in text
    assert text.count("ValueError: no tower") == 1
    assert text.count("Traceback (most ...)") == 1
    assert "another trial's" not in text


def test_summary_of_a_search_with_success_names_failures_without_their_traceback(
    experiment: Experiment, recorder: Recorder
) -> None:
    recorder.failed("b", FAILURE)
    trial = recorder.trials["a"]
    experiment.write_best(trial, trial.reports[0], {})
    text = summary(experiment, recorder, "COMPLETED")

    assert "ValueError: no tower" in text
    assert "Traceback (most ...)" not in text


def test_the_summary_says_what_the_trials_cost(experiment: Experiment, recorder: Recorder) -> None:
    recorder.trials["a"].slot_time.spent["CPU"] = 7200.0
    assert "Cost: 2.00 CPU-hours." in summary(experiment, recorder, "COMPLETED")
    text = summary(experiment, recorder, "BUDGET", price=1.5)
    assert "Cost: 2.00 CPU-hours; 3.00 in money, at 1.5 an hour." in text
    assert "The budget of hours is used up; trials that still ran were cut off." in text


def test_a_space_that_is_used_up_is_said(experiment: Experiment, recorder: Recorder) -> None:
    used_up = "Every config of the space is tried, 2 in this search: widen it for more trials."
    assert used_up in summary(experiment, recorder, "COMPLETED", trials=5)
    assert used_up not in summary(experiment, recorder, "COMPLETED", trials=2)
    assert used_up not in summary(experiment, recorder, "INTERRUPTED", trials=5)
    recorder._ledger.created("c", 2, {"embedding_dim": 8}, confirms="a")
    assert used_up in summary(experiment, recorder, "COMPLETED", trials=3)


@pytest.mark.parametrize("state", SEARCH_STATES)
def test_every_end_of_a_search_has_a_status_and_words(experiment: Experiment, recorder: Recorder, state: str) -> None:
    assert exit_status(state, True) in (0, 1, 130)
    assert "\nThe " in summary(experiment, recorder, state)
