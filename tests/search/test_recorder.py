import json
from pathlib import Path
from typing import Any

import pytest

from search.ledger import LedgerWriter
from search.recorder import Expendable, Recorder
from search.slot_time import Slot
from search.trials import Report, TrialRecord


class Listening:
    """Keeps what it is told, and what the ledger file held then."""

    def __init__(self, ledger: Path) -> None:
        self.events: list[tuple[str, str]] = []
        self.lines: list[int] = []
        self._ledger = ledger

    def _note(self, event: str, trial: TrialRecord) -> None:
        self.events.append((event, trial.trial_id))
        self.lines.append(len(self._ledger.read_text().splitlines()))

    def started(self, trial: TrialRecord) -> None:
        self._note("started", trial)

    def reported(self, trial: TrialRecord, report: Report) -> None:
        self._note(f"reported {report['epoch']}", trial)

    def paused(self, trial: TrialRecord) -> None:
        self._note("paused", trial)

    def ended(self, trial: TrialRecord) -> None:
        self._note("ended", trial)


class Bench:
    """A recorder with a listener, a clock to turn, and trials to run by hand."""

    def __init__(
        self,
        folder: Path,
        trials: int = 40,
        max_epochs: int = 3,
        time_budget: float | None = None,
        budget_hours: float | None = None,
    ) -> None:
        self.path = folder / "ledger.jsonl"
        self.listening = Listening(self.path)
        self.now = 0.0
        self.config = {"learning_rate": 0.1, "max_epochs": max_epochs}
        self.recorder = Recorder(
            LedgerWriter(self.path, clock=lambda: self.now),
            [self.listening],
            retained=lambda trial: self.listening._note("retained", trial),
            trials=trials,
            time_budget_seconds=time_budget,
            budget_hours=budget_hours,
            clock=lambda: self.now,
        )

    def start(self, *trial_ids: str) -> None:
        for trial_id in trial_ids:
            self.recorder.created(trial_id, len(self.recorder.trials), self.config)
            self.recorder.started(trial_id, node="here", pid=1)

    def report(self, trial_id: str, epoch: int) -> None:
        self.recorder.reported(trial_id, {"epoch": epoch, "val_accuracy": 0.5})

    def fail(self, trial_id: str, kind: str = "ValueError", where: str = "a.py:1") -> None:
        self.recorder.failed(trial_id, {"kind": kind, "message": "no", "where": where, "traceback": "Traceback\nno"})

    def lose(self, trial_id: str) -> bool:
        """Whether a trial that is lost now may go on, which then is recorded."""
        if not self.recorder.may_go_on(trial_id, 1):
            return False
        failure = {"kind": "SlotDied", "message": "gone", "where": "there", "traceback": "Traceback"}
        self.recorder.retried(trial_id, failure)
        self.recorder.started(trial_id, node="there", pid=2)
        return True

    def ledger(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_ledger_is_told_first_and_checkpoints_go_last(bench: Bench) -> None:
    bench.start("a")
    bench.report("a", 1)
    bench.recorder.completed("a")

    assert bench.listening.events == [("started", "a"), ("reported 1", "a"), ("ended", "a"), ("retained", "a")]
    assert bench.listening.lines == [2, 3, 4, 4]


def test_a_trial_at_its_last_epoch_finished_and_one_before_it_was_stopped(bench: Bench) -> None:
    bench.start("a", "b")
    for epoch in (1, 2, 3):
        bench.report("a", epoch)
    bench.report("b", 1)
    bench.recorder.completed("a")
    bench.recorder.completed("b")

    assert [bench.recorder.trials[trial_id].state for trial_id in "ab"] == ["FINISHED", "STOPPED"]


def test_a_report_known_from_before_a_restart_is_recorded_once(bench: Bench) -> None:
    bench.start("a")
    for epoch in (1, 2, 2, 3):
        bench.report("a", epoch)

    assert [line["epoch"] for line in bench.ledger() if line["event"] == "report"] == [1, 2, 3]
    assert [event for event, _ in bench.listening.events[1:]] == ["reported 1", "reported 2", "reported 3"]


def test_a_second_start_is_a_second_attempt(bench: Bench) -> None:
    bench.start("a")
    bench.recorder.started("a", node="there", pid=2)

    assert [(line["attempt"], line["pid"]) for line in bench.ledger()[1:]] == [(1, 1), (2, 2)]


def test_a_failure_is_recorded_with_its_traceback_on_file(bench: Bench, tmp_path: Path) -> None:
    bench.start("a")
    bench.fail("a")
    failure = bench.ledger()[-1]["failure"]

    assert (failure["kind"], failure["message"], failure["where"]) == ("ValueError", "no", "a.py:1")
    assert (tmp_path / failure["traceback_file"]).read_text() == "Traceback\nno\n"


def test_first_trials_that_all_fail_alike_abort_the_search(bench: Bench) -> None:
    bench.start("a", "b", "c")
    bench.fail("a")
    bench.fail("b")
    assert bench.recorder.stop_state is None

    bench.fail("c")
    assert bench.recorder.stop_state == "ABORTED"
    assert bench.recorder.abort_cause is not None
    assert len(bench.recorder.abort_cause.trials) == 3


def test_a_search_of_two_trials_needs_two_alike_failures(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=2)
    bench.start("a", "b")
    bench.fail("a")
    bench.fail("b")

    assert bench.recorder.stop_state == "ABORTED"


def test_failures_of_different_causes_do_not_abort(bench: Bench) -> None:
    bench.start("a", "b", "c")
    bench.fail("a", where="a.py:1")
    bench.fail("b", where="b.py:2")
    bench.fail("c", where="a.py:1")

    assert bench.recorder.stop_state is None


def test_a_trial_that_came_further_than_the_failed_ones_keeps_the_search_going(bench: Bench) -> None:
    bench.start("good", "a", "b", "c")
    bench.report("good", 1)
    for trial_id in "abc":
        bench.fail(trial_id)

    assert bench.recorder.stop_state is None


def test_a_running_trial_that_came_no_further_does_not(bench: Bench) -> None:
    bench.start("running", "a", "b", "c")
    for trial_id in ("running", "a", "b", "c"):
        bench.report(trial_id, 1)
    for trial_id in "abc":
        bench.fail(trial_id)

    assert bench.recorder.stop_state == "ABORTED"


def test_three_diverged_trials_say_nothing_about_the_next(bench: Bench) -> None:
    bench.start("a", "b", "c")
    for trial_id in "abc":
        bench.fail(trial_id, kind="DivergedError")

    assert bench.recorder.stop_state is None


def test_the_time_budget_stops_the_search(tmp_path: Path) -> None:
    bench = Bench(tmp_path, time_budget=60.0)
    bench.now = 59.9
    assert bench.recorder.stop_state is None

    bench.now = 60.0
    assert bench.recorder.stop_state == "TIME_BUDGET"


def test_the_budget_of_hours_stops_the_search_and_counts_trials_that_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, budget_hours=1.0)
    bench.start("a", "b")
    bench.now = 1000.0
    bench.recorder.completed("a")
    bench.now = 2599.0
    assert bench.recorder.stop_state is None

    bench.now = 2600.0
    assert bench.recorder.stop_state == "BUDGET"
    bench.recorder.interrupt()
    assert bench.recorder.stop_state == "BUDGET"


def test_the_budget_of_hours_counts_earlier_runs_and_no_time_between_them(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger.jsonl", clock=lambda: -9000.0) as before:
        before.search_started(Slot("GPU", 1.0))
        before.created("a", 0, {"max_epochs": 3})
        before.started("a", attempt=1, node="here", pid=1)
        before._clock = lambda: -6000.0
        before.report("a", {"epoch": 1, "val_accuracy": 0.5})
    bench = Bench(tmp_path, budget_hours=1.0)
    bench.recorder._ledger.search_started(Slot("GPU", 4.0))
    assert bench.recorder.stop_state is None

    bench.recorder.started("a", node="here", pid=2)
    bench.now = 149.0
    assert bench.recorder.stop_state is None
    bench.now = 150.0
    assert bench.recorder.stop_state == "BUDGET"


def test_the_first_reason_to_stop_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path, time_budget=60.0)
    bench.recorder.interrupt()
    bench.now = 61.0

    assert bench.recorder.stop_state == "INTERRUPTED"


def test_ctrl_c_after_the_time_budget_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, time_budget=60.0)
    bench.now = 61.0
    assert bench.recorder.stop_state == "TIME_BUDGET"

    bench.recorder.interrupt()
    assert bench.recorder.stop_state == "TIME_BUDGET"


class Fragile(Listening):
    """A listener that holds once, then breaks."""

    closed = False

    def reported(self, trial: TrialRecord, report: Report) -> None:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        self.closed = True


def test_an_expendable_listener_that_breaks_is_told_nothing_more(bench: Bench) -> None:
    fragile = Fragile(bench.path)
    warnings: list[str] = []
    with Expendable("event files", lambda: fragile, warnings.append) as expendable:
        bench.recorder._listeners.append(expendable)
        bench.start("a")
        bench.report("a", 1)
        bench.report("a", 2)
        bench.recorder.completed("a")

    assert fragile.events == [("started", "a")]
    (warning,) = warnings
    assert warning.startswith("warning: event files stop here, and the search goes on: OSError: ")
    assert bench.recorder.trials["a"].epochs == 2


def test_an_expendable_listener_is_closed_and_may_even_fail_to_come_about(bench: Bench) -> None:
    def broken() -> Fragile:
        raise OSError(13, "Permission denied")

    fragile = Fragile(bench.path)
    warnings: list[str] = []
    with Expendable("event files", lambda: fragile, warnings.append):
        pass
    assert (fragile.closed, warnings) == (True, [])
    with Expendable("event files", broken, warnings.append) as expendable:
        bench.recorder._listeners.append(expendable)
        bench.start("a")
    assert len(warnings) == 1


def test_losses_without_progress_end_a_trial_and_a_checkpoint_within_an_epoch_is_progress(bench: Bench) -> None:
    bench.start("a")
    assert bench.lose("a")
    bench.recorder.saved("a", 0.25)
    assert bench.lose("a")
    assert bench.lose("a")
    assert not bench.lose("a")
    assert [event["without_progress"] for event in bench.ledger() if event["event"] == "retried"] == [1, 0, 1]
