import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.dimensions import LogUniform
from search.ledger import LedgerWriter, read_ledger
from search.recorder import Recorder
from search.searchers import RandomSearcher
from search.spaces import Space
from search.tune_adapters import RecordingCallback, SearchStopper, TrialSource, slot_death
from trainable.config import TrialConfig

SPACE = Space({"learning_rate": LogUniform(1e-4, 1e-2)})
HERE = {"node": "here", "pid": 7, "retire_reason": None}
FAILURE = {"kind": "ValueError", "message": "no", "where": "a.py:1", "traceback": "Traceback\nno"}


class Spy(RandomSearcher):
    """A searcher that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(SPACE, 0)
        self.told: list[tuple[Any, ...]] = []

    def on_report(self, trial_id: str, epoch: int, value: float) -> None:
        self.told.append(("report", trial_id, epoch, value))

    def on_end(self, trial_id: str, value: float | None) -> None:
        self.told.append(("end", trial_id, value))


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(LedgerWriter(tmp_path / "ledger.jsonl"), [], retained=lambda trial: None, trials=8, max_epochs=3)


@pytest.fixture
def spy() -> Spy:
    return Spy()


@pytest.fixture
def source(spy: Spy, recorder: Recorder) -> TrialSource:
    return TrialSource(spy, recorder, TrialConfig(seed=5), metric="val_accuracy", mode="max")


def tune_trial(config: dict[str, Any], **values: Any) -> Any:
    return SimpleNamespace(config=config, **values)


def result(epoch: int, **values: Any) -> dict[str, Any]:
    """What Tune's loop gets from a slot, with some of what Tune adds."""
    report = {"epoch": epoch, "val_accuracy": epoch / 10}
    return {"report": report, **report, "done": False, "pid": 7, "time_total_s": 1.0, **values}


def test_a_suggestion_is_a_whole_config_under_an_id_of_our_own(source: TrialSource, recorder: Recorder) -> None:
    first, second = source.suggest("tune-a"), source.suggest("tune-b")

    assert [first["trial_id"], second["trial_id"]] == ["trial_0000", "trial_0001"]
    assert TrialConfig.from_dict(first["config"]).seed == 5
    assert first["config"]["learning_rate"] != second["config"]["learning_rate"]
    assert recorder.trials["trial_0001"].config == second["config"]
    assert recorder.trials["trial_0001"].state == "PENDING"


def test_the_searcher_hears_of_reports_and_ends_under_our_ids(source: TrialSource, spy: Spy) -> None:
    source.suggest("tune-a")
    source.on_trial_result("tune-a", result(1))
    source.on_trial_complete("tune-a", result(2))

    assert spy.told == [("report", "trial_0000", 1, 0.1), ("end", "trial_0000", 0.2)]


@pytest.mark.parametrize(
    ("last", "error"),
    [({"failure/kind": "DivergedError", "done": True}, False), (None, True), (None, False), (result(3), True)],
)
def test_a_failed_trial_is_told_as_failed(
    source: TrialSource, spy: Spy, last: dict[str, Any] | None, error: bool
) -> None:
    source.suggest("tune-a")
    source.on_trial_complete("tune-a", last, error=error)

    assert spy.told == [("end", "trial_0000", None)]


def started(recorder: Recorder, source: TrialSource, place: dict[str, Any] | None = HERE) -> tuple[Any, Any]:
    callback = RecordingCallback(recorder, lambda: None, locate=lambda trial: place)
    trial = tune_trial(source.suggest("tune-a"))
    callback.on_trial_start(0, [], trial)
    return callback, trial


def test_records_a_trials_life(recorder: Recorder, source: TrialSource) -> None:
    callback, trial = started(recorder, source)
    callback.on_trial_result(0, [], trial, result(1))
    trial.last_result = result(1, done=True)
    callback.on_trial_complete(0, [], trial)
    record = recorder.trials["trial_0000"]

    assert (record.state, record.attempts, record.node, record.pid) == ("STOPPED", 1, "here", 7)
    assert [{key: report[key] for key in report if key != "time"} for report in record.reports] == [
        {"epoch": 1, "val_accuracy": 0.1}
    ]


def test_records_a_failure_that_the_slot_reported(recorder: Recorder, source: TrialSource) -> None:
    callback, trial = started(recorder, source)
    failed = {"failure": FAILURE, "done": True}
    callback.on_trial_result(0, [], trial, failed)
    trial.last_result = failed
    callback.on_trial_complete(0, [], trial)
    record = recorder.trials["trial_0000"]

    assert (record.state, record.reports) == ("FAILED", [])
    assert record.failure is not None
    assert record.failure["kind"] == "ValueError"


@pytest.mark.parametrize("place", [{**HERE, "retire_reason": "a leak"}, None], ids=["retiring", "dead"])
def test_a_slot_that_hands_the_trial_on_or_died_did_not_start_it(
    recorder: Recorder, source: TrialSource, place: dict[str, Any] | None
) -> None:
    started(recorder, source, place)

    assert recorder.trials["trial_0000"].attempts == 0


def test_records_a_slot_that_died_too_often(recorder: Recorder, source: TrialSource, tmp_path: Path) -> None:
    callback, trial = started(recorder, source)
    error_file = tmp_path / "error.txt"
    error_file.write_text(
        "Failure # 1 (occurred at noon)\nThe actor died once.\n"
        "Failure # 2 (occurred at one)\nThe actor died unexpectedly: killed by signal 9.\n"
    )
    trial.error_file = str(error_file)
    callback.on_trial_error(0, [], trial)
    record = recorder.trials["trial_0000"]

    assert record.state == "FAILED"
    assert record.failure is not None
    assert record.failure["kind"] == "SlotDied"
    assert record.failure["message"] == "The actor died unexpectedly: killed by signal 9."


def test_a_slot_that_died_without_a_word_still_has_a_message() -> None:
    assert "does not say why" in slot_death(tune_trial({}, error_file=None))["message"]


def test_a_slot_that_was_killed_for_memory_ran_out_of_memory(tmp_path: Path) -> None:
    error_file = tmp_path / "error.txt"
    error_file.write_text("Failure # 1 (occurred at noon)\nOutOfMemoryError: Task was killed.\n")
    failure = slot_death(tune_trial({}, error_file=str(error_file)))

    assert (failure["kind"], failure["message"]) == ("OutOfMemoryError", "OutOfMemoryError: Task was killed.")


def test_lost_workers_are_named_by_their_own_sentence(tmp_path: Path) -> None:
    error_file = tmp_path / "error.txt"
    error_file.write_text(
        "Failure # 1 (occurred at noon)\nray::TrialSlot.train()\n  File ...\n"
        "trainable.slot.runner.WorkersLostError: workers died (worker 1: killed)\n"
    )
    failure = slot_death(tune_trial({}, error_file=str(error_file)))

    assert (failure["kind"], failure["message"]) == ("WorkersLostError", "workers died (worker 1: killed)")


@pytest.mark.parametrize(("reason", "recorded"), [("The actor died", True), ("the slot retired: a leak", False)])
def test_an_attempt_whose_processes_died_is_recorded_and_a_retirement_is_not(
    recorder: Recorder, tmp_path: Path, reason: str, recorded: bool
) -> None:
    error_file = tmp_path / "error.txt"
    error_file.write_text(f"Failure # 1 (occurred at noon)\n{reason}\n")
    recorder.created("a", 0, {})
    recorder.started("a", node="here", pid=7)
    callback = RecordingCallback(recorder, lambda: None)
    callback.on_trial_recover(0, [], tune_trial({"trial_id": "a"}, error_file=str(error_file)))

    retries = [event for event in read_ledger(tmp_path / "ledger.jsonl") if event["event"] == "retried"]
    assert [(event["attempt"], event["failure"]["message"]) for event in retries] == [(1, reason)] * recorded


def test_the_stopper_ends_the_search_and_never_a_single_trial(recorder: Recorder) -> None:
    stopper = SearchStopper(recorder)
    assert not stopper.stop_all()

    recorder.interrupt()
    assert stopper.stop_all()
    assert not stopper("tune-a", {})


def test_tune_can_pickle_what_it_is_given(recorder: Recorder, source: TrialSource) -> None:
    for part in (source, RecordingCallback(recorder, lambda: None), SearchStopper(recorder)):
        pickle.dumps(part)


def test_tune_is_given_a_file_when_it_saves_the_source(source: TrialSource, tmp_path: Path) -> None:
    source.save_to_dir(str(tmp_path), "session")

    assert [file.stat().st_size for file in tmp_path.iterdir() if "searcher" in file.name] == [0]
