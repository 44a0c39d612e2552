import threading
from collections.abc import Callable
from typing import Any

import pytest

from search.aside import Aside
from search.trials import Report, TrialRecord


class Slow:
    """Takes what it is told only once `may_go_on` is set."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.told: list[tuple[Any, ...]] = []

    def started(self, trial: TrialRecord) -> None:
        self.may_go_on.wait(60)
        self.told.append(("started", trial.state, trial.epochs))

    def reported(self, trial: TrialRecord, report: Report) -> None:
        self.told.append(("reported", report["epoch"], trial.epochs))

    def paused(self, trial: TrialRecord) -> None:
        self.told.append(("paused", trial.state))

    def ended(self, trial: TrialRecord) -> None:
        self.told.append(("ended", trial.state))

    def close(self) -> None:
        self.told.append(("closed",))


def test_a_slow_listener_keeps_nobody_waiting_and_learns_what_was_then(make_trial: Callable[..., TrialRecord]) -> None:
    slow, warnings = Slow(), list[str]()
    trial = make_trial(0, "RUNNING", (0.1,))
    with Aside("it", lambda: slow, warnings.append) as aside:
        aside.started(trial)
        trial.reports.append({"epoch": 2, "time": 1.0})
        aside.reported(trial, trial.reports[-1])
        trial.state = "PAUSED"
        aside.paused(trial)
        trial.state = "FINISHED"
        aside.ended(trial)
        assert slow.told == []
        slow.may_go_on.set()

    ends = [("paused", "PAUSED"), ("ended", "FINISHED"), ("closed",)]
    assert slow.told == [("started", "RUNNING", 1), ("reported", 2, 2), *ends]
    assert warnings == []


def test_the_end_does_not_wait_for_ever(make_trial: Callable[..., TrialRecord]) -> None:
    slow, warnings = Slow(), list[str]()
    with Aside("it", lambda: slow, warnings.append, patience_seconds=0.01) as aside:
        aside.started(make_trial(0, "RUNNING"))
    assert warnings == ["warning: it lack the end of the search: 0.01 s were too few"]
    slow.may_go_on.set()


@pytest.mark.parametrize("where", ["build", "started"])
def test_an_error_is_said_once_and_what_follows_is_passed_over(
    where: str, make_trial: Callable[..., TrialRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, warnings = Slow(), list[str]()

    def fail(*_: object) -> Slow:
        raise OSError(111, "Connection refused")

    monkeypatch.setattr(slow, "started", fail)
    with Aside("it", fail if where == "build" else lambda: slow, warnings.append) as aside:
        for number in range(3):
            aside.started(make_trial(number, "RUNNING"))
            aside.ended(make_trial(number, "STOPPED"))
    (warning,) = warnings
    assert warning.startswith("warning: it stop here, and the search goes on: ConnectionRefusedError: ")
    assert slow.told == []
