import io
import os
from collections.abc import Collection

import pytest
from rich.console import Console

from search.console import (
    Display,
    Plan,
    cause_text,
    duration,
    failure_table,
    snapshot,
    status_line,
    table,
    trial_line,
)
from search.failures import group_failures
from search.slot_time import Slot
from search.trials import TrialRecord

FAILURE = {
    "kind": "DivergedError",
    "message": "the loss is [bold]nan[/] at step 12",
    "where": "trainable/training/trainer.py:12",
    "traceback_file": "failures/abc.txt",
}


def _plan(
    trials: int = 16,
    *,
    stops_early: bool = True,
    time_budget_seconds: float | None = None,
    budget_hours: float | None = None,
) -> Plan:
    return Plan(
        trials=trials,
        max_epochs=8,
        metric="val_accuracy",
        mode="max",
        stops_early=stops_early,
        time_budget_seconds=time_budget_seconds,
        budget_hours=budget_hours,
    )


@pytest.fixture
def trials(make_trial) -> list[TrialRecord]:
    return [
        make_trial(0, "FINISHED", [0.1, 0.5, 0.6, 0.61, 0.6, 0.6, 0.6, 0.6]),
        make_trial(1, "STOPPED", [0.2]),
        make_trial(2, "FAILED", [0.9], failure=FAILURE),
        make_trial(3, "RUNNING", [0.3, 0.4]),
        make_trial(4, "PENDING"),
    ]


def _text(renderable: object, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_snapshot_counts_states_epochs_and_time(trials: list[TrialRecord]) -> None:
    progress = snapshot(trials, _plan(), started_time=100.0, now=220.0)
    assert progress.states == {"PENDING": 12, "RUNNING": 1, "PAUSED": 0, "FINISHED": 1, "STOPPED": 1, "FAILED": 1}
    assert (progress.trials, progress.ended) == (16, 3)
    assert progress.epochs_done == 8 + 1 + 1 + 2
    assert progress.epochs_left == 6 + 12 * 8
    assert progress.seconds_elapsed == 120.0
    assert progress.seconds_left == pytest.approx((6 + 12 * 8) * 120 / 12)
    assert (progress.best_value, progress.best_number, progress.best_epoch) == (0.61, 0, 4)


def test_pace_counts_only_what_was_trained_since_a_restart(trials: list[TrialRecord]) -> None:
    # reports come at 110, 120, ...: five of the first trial's are from after 135, none of the others'
    progress = snapshot(trials, _plan(), started_time=135.0, now=185.0)
    assert progress.seconds_left == pytest.approx((6 + 12 * 8) * 50 / 5)


def test_time_left_is_at_most_what_the_budget_leaves(trials: list[TrialRecord]) -> None:
    def left(budget_seconds: float) -> float | None:
        plan = _plan(time_budget_seconds=budget_seconds)
        return snapshot(trials, plan, started_time=100.0, now=220.0).seconds_left

    assert left(150.0) == 30.0
    assert left(90.0) == 0.0
    assert left(1e9) == pytest.approx(1020.0)


def test_time_left_is_at_most_what_the_budget_of_hours_leaves_to_the_slots_held(trials: list[TrialRecord]) -> None:
    def left(hours: float) -> float | None:
        return snapshot(trials, _plan(budget_hours=hours), started_time=100.0, now=220.0).seconds_left

    trials[0].slot_time.spent["GPU"] = 1000.0
    trials[3].slot_time.take(Slot("GPU", 4.0), 210.0)
    assert left(2000 / 3600) == pytest.approx((2000 - 1000 - 4 * 10) / 4)
    assert left(900 / 3600) == 0.0
    assert left(1e9) == pytest.approx(1020.0)
    trials[3].slot_time.give_back(220.0)
    assert left(2000 / 3600) == pytest.approx(1020.0)


def test_before_the_first_report_no_time_is_known(make_trial) -> None:
    progress = snapshot([make_trial(0, "RUNNING")], _plan(), started_time=100.0, now=110.0)
    assert progress.seconds_left is None
    assert progress.best_value is None
    assert "no val_accuracy yet" in status_line(progress)
    assert "time left not known yet" in status_line(progress)


def test_when_all_have_ended_nothing_is_left(make_trial) -> None:
    progress = snapshot([make_trial(0, "STOPPED", [0.5])], _plan(1), started_time=100.0, now=110.0)
    assert (progress.epochs_left, progress.seconds_left) == (0, 0.0)
    assert "at most" not in status_line(progress)


def test_what_is_left_is_said_to_be_an_upper_bound_only_where_trials_are_stopped(trials: list[TrialRecord]) -> None:
    stopping = status_line(snapshot(trials, _plan(), started_time=100.0, now=220.0))
    exact = status_line(snapshot(trials, _plan(stops_early=False), started_time=100.0, now=220.0))
    assert "at most 102 epochs left | at most about 17 min 00 s left" in stopping
    assert "| 102 epochs left | about 17 min 00 s left" in exact
    assert "at most" not in exact


def test_the_table_shows_each_part_and_each_cause_once(trials: list[TrialRecord]) -> None:
    again = [*trials, *(trial for trial in trials if trial.failure)]
    text = _text(table(snapshot(trials, _plan(), started_time=100.0, now=220.0), group_failures(again)))
    assert "12 PENDING, 1 RUNNING, 1 FINISHED, 1 STOPPED, 1 FAILED" in text
    assert "val_accuracy 0.6100 (trial 0, epoch 4)" in text
    assert "12 done, at most 102 epochs left" in text
    assert "2 min 00 s so far" in text
    assert text.count("DivergedError") == 1
    assert "2 trials: DivergedError: the loss is [bold]nan[/] at step 12" in text  # markup in a message is text


def test_the_failures_table_has_all_four_columns_in_full(trials: list[TrialRecord]) -> None:
    text = _text(failure_table(group_failures(trials)))
    for part in ("1", "DivergedError: the loss is [bold]nan[/]", FAILURE["where"], FAILURE["traceback_file"]):
        assert part in text
    assert "…" not in _text(failure_table(group_failures(trials)), width=60)


def test_lines_of_one_trial_and_one_cause(trials: list[TrialRecord]) -> None:
    assert [trial_line(trial, "val_accuracy", "max") for trial in trials[:3]] == [
        "trial 0 FINISHED after 8 epochs, val_accuracy 0.6100",
        "trial 1 STOPPED after 1 epoch, val_accuracy 0.2000",
        "trial 2 FAILED after 1 epoch: DivergedError",
    ]
    (cause,) = group_failures(trials)
    assert cause_text(cause) == (
        "1 trial: DivergedError: the loss is [bold]nan[/] at step 12 [trainable/training/trainer.py:12], "
        "see failures/abc.txt"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class _Screen:
    """A display over a string, with a clock that is set by hand."""

    def __init__(self, plan: Plan, *, terminal: bool) -> None:
        self.now = 100.0
        self.file = io.StringIO()
        console = Console(file=self.file, force_terminal=terminal, width=200)
        self.display = Display(plan, console, clock=lambda: self.now)

    def lines_at(self, now: float, trials: Collection[TrialRecord], *, final: bool = False) -> list[str]:
        """What an update at the time `now` adds."""
        self.now = now
        before = len(self.file.getvalue())
        self.display.update(trials, final=final)
        return self.file.getvalue()[before:].splitlines()


def test_without_a_terminal_each_trial_that_ended_gets_one_line(trials: list[TrialRecord]) -> None:
    screen = _Screen(_plan(), terminal=False)
    assert screen.lines_at(101, trials[:1]) == ["trial 0 FINISHED after 8 epochs, val_accuracy 0.6100"]
    assert screen.lines_at(101.1, trials) == []  # too soon to look
    assert [line.split()[1] for line in screen.lines_at(102, trials)] == ["1", "2"]
    assert screen.lines_at(103, trials) == []
    assert screen.lines_at(160, trials)[0].startswith("3/16 trials ended | ")  # the first status, a minute after
    assert screen.lines_at(161, trials) == []
    assert screen.lines_at(161.1, trials, final=True)[0].startswith("3/16 trials ended | ")


def test_a_status_line_comes_with_trials_that_end_but_not_with_each(make_trial) -> None:
    screen = _Screen(_plan(50), terminal=False)
    trials = [make_trial(number, "STOPPED", [0.5]) for number in range(50)]
    lines = [line for n in range(50) for line in screen.lines_at(101.0 + n, trials[: n + 1])]
    assert sum(line.startswith("trial ") for line in lines) == 50
    assert sum("trials ended" in line for line in lines) == 5


def test_a_large_search_prints_status_lines_only(make_trial) -> None:
    screen = _Screen(_plan(1000), terminal=False)
    trials = [make_trial(number, "STOPPED", [0.5]) for number in range(1000)]
    lines = [line for n in range(1000) for line in screen.lines_at(101.0 + n / 10, trials[: n + 1])]
    assert all("/1000 trials ended" in line for line in lines)
    assert 8 <= len(lines) <= 10


def test_looking_takes_a_small_share_of_the_time(make_trial) -> None:
    times = iter([100.0, 101.0, 101.5, 110.9, 111.1, 111.1])  # the look at 101 takes half a second
    file = io.StringIO()
    display = Display(_plan(), Console(file=file), clock=lambda: next(times))
    seen = []
    for number in range(3):
        display.update([make_trial(number, "STOPPED", [0.5])])
        seen.append(len(file.getvalue().splitlines()))
    assert seen == [1, 1, 3]  # at 101, not at 110.9, and with a status line at 111.1


def test_on_a_terminal_the_table_is_drawn_in_place(trials: list[TrialRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = _Screen(_plan(), terminal=True)
    with screen.display:
        assert screen.lines_at(100.1, trials) == []
        first = screen.lines_at(101, trials)
        assert any("12 PENDING" in line for line in first)
        assert "\x1b[1A" in "".join(screen.lines_at(102, trials))  # goes up over what it drew before


def test_plain_lines_are_not_wrapped_or_coloured(trials: list[TrialRecord]) -> None:
    screen = _Screen(_plan(), terminal=False)
    screen.display._console.width = 40
    (line,) = screen.lines_at(200, trials[:0], final=True)
    assert len(line) > 80
    assert "\x1b" not in line


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), SystemExit(1)])
@pytest.mark.parametrize("terminal", [True, False])
def test_an_output_that_is_gone_ends_the_display_alone(
    trials: list[TrialRecord], monkeypatch: pytest.MonkeyPatch, error: BaseException, terminal: bool
) -> None:
    class Gone(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            raise error

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # what rich does to the standard output
    file = Gone()
    with Display(_plan(), Console(file=file, force_terminal=terminal), clock=lambda: 100.0) as display:
        display.update(trials, final=True)
        assert file.writes >= 1
        before = file.writes
        display.update(trials, final=True)
    assert file.writes == before
