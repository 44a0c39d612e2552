import dataclasses
from typing import Any

import pytest

from search.budget import Cost, cost_lines, hours_text, slot_of
from search.ledger import fold_trials
from search.slot_time import Slot
from search.trials import TrialRecord
from trainable.slot.cluster import TrialResources

HOUR = 3600.0
DEAD = {"kind": "SlotDied", "message": "m", "where": "w"}


def events(unit: str = "CPU", units: float = 1.0) -> list[dict[str, Any]]:
    """Trials of 4 (finished), 2 (stopped), 1 (failed) and 3 hours, an hour each lost, the last one still running."""
    lines: list[tuple[float, str, str | None, dict[str, Any]]] = [
        (0, "search_started", None, {"unit": unit, "units": units}),
        *((0, "created", name, {"number": number, "config": {}}) for number, name in enumerate("abcd")),
        *((0, "started", name, {"attempt": 1}) for name in "abcd"),
        (1, "retried", "a", {"attempt": 1, "failure": DEAD}),
        (1, "ended", "c", {"state": "FAILED", "failure": DEAD}),
        (2, "started", "a", {"attempt": 2}),
        (2, "ended", "b", {"state": "STOPPED", "failure": None}),
        (2, "report", "d", {"epoch": 1}),
        (3, "retried", "d", {"attempt": 1, "failure": DEAD}),
        (5, "ended", "a", {"state": "FINISHED", "failure": None}),
        (6, "started", "d", {"attempt": 2}),
    ]
    return [{"event": event, "trial_id": name, "time": HOUR * hour, **more} for hour, event, name, more in lines]


@pytest.fixture
def trials() -> list[TrialRecord]:
    return fold_trials(events())


def test_hours_are_told_apart_by_how_the_trial_ended(trials: list[TrialRecord]) -> None:
    cost = Cost.of(trials, "CPU", price_per_hour=2.5, now=6.5 * HOUR)
    assert (cost.hours_finished, cost.hours_stopped, cost.hours_failed) == (3, 2, 1)
    assert (cost.hours_open, cost.hours_lost, cost.hours_total) == (2.5, 2, 10.5)
    assert cost.money == 10.5 * 2.5


def test_further_seeds_of_the_best_are_counted_by_themselves(trials: list[TrialRecord]) -> None:
    confirming = [dataclasses.replace(trial, confirms="b") for trial in trials]
    cost = Cost.of([trials[1], *confirming], "CPU")
    assert (cost.hours_confirming, cost.hours_stopped, cost.hours_failed, cost.hours_lost) == (10, 2, 0, 0)
    assert cost_lines([trials[1], *confirming], "CPU", None) == [
        "Cost: 12.00 CPU-hours, of which 2.00 on trials stopped early, 10.00 on further seeds of the best configs."
    ]


def test_units_multiply_and_another_unit_costs_nothing() -> None:
    trials = fold_trials(events("GPU", 8.0))
    assert Cost.of(trials, "GPU").hours_total == 80
    assert Cost.of(trials, "CPU").hours_total == 0


def test_without_a_price_there_is_no_money(trials: list[TrialRecord]) -> None:
    assert Cost.of(trials, "CPU").money is None
    (line,) = cost_lines(trials, "CPU", None)
    assert line == (
        "Cost: 10.00 CPU-hours, of which 2.00 on trials stopped early, 1.00 on failed trials, "
        "2.00 in epochs that were cut off."
    )


def test_a_line_says_what_it_comes_to_in_money(trials: list[TrialRecord]) -> None:
    (line,) = cost_lines(trials, "CPU", 0.25)
    assert line.endswith("2.00 in epochs that were cut off; 2.50 in money, at 0.25 an hour.")


def test_what_was_for_trials_to_their_end_is_not_told_apart() -> None:
    (line,) = cost_lines([fold_trials(events())[1]], "CPU", None)
    assert line == "Cost: 2.00 CPU-hours, of which 2.00 on trials stopped early."


def test_hours_of_another_unit_have_a_line_without_money(trials: list[TrialRecord]) -> None:
    lines = cost_lines([*trials, *fold_trials(events("GPU"))], "GPU", 3.0)
    assert [line.partition(",")[0] for line in lines] == ["Cost: 10.00 GPU-hours", "Cost: 10.00 CPU-hours"]
    assert ["money" in line for line in lines] == [True, False]


def test_a_search_that_started_nothing_costs_nothing(make_trial) -> None:
    assert cost_lines([make_trial(0, "PENDING")], "CPU", 1.0) == []


@pytest.mark.parametrize(
    ("resources", "slot"),
    [
        (TrialResources(), Slot("CPU", 1)),
        (TrialResources(workers=2, cpus_per_worker=4), Slot("CPU", 8)),
        (TrialResources(workers=2, cpus_per_worker=4, gpus_per_worker=1.0), Slot("GPU", 2)),
        (TrialResources(gpus_per_worker=0.25), Slot("GPU", 0.25)),
    ],
)
def test_a_slot_counts_by_its_gpus_or_else_its_cpus(resources: TrialResources, slot: Slot) -> None:
    assert slot_of(resources) == slot


@pytest.mark.parametrize(
    ("hours", "text"), [(0.0123, "0.012"), (0.9, "0.900"), (1.234, "1.23"), (99.99, "99.99"), (1234.5, "1,234")]
)
def test_hours_text(hours: float, text: str) -> None:
    assert hours_text(hours) == text
