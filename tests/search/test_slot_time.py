"""The time in slots, against ledgers by hand, and against a slow and obvious count."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.ledger import LedgerWriter, fold_trials, read_ledger
from search.simulate import VirtualClock
from search.slot_time import Slot, SlotTime
from trainable.errors import ExperimentError

Event = dict[str, Any]
FAILURE = {"kind": "SlotDied", "message": "m", "where": "w"}


def told(*lines: tuple[float, str, str | None] | tuple[float, str, str | None, dict[str, Any]]) -> list[Event]:
    """Events from (time, event, trial, further keys)."""
    defaults = {
        "created": {"number": 0, "config": {}},
        "started": {"attempt": 1},
        "ended": {"state": "FINISHED"},
        "search_ended": {"state": "COMPLETED"},
    }
    return [
        {**defaults.get(line[1], {}), **(line[3] if len(line) > 3 else {}), "time": line[0], "event": line[1]}
        | {"trial_id": line[2]}
        for line in lines
    ]


def seconds(events: list[Event], unit: str = "CPU") -> tuple[float, float]:
    """Spent and lost of the only trial."""
    (trial,) = fold_trials(events)
    return trial.slot_time.spent[unit], trial.slot_time.lost[unit]


BEGUN = told((0, "search_started", None), (1, "created", "a"), (10, "started", "a"), (15, "report", "a", {"epoch": 1}))


def test_a_trial_holds_its_slot_from_its_start_to_its_end() -> None:
    assert seconds([*BEGUN, *told((22, "ended", "a"))]) == (12, 0)


def test_what_was_spent_until_each_event_counts_all_slots_that_were_held() -> None:
    other = told((5, "created", "b"), (12, "started", "b"), (22, "ended", "a"), (30, "report", "b", {"epoch": 1}))
    spending: list[tuple[float, float]] = []
    fold_trials(sorted([*BEGUN, *other], key=lambda event: event["time"]), spending)
    assert spending[-4:] == [(12, 2), (15, 5 + 3), (22, 12 + 10), (30, 12 + 18)]


def test_a_trial_that_waits_at_a_rung_costs_nothing() -> None:
    waits = told((16, "paused", "a"), (50, "promoted", "a"), (60, "started", "a"), (64, "ended", "a"))
    assert seconds([*BEGUN, *waits]) == (10, 0)


def test_what_a_process_that_died_did_not_report_is_lost() -> None:
    dies = told((18, "retried", "a"), (30, "started", "a"), (33, "report", "a", {"epoch": 2}), (34, "ended", "a"))
    assert seconds([*BEGUN, *dies]) == (12, 3)


def test_what_a_checkpoint_within_an_epoch_holds_is_not_lost() -> None:
    saved = told((17, "saved", "a", {"epochs": 1.5}), (18, "retried", "a"), (30, "started", "a"))
    ends = told((33, "report", "a", {"epoch": 2}), (34, "ended", "a"))
    assert seconds([*BEGUN, *saved, *ends]) == (12, 1)
    again = told((33, "report", "a", {"epoch": 2}), (34, "report", "a", {"epoch": 2}), (35, "ended", "a"))
    assert seconds([*BEGUN, *saved, *again]) == (13, 1 + 2 + 3)


def test_what_the_end_of_the_search_cut_off_is_lost() -> None:
    assert seconds([*BEGUN, *told((19, "search_ended", None))]) == (9, 4)


def test_where_the_driver_died_a_slot_was_held_to_the_last_event_of_any_trial() -> None:
    other = told((16, "created", "b", {"number": 1}), (17, "started", "b"), (21, "report", "b", {"epoch": 1}))
    a, b = fold_trials([*BEGUN, *other, *told((1000, "search_started", None))])
    assert (a.slot_time.spent["CPU"], a.slot_time.lost["CPU"]) == (11, 6)
    assert (b.slot_time.spent["CPU"], b.slot_time.lost["CPU"]) == (4, 0)


def test_a_search_that_goes_on_after_its_driver_died_adds_to_what_it_cost() -> None:
    resumed = told((1000, "search_started", None), (1010, "started", "a"), (1013, "ended", "a"))
    assert seconds([*BEGUN, *resumed]) == (8, 0)


def test_an_end_that_a_later_run_records_costs_nothing() -> None:
    assert seconds([*BEGUN, *told((1000, "search_started", None), (1001, "ended", "a"))]) == (5, 0)


def test_an_epoch_that_is_trained_again_was_lost_the_first_time() -> None:
    again = told((22, "report", "a", {"epoch": 2}), (24, "report", "a", {"epoch": 1}), (30, "ended", "a"))
    assert seconds([*BEGUN, *again]) == (20, 5 + 7)


def test_an_attempt_that_nobody_closed_is_taken_for_dead_at_the_next() -> None:
    assert seconds([*BEGUN, *told((20, "started", "a"), (21, "ended", "a"))]) == (11, 5)


def test_a_report_that_was_saved_and_is_recorded_later_has_no_time() -> None:
    recovered = told((19, "search_ended", None), (20, "report", "a", {"epoch": 2}), (21, "report", "a", {"epoch": 1}))
    assert seconds([*BEGUN, *recovered]) == (9, 4 + 5)


def test_seconds_count_as_often_as_a_slot_has_gpus() -> None:
    gpus = told((0, "search_started", None, {"unit": "GPU", "units": 4.0}))
    assert seconds([*gpus, *BEGUN[1:], *told((22, "ended", "a"))], "GPU") == (48, 0)
    assert seconds([*gpus, *BEGUN[1:], *told((22, "ended", "a"))]) == (0, 0)


def test_a_later_run_counts_by_its_own_slots() -> None:
    later = told((100, "search_started", None, {"unit": "CPU", "units": 2.0}), (110, "started", "a"))
    assert seconds([*BEGUN, *later, *told((113, "ended", "a"))]) == (5 + 6, 0)
    gpu = told((200, "search_started", None, {"unit": "GPU", "units": 0.5}), (210, "started", "a"))
    events = [*BEGUN, *later, *gpu, *told((220, "ended", "a"))]
    assert (seconds(events), seconds(events, "GPU")) == ((5, 0), (5, 0))


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(ExperimentError, match="'TPU'"):
        fold_trials(told((0, "search_started", None, {"unit": "TPU", "units": 1.0})))


def test_a_running_trial_counts_up_to_now() -> None:
    (trial,) = fold_trials(BEGUN)
    assert trial.slot_time.spent_at(21.0)["CPU"] == 11
    assert trial.slot_time.spent_at(14.0)["CPU"] == 5
    assert trial.slot_time.spent["CPU"] == 5


def test_a_clock_that_goes_back_takes_no_time_away() -> None:
    assert seconds([*BEGUN, *told((13, "report", "a", {"epoch": 2}), (17, "ended", "a"))]) == (7, 0)


def test_a_clock_that_goes_back_takes_no_time_off_the_sum(tmp_path: Path) -> None:
    clock = VirtualClock()
    with LedgerWriter(tmp_path / "ledger.jsonl", clock=clock) as ledger:
        ledger.search_started()
        ledger.created("a", 0, {})
        ledger.started("a", attempt=1, node="host", pid=1)
        clock.now = 5.0
        ledger.report("a", {"epoch": 1})
        clock.now = 3.0
        assert ledger.spent_seconds() == 5.0
        ledger.ended("a", "FINISHED")
        assert ledger.spent_seconds() == 5.0


def write_random_ledger(path: Path, seed: int) -> None:
    """Runs of a search, some killed, with trials that end, wait, die and are retried."""
    rng = np.random.default_rng(seed)
    clock = VirtualClock()
    clock.now = 1e9
    for _ in range(4):
        clock.now += rng.uniform(0, 500)
        with LedgerWriter(path, clock=clock) as ledger:
            ledger.search_started(Slot("CPU", float(rng.integers(1, 4))))
            for _ in range(40):
                clock.now += rng.exponential(5)
                step(ledger, rng)
            if rng.random() < 0.5:
                ledger.search_ended("INTERRUPTED")


def step(ledger: LedgerWriter, rng: np.random.Generator) -> None:
    """Let something happen to one trial."""
    number = int(rng.integers(0, len(ledger.trials) + 1))
    trial_id = f"t{number}"
    if number == len(ledger.trials):
        ledger.created(trial_id, number, {})
        return
    trial = ledger.trials[trial_id]
    if trial.slot_time.slot is None:
        if not trial.ended:
            ledger.started(trial_id, attempt=trial.attempts + 1, node="host", pid=1)
        return
    match rng.choice(["report", "paused", "retried", "ended"], p=[0.7, 0.1, 0.1, 0.1]):
        case "report":
            ledger.report(trial_id, {"epoch": max(1, trial.epochs + int(rng.choice([1, 1, 1, 0, -1])))})
        case "paused":
            ledger.paused(trial_id)
        case "retried":
            ledger.retried(trial_id, attempt=trial.attempts, failure=FAILURE)
        case "ended":
            ledger.ended(trial_id, str(rng.choice(["FINISHED", "STOPPED", "FAILED"])))


def slow(events: list[Event], trial_id: str) -> tuple[float, float]:
    """Spent up to the last event, and lost: every gap between two events is looked at by itself."""
    spent, lost, units = 0.0, 0.0, 0.0
    for at, (before, after) in enumerate(pairwise(events), start=1):
        units = before["units"] if before["event"] == "search_started" else units
        if after["event"] == "search_started" or not holds(events[:at], trial_id):
            continue
        gap = units * (after["time"] - before["time"])
        spent += gap
        lost += gap if is_lost(list(of_trial(events[at:], trial_id))) else 0.0
    return spent, lost


def of_trial(events: Iterable[Event], trial_id: str) -> Iterator[Event]:
    return (event for event in events if event["trial_id"] in (trial_id, None))


def holds(events: list[Event], trial_id: str) -> bool:
    """Whether the trial holds a slot after these events."""
    kinds = [event["event"] for event in of_trial(events, trial_id)]
    changes = [kind for kind in kinds if kind not in ("created", "report", "promoted")]
    return bool(changes) and changes[-1] == "started"


def is_lost(later: list[Event]) -> bool:
    """Whether the epoch that is trained now is cut off, or replaced by a report of it or of an epoch before it."""
    if not later or later[0]["event"] in ("paused", "ended"):
        return False
    if later[0]["event"] != "report":
        return True
    return any(event["event"] == "report" and event["epoch"] <= later[0]["epoch"] for event in later[1:])


@pytest.mark.parametrize("seed", range(4))
def test_every_second_is_counted_once_and_as_a_slow_count_has_it(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "ledger.jsonl"
    write_random_ledger(path, seed)
    events = read_ledger(path)
    now = events[-1]["time"]
    trials = fold_trials(events)
    for trial in trials:
        spent, lost = slow(events, trial.trial_id)
        assert trial.slot_time.spent_at(now)["CPU"] == pytest.approx(spent)
        assert trial.slot_time.lost["CPU"] == pytest.approx(lost)
    assert sum(trial.slot_time.lost["CPU"] for trial in trials) > 0
    with LedgerWriter(path, clock=lambda: now) as ledger:
        assert ledger.spent_seconds() == pytest.approx(sum(trial.slot_time.spent_at(now)["CPU"] for trial in trials))
        assert {trial.trial_id: trial.slot_time for trial in trials} == times(ledger)


def times(ledger: LedgerWriter) -> dict[str, SlotTime]:
    return {trial_id: trial.slot_time for trial_id, trial in ledger.trials.items()}


def test_a_writer_counts_as_a_reader_does(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    now = 5.0
    with LedgerWriter(path, clock=lambda: now) as ledger:
        ledger.search_started(Slot("GPU", 2.0))
        ledger.created("a", 0, {})
        ledger.started("a", attempt=1, node="host", pid=1)
        now = 8.0
        assert ledger.spent_seconds() == 6.0
        ledger.report("a", {"epoch": 1})
        assert times(ledger) == {trial.trial_id: trial.slot_time for trial in fold_trials(read_ledger(path))}
