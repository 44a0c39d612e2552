import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from search.dimensions import LogUniform
from search.ledger import LedgerWriter, read_ledger
from search.recorder import Recorder
from search.schedulers import Decision, Inheritance, RunAll
from search.searchers import RandomSearcher
from search.source import TrialSource
from search.spaces import Space
from search.tune_adapters import (
    RecordingCallback,
    SearchStopper,
    TuneScheduler,
    TuneSearcher,
    may_recover,
    slot_death,
)
from trainable.config import TrialConfig
from trainable.slot.trial_slot import PREEMPTED

SPACE = Space({"learning_rate": LogUniform(1e-4, 1e-2)})
HERE = {"node": "here", "pid": 7, "retire_reason": None}
FAILURE = {"kind": "ValueError", "message": "no", "where": "a.py:1", "traceback": "Traceback\nno"}


class Scripted(RunAll):
    """Decides as it was told to."""

    decision = Decision.CONTINUE

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        self.heard = (trial_id, epoch, value)
        return self.decision


class Bench:
    """A search under Tune without Tune: one trial at a time."""

    def __init__(self, folder: Path, place: dict[str, Any] | None = HERE) -> None:
        ledger = LedgerWriter(folder / "ledger.jsonl")
        self.ledger = folder / "ledger.jsonl"
        self.recorder = Recorder(ledger, [], retained=lambda trial: None, trials=8)
        self.scripted = Scripted()
        defaults = TrialConfig(seed=5, max_epochs=3)
        searcher = RandomSearcher(SPACE, 0)
        self.source = TrialSource(searcher, self.scripted, self.recorder, defaults, metric="val_accuracy", trials=2)
        self.searcher = TuneSearcher(self.source, metric="val_accuracy", mode="max")
        self.scheduler = TuneScheduler(self.source, "val_accuracy")
        self.callback = RecordingCallback(
            self.source, self.scheduler, self.recorder, lambda: None, locate=lambda trial: place
        )
        suggested = self.searcher.suggest("tune-a")
        assert isinstance(suggested, dict)
        self.trial: Any = SimpleNamespace(config=suggested, last_result={})
        self.callback.on_trial_start(0, [], self.trial)

    @property
    def record(self) -> Any:
        return self.recorder.trials["trial_0000"]

    def step(self, result: dict[str, Any]) -> str:
        """What Tune does with a result: it does not ask the scheduler about a trial's last one."""
        decision = "STOP" if result["done"] else self.scheduler.on_trial_result(None, self.trial, result)
        self.callback.on_trial_result(0, [], self.trial, result)
        self.trial.last_result = result
        if decision == "STOP":
            self.scheduler.on_trial_complete(None, self.trial, result)
            self.callback.on_trial_complete(0, [], self.trial)
        return decision


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def result(epoch: int, **values: Any) -> dict[str, Any]:
    """What Tune's loop gets from a slot, with some of what Tune adds."""
    report = {"epoch": epoch, "val_accuracy": epoch / 10}
    return {"report": report, **report, "done": False, "pid": 7, "time_total_s": 1.0, **values}


def test_a_suggestion_is_a_whole_config_under_an_id_of_our_own(bench: Bench) -> None:
    second = bench.searcher.suggest("tune-b")

    assert isinstance(second, dict)
    assert [bench.trial.config["trial_id"], second["trial_id"]] == ["trial_0000", "trial_0001"]
    assert TrialConfig.from_dict(second["config"]).seed == 5
    assert second["config"]["learning_rate"] != bench.trial.config["config"]["learning_rate"]
    assert bench.recorder.trials["trial_0001"].config == second["config"]
    assert bench.recorder.trials["trial_0001"].state == "PENDING"


def test_tune_waits_while_a_trial_runs_and_is_told_when_all_have_ended(bench: Bench) -> None:
    bench.searcher.suggest("tune-b")
    assert bench.searcher.suggest("tune-c") is None

    for trial_id in ("trial_0000", "trial_0001"):
        bench.source.completed(trial_id)
    assert bench.searcher.suggest("tune-c") == Searcher.FINISHED


def test_records_a_trials_life(bench: Bench) -> None:
    assert [bench.step(result(1)), bench.step(result(2)), bench.step(result(3, done=True))] == [
        "CONTINUE",
        "CONTINUE",
        "STOP",
    ]

    assert (bench.record.state, bench.record.attempts) == ("FINISHED", 1)
    assert (bench.record.node, bench.record.pid) == ("here", 7)
    assert [(report["epoch"], report["val_accuracy"]) for report in bench.record.reports] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
    ]
    assert bench.scripted.heard == ("trial_0000", 3, 0.3)  # others are compared with the last report too


def test_a_trial_that_the_scheduler_stops_was_stopped(bench: Bench) -> None:
    bench.scripted.decision = Decision.STOP

    assert bench.step(result(1)) == "STOP"
    assert bench.record.state == "STOPPED"


def test_a_trial_that_pauses_is_over_for_tune_and_waits_for_us(bench: Bench) -> None:
    bench.scripted.decision = Decision.PAUSE

    assert bench.step(result(1)) == "STOP"
    assert bench.record.state == "PAUSED"
    assert not bench.scheduler.take_paused("trial_0000")


def test_a_promoted_trial_comes_back_under_its_own_id(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.scripted.decision = Decision.PAUSE
    bench.step(result(1))
    monkeypatch.setattr(bench.scripted, "promotable", lambda: "trial_0000")

    assert bench.searcher.suggest("tune-b") == {**bench.trial.config, "epochs": 1}
    assert bench.record.state == "PENDING"


def test_a_trial_that_inherits_is_handed_out_with_its_origin_and_its_new_config(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.searcher.suggest("tune-b")
    bench.scripted.decision = Decision.PAUSE
    bench.step(result(1))
    inheritance = Inheritance(
        source="trial_0001", epoch=1, factors={"learning_rate": 1.2}, ranges={"learning_rate": (0.0, 1.0)}
    )
    monkeypatch.setattr(bench.scripted, "promotable", lambda: "trial_0000")
    monkeypatch.setattr(bench.scripted, "inherits", lambda trial_id: inheritance)
    suggested = bench.searcher.suggest("tune-c")

    assert isinstance(suggested, dict)
    assert suggested["origin"] == {"trial_id": "trial_0001", "epoch": 1}
    rate = bench.recorder.trials["trial_0001"].config["learning_rate"]
    assert suggested["config"]["learning_rate"] == pytest.approx(1.2 * rate)
    assert bench.trial.config["origin"] is None


def test_records_a_failure_that_the_slot_reported(bench: Bench) -> None:
    bench.step({"failure": FAILURE, "done": True})

    assert (bench.record.state, bench.record.reports) == ("FAILED", [])
    assert bench.record.failure["kind"] == "ValueError"
    assert not hasattr(bench.scripted, "heard")


@pytest.mark.parametrize("place", [{**HERE, "retire_reason": "a leak"}, None], ids=["retiring", "dead"])
def test_a_slot_that_hands_the_trial_on_or_died_did_not_start_it(tmp_path: Path, place: dict[str, Any] | None) -> None:
    assert Bench(tmp_path, place).record.attempts == 0


def test_records_a_slot_that_died_too_often(bench: Bench, tmp_path: Path) -> None:
    error_file = tmp_path / "error.txt"
    error_file.write_text(
        "Failure # 1 (occurred at noon)\nThe actor died once.\n"
        "Failure # 2 (occurred at one)\nThe actor died unexpectedly: killed by signal 9.\n"
    )
    bench.trial.error_file = str(error_file)
    bench.callback.on_trial_error(0, [], bench.trial)

    assert bench.record.state == "FAILED"
    assert bench.record.failure["kind"] == "SlotDied"
    assert bench.record.failure["message"] == "The actor died unexpectedly: killed by signal 9."


def test_a_slot_that_died_without_a_word_still_has_a_message() -> None:
    assert "does not say why" in slot_death(SimpleNamespace(error_file=None))["message"]


def test_a_slot_that_was_killed_for_memory_ran_out_of_memory(tmp_path: Path) -> None:
    error_file = tmp_path / "error.txt"
    error_file.write_text("Failure # 1 (occurred at noon)\nOutOfMemoryError: Task was killed.\n")
    failure = slot_death(SimpleNamespace(error_file=str(error_file)))

    assert (failure["kind"], failure["message"]) == ("OutOfMemoryError", "OutOfMemoryError: Task was killed.")


def test_lost_workers_are_named_by_their_own_sentence(tmp_path: Path) -> None:
    error_file = tmp_path / "error.txt"
    error_file.write_text(
        "Failure # 1 (occurred at noon)\nray::TrialSlot.train()\n  File ...\n"
        "trainable.slot.runner.WorkersLostError: workers died (worker 1: killed)\n"
    )
    failure = slot_death(SimpleNamespace(error_file=str(error_file)))

    assert (failure["kind"], failure["message"]) == ("WorkersLostError", "workers died (worker 1: killed)")


@pytest.mark.parametrize(("reason", "recorded"), [("The actor died", True), ("the slot retired: a leak", False)])
def test_an_attempt_whose_processes_died_is_recorded_and_a_retirement_is_not(
    bench: Bench, tmp_path: Path, reason: str, recorded: bool
) -> None:
    error_file = tmp_path / "error.txt"
    error_file.write_text(f"Failure # 1 (occurred at noon)\n{reason}\n")
    bench.trial.error_file = str(error_file)
    bench.callback.on_trial_recover(0, [], bench.trial)

    retries = [event for event in read_ledger(bench.ledger) if event["event"] == "retried"]
    assert [(event["attempt"], event["failure"]["message"]) for event in retries] == [(1, reason)] * recorded
    assert bench.trial.config["epochs"] == (0 if recorded else None)  # what its next slot is told


def lose(bench: Bench, folder: Path, how: str, max_failures: int = 0) -> bool:
    """What Tune does when a slot was lost; says whether it starts the trial again."""
    error_file = folder / "error.txt"
    error_file.write_text(f"Failure # 1 (occurred at noon)\n{how}\n")
    bench.trial.error_file = str(error_file)
    if not may_recover(bench.trial, bench.recorder, max_failures):
        return False
    bench.callback.on_trial_recover(0, [], bench.trial)
    bench.callback.on_trial_start(0, [], bench.trial)
    return True


def test_a_checkpoint_within_an_epoch_is_progress_and_what_the_next_slot_is_told(bench: Bench, tmp_path: Path) -> None:
    assert bench.step({"saved": 0.5, "done": False}) == "CONTINUE"
    preempted = (
        f"ray::TrialSlot.train()\n  File ...\ntrainable.slot.trial_slot.SlotPreempted: {PREEMPTED}: AWS takes it"
    )

    assert lose(bench, tmp_path, preempted)
    assert bench.trial.config["epochs"] == 0.5
    (retried,) = [event for event in read_ledger(bench.ledger) if event["event"] == "retried"]
    assert (retried["failure"]["kind"], retried["failure"]["message"]) == ("Preempted", "AWS takes it")
    assert retried["without_progress"] == 0
    assert not lose(bench, tmp_path, preempted)
    assert lose(bench, tmp_path, "the slot retired: a leak")


def test_the_stopper_ends_the_search_and_never_a_single_trial(bench: Bench) -> None:
    stopper = SearchStopper(bench.recorder)
    assert not stopper.stop_all()

    bench.recorder.interrupt()
    assert stopper.stop_all()
    assert not stopper("tune-a", {})


def test_tune_can_pickle_what_it_is_given(bench: Bench) -> None:
    for part in (bench.searcher, bench.scheduler, bench.callback, SearchStopper(bench.recorder)):
        pickle.dumps(part)


def test_tune_is_given_a_file_when_it_saves_the_searcher(bench: Bench, tmp_path: Path) -> None:
    bench.searcher.save_to_dir(str(tmp_path), "session")

    assert [file.stat().st_size for file in tmp_path.iterdir() if "searcher" in file.name] == [0]
