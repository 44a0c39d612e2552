import dataclasses
import gc
import json
import math
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainable.errors import DivergedError
from trainable.slot.failure import Failure, WorkerError
from trainable.slot.runner import WorkersLostError
from trainable.slot.slot import Slot, SlotOptions


@pytest.fixture
def options(tmp_path: Path) -> SlotOptions:
    return SlotOptions(store="unused", checkpoints=str(tmp_path), metric="val_accuracy", mode="max")


@pytest.fixture
def runner(make_runner: Callable[[], Any]) -> Any:
    return make_runner()


@pytest.fixture
def slot(options: SlotOptions, runner: Any) -> Slot:
    return Slot(options, runner)


def config(*curve: Any) -> dict[str, Any]:
    return {"max_epochs": len(curve), "curve": list(curve)}


def run(slot: Slot, trial_id: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    slot.begin(trial_id, config)
    outcomes = [slot.step()]
    while not outcomes[-1]["done"]:
        outcomes.append(slot.step())
    return outcomes


def accuracies(outcomes: list[dict[str, Any]]) -> list[float]:
    return [outcome["report"]["val_accuracy"] for outcome in outcomes]


def test_reports_every_epoch_and_is_done_at_the_last(slot: Slot) -> None:
    outcomes = run(slot, "a", config(0.1, 0.2, 0.3))

    assert accuracies(outcomes) == [0.1, 0.2, 0.3]
    assert [outcome["done"] for outcome in outcomes] == [False, False, True]


def test_taking_a_trial_starts_nothing_before_its_first_step(slot: Slot, runner: Any) -> None:
    slot.begin("a", config(0.1))

    assert runner.calls == []


@pytest.mark.parametrize(
    "broken",
    [
        {"max_epochs": 2, "curve": [], "start_error": ValueError("no such tower")},
        config(0.1, ValueError("no such tower")),
    ],
    ids=["start", "epoch"],
)
def test_an_exception_ends_its_trial_and_the_slot_runs_the_next(slot: Slot, broken: dict[str, Any]) -> None:
    *_, last = run(slot, "a", broken)

    assert last["done"]
    assert last["failure"]["kind"] == "ValueError"
    assert last["failure"]["message"] == "no such tower"
    assert slot.retire_reason is None
    assert accuracies(run(slot, "b", config(0.5))) == [0.5]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_is_a_failure(slot: Slot, value: float) -> None:
    *_, last = run(slot, "a", config(0.1, value, 0.3))

    assert last["failure"]["kind"] == "DivergedError"
    assert "epoch 2" in last["failure"]["message"]


def test_a_missing_metric_is_a_failure_that_names_what_there_is(tmp_path: Path, runner: Any) -> None:
    slot = Slot(SlotOptions(store="", checkpoints=str(tmp_path), metric="val_loss", mode="min"), runner)
    (outcome,) = run(slot, "a", config(0.1))

    assert "'val_loss'" in outcome["failure"]["message"]
    assert "val_accuracy" in outcome["failure"]["message"]


def test_a_failed_trial_is_released(slot: Slot, runner: Any) -> None:
    run(slot, "a", config(DivergedError("nan")))

    assert runner.calls[-1] == "stop"


def test_nothing_of_a_failed_trial_is_held_when_its_memory_is_measured(options: SlotOptions, runner: Any) -> None:
    class Weights:
        """Something that only the frames of the failing call hold."""

    alive: list[weakref.ref[Weights]] = []

    def run_epoch() -> dict[str, Any]:
        weights = Weights()
        alive.append(weakref.ref(weights))
        try:
            raise ValueError("first")
        except ValueError as error:
            raise RuntimeError("second") from error

    runner.run_epoch = run_epoch
    held: list[bool] = []

    def stop() -> None:
        gc.collect()
        held.append(alive[0]() is not None)

    runner.stop = stop
    run(Slot(options, runner), "a", config(0.1))

    assert held == [False]


def test_a_trial_that_the_scheduler_stopped_is_released_when_the_next_begins(slot: Slot, runner: Any) -> None:
    slot.begin("a", config(0.1, 0.2))
    slot.step()
    slot.begin("b", config(0.3))

    assert runner.calls[-1] == "stop"
    assert accuracies(run(slot, "b", config(0.3))) == [0.3]


def test_goes_on_from_the_last_checkpoint_and_sends_its_report_again(
    options: SlotOptions, make_runner: Callable[[], Any]
) -> None:
    dying = Slot(options, make_runner())
    dying.begin("a", config(0.1, 0.2, 0.3))
    dying.step()
    dying.step()

    outcomes = run(Slot(options, make_runner()), "a", config(0.1, 0.2, 0.3))

    assert [outcome["report"]["epoch"] for outcome in outcomes] == [2, 3]
    assert accuracies(outcomes) == [0.2, 0.3]


def test_runs_the_epoch_again_when_its_report_was_written_but_not_its_checkpoint(
    options: SlotOptions, make_runner: Callable[[], Any], tmp_path: Path
) -> None:
    dying = Slot(options, make_runner())
    dying.begin("a", config(0.1, 0.2, 0.3))
    dying.step()
    (tmp_path / "a" / "report.json").write_text(json.dumps({"epoch": 2, "val_accuracy": 0.2}))

    outcomes = run(Slot(options, make_runner()), "a", config(0.1, 0.2, 0.3))

    assert [outcome["report"]["epoch"] for outcome in outcomes] == [2, 3]


def test_a_trial_that_died_at_its_last_epoch_only_reports_it(
    options: SlotOptions, make_runner: Callable[[], Any]
) -> None:
    run(Slot(options, make_runner()), "a", config(0.1, 0.2))
    again = make_runner()
    outcomes = run(Slot(options, again), "a", config(0.1, 0.2))

    assert [(outcome["report"]["epoch"], outcome["done"]) for outcome in outcomes] == [(2, True)]
    assert "run_epoch" not in again.calls


@pytest.mark.parametrize(("mode", "best"), [("max", "0.4"), ("min", "0.1")])
def test_best_holds_the_first_epoch_with_the_best_metric(
    tmp_path: Path, make_runner: Callable[[], Any], mode: str, best: str
) -> None:
    options = SlotOptions(store="", checkpoints=str(tmp_path), metric="val_accuracy", mode=mode)
    run(Slot(options, make_runner()), "a", config(0.2, 0.4, 0.1, 0.4, 0.1))

    assert (tmp_path / "a" / "best" / "value").read_text() == best
    epoch = {"max": 2, "min": 3}[mode]
    assert json.loads((tmp_path / "a" / "best.json").read_text()) == {"epoch": epoch, "val_accuracy": float(best)}


def test_best_is_made_up_for_where_the_process_died_before_writing_it(
    options: SlotOptions, make_runner: Callable[[], Any], tmp_path: Path
) -> None:
    dying = Slot(options, make_runner())
    dying.begin("a", config(0.1, 0.9, 0.3))
    dying.step()
    first = (tmp_path / "a" / "best.json").read_text()
    dying.step()
    (tmp_path / "a" / "best.json").write_text(first)

    run(Slot(options, make_runner()), "a", config(0.1, 0.9, 0.3))

    assert (tmp_path / "a" / "best" / "value").read_text() == "0.9"
    assert json.loads((tmp_path / "a" / "best.json").read_text())["epoch"] == 2


def test_a_cuda_error_retires_the_slot(slot: Slot) -> None:
    run(slot, "a", config(RuntimeError("CUDA error: device-side assert triggered\nmore")))

    assert slot.retire_reason == "a CUDA error: CUDA error: device-side assert triggered"


def test_running_out_of_memory_does_not_retire_the_slot(slot: Slot) -> None:
    (outcome,) = run(slot, "a", config(MemoryError("tried to allocate 9 GiB")) | {"batch_size": 64})

    assert outcome["failure"]["kind"] == "OutOfMemoryError"
    assert "tried to allocate 9 GiB [batch_size=64, workers=1: lower batch_size" in outcome["failure"]["message"]
    assert slot.retire_reason is None


def test_a_leak_retires_the_slot_after_the_trial_that_leaked(slot: Slot, runner: Any) -> None:
    runner.leaks = iter([None, None, "the process holds 1900 MiB more"])
    reasons = []
    for trial_id in ("a", "b", "c"):
        run(slot, trial_id, config(0.1))
        reasons.append(slot.retire_reason)

    assert reasons == [None, None, "the process holds 1900 MiB more"]


def test_a_slot_that_cannot_release_its_memory_retires_and_takes_the_next_trial_from_tune(
    slot: Slot, runner: Any
) -> None:
    def stop() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    runner.stop = stop
    run(slot, "a", config(0.1))
    slot.begin("b", config(0.1))

    assert slot.retire_reason == "its memory could not be released: CUDA error: unspecified launch failure"


def test_lost_workers_are_raised_after_the_trial_was_released(slot: Slot, runner: Any) -> None:
    slot.begin("a", config(0.1, WorkersLostError("worker 1 died")))
    slot.step()

    with pytest.raises(WorkersLostError, match="worker 1 died"):
        slot.step()
    assert runner.calls[-1] == "stop"
    assert accuracies(run(slot, "a", config(0.1, 0.2))) == [0.1, 0.2]


def test_a_worker_failure_is_told_as_the_worker_told_it(slot: Slot) -> None:
    failure = Failure(kind="RuntimeError", message="no", where="trainable/a.py:1", traceback="over there")
    error = WorkerError(failure, user_error=False, device_broken=True)
    (outcome,) = run(slot, "a", config(error))

    assert outcome["failure"] == failure
    assert slot.retire_reason == "a CUDA error: no"


def test_relative_paths_of_a_config_are_relative_to_the_working_folder(
    tmp_path: Path, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    options = SlotOptions(
        store="", checkpoints=str(tmp_path), metric="val_accuracy", mode="max", working_folder=str(tmp_path)
    )
    run(Slot(options, runner), "a", config(0.1))

    assert Path.cwd() == tmp_path


def test_a_node_without_the_working_folder_runs_trials_all_the_same(tmp_path: Path, runner: Any) -> None:
    options = SlotOptions(
        store="", checkpoints=str(tmp_path), metric="val_accuracy", mode="max", working_folder=str(tmp_path / "none")
    )

    assert accuracies(run(Slot(options, runner), "a", config(0.1))) == [0.1]


def test_describes_its_process(slot: Slot) -> None:
    assert slot.describe()["pid"] == os.getpid()


def test_a_slot_that_closes_stops_its_trial_once(slot: Slot, runner: Any) -> None:
    slot.begin("a", config(0.5, 0.5))
    slot.step()
    slot.close()
    assert runner.calls[-2:] == ["stop", "close"]
    assert runner.calls.count("stop") == 1


def saved(outcomes: list[dict[str, Any]]) -> list[float]:
    return [outcome["saved"] if "saved" in outcome else outcome["report"]["epoch"] for outcome in outcomes]


def test_an_epoch_that_takes_long_is_saved_within(slot: Slot, runner: Any, tmp_path: Path) -> None:
    runner.parts = 3
    slot.begin("a", config(0.1, 0.2))
    outcomes = [slot.step(), slot.step()]

    assert saved(outcomes) == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert not any(outcome["done"] for outcome in outcomes)
    assert float((tmp_path / "a" / "last" / "epoch").read_text()) == pytest.approx(2 / 3)
    assert slot.running
    assert saved([slot.step(), slot.step()]) == [1, pytest.approx(4 / 3)]


def test_goes_on_within_an_epoch_and_leaves_what_was_made_of_the_last_one_alone(
    options: SlotOptions, make_runner: Callable[[], Any], tmp_path: Path
) -> None:
    options = dataclasses.replace(options, population=str(tmp_path / "population"), keep_every=1)
    dying, again = make_runner(), make_runner()
    dying.parts = again.parts = 2
    slot = Slot(options, dying)
    slot.begin("a", config(0.9, 0.2, 0.3))
    outcomes = [slot.step() for _ in range(3)]
    kept = (tmp_path / "population" / "a" / "1" / "epoch").read_text()
    outcomes = run(Slot(options, again), "a", config(0.9, 0.2, 0.3))

    assert saved(outcomes) == [1, 2, 2.5, 3]
    assert again.calls.count("run_epoch") == 3
    assert (tmp_path / "population" / "a" / "1" / "epoch").read_text() == kept == "1"
    assert (tmp_path / "a" / "best" / "value").read_text() == "0.9"


def test_a_notice_is_heard_of_after_the_checkpoint_and_retires_the_slot(
    slot: Slot, runner: Any, tmp_path: Path
) -> None:
    runner.parts, runner.notices = 2, iter(["AWS will terminate its instance"])
    slot.begin("a", config(0.1))

    assert saved([slot.step()]) == [0.5]
    assert (tmp_path / "a" / "last" / "epoch").read_text() == "0.5"
    assert slot.retire_reason == "AWS will terminate its instance"
    slot.close()
    assert runner.calls[-2:] == ["stop", "close"]
