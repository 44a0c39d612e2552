"""What every scheduler keeps to, whatever its rule: `search.schedulers.Scheduler`."""

import copy
import dataclasses
import sys
from dataclasses import dataclass, field
from math import inf, log2, nan
from types import FrameType
from typing import Any

import numpy as np
import pytest

from search.schedulers import SCHEDULERS, Decision, RunAll, SchedulerOptions

CONTINUE, PAUSE, STOP = Decision.CONTINUE, Decision.PAUSE, Decision.STOP
MAX_EPOCHS = 20
OPTIONS = SchedulerOptions(
    metric="m", mode="max", max_epochs=MAX_EPOCHS, grace_epochs=2, reduction_factor=2, seed=3, ranges={"lr": (0.1, 1)}
)

every_scheduler = pytest.mark.parametrize("name", SCHEDULERS)


def build(name: str, **changes: Any) -> Any:
    return SCHEDULERS[name](dataclasses.replace(OPTIONS, **changes))


@dataclass
class Search:
    """A search of random trials in S slots, which tells a scheduler what a source of trials does, and keeps it all.

    A call is the method's name and its arguments; `answers` has what each call returned, and before it who could be
    promoted and what the trial would have inherited.
    """

    scheduler: Any
    seed: int = 0
    slots: int = 4
    trials: int = 30
    sign: float = 1.0
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    epochs: dict[str, int] = field(default_factory=dict)
    out: list[str] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def run(self, calls: int = 10_000) -> "Search":
        """Go on until no slot finds a trial, or for so many calls."""
        while len(self.calls) < calls and self._fill():
            self._advance(self.out[int(self.rng.integers(len(self.out)))])
        return self

    def _fill(self) -> bool:
        while len(self.out) < self.slots:
            promotable = self.scheduler.promotable()
            if promotable is not None:
                self._promote(promotable)
            elif len(self.epochs) < self.trials:
                self.out.append(f"trial_{len(self.epochs):04d}")
                self.epochs[self.out[-1]] = 0
            else:
                break
        finalist = None if self.out else self.scheduler.finalist()
        if finalist is not None:
            self._promote(finalist)
        return bool(self.out)

    def _promote(self, trial_id: str) -> None:
        assert trial_id in self.paused
        self.paused.discard(trial_id)
        self._call("on_promote", trial_id)
        self.out.append(trial_id)

    def _advance(self, trial_id: str) -> None:
        if self.rng.random() < 0.02:
            self._end(trial_id)
            return
        self.epochs[trial_id] += 1
        decision = self._call("on_report", trial_id, self.epochs[trial_id], self._value(trial_id))
        if decision is STOP or self.epochs[trial_id] >= MAX_EPOCHS:
            self._end(trial_id)
        elif decision is PAUSE:
            self.out.remove(trial_id)
            self.paused.add(trial_id)

    def _value(self, trial_id: str) -> float:
        """One of few values, so that many are equal; higher for some trials than for others."""
        level = int(trial_id[-4:]) * 7919 % 5
        value = self.sign * (level + self.epochs[trial_id] // 4 + float(self.rng.integers(3)))
        return nan if self.rng.random() < 0.01 else value

    def _end(self, trial_id: str) -> None:
        self.out.remove(trial_id)
        self.ended.add(trial_id)
        self._call("on_end", trial_id)

    def _call(self, method: str, *arguments: Any) -> Any:
        self.calls.append((method, *arguments))
        self.answers.append(answer(self.scheduler, self.calls[-1]))
        return self.answers[-1][1]


def answer(scheduler: Any, call: tuple[Any, ...]) -> tuple[Any, Any]:
    before = (scheduler.promotable(), scheduler.finalist(), scheduler.inherits(call[1]))
    return before, getattr(scheduler, call[0])(*call[1:])


def replay(scheduler: Any, calls: list[tuple[Any, ...]]) -> list[Any]:
    return [answer(scheduler, call) for call in calls]


@every_scheduler
@pytest.mark.parametrize("seed", range(5))
def test_a_search_ends_and_leaves_no_trial_that_could_go_on(name: str, seed: int) -> None:
    search = Search(build(name), seed).run()

    assert not search.out
    assert len(search.epochs) == search.trials
    assert search.ended | search.paused == set(search.epochs)
    assert search.scheduler.promotable() is None
    assert search.scheduler.finalist() is None


@every_scheduler
def test_the_searches_of_this_suite_have_every_decision_that_the_scheduler_knows(name: str) -> None:
    decisions = {decision for _, decision in Search(build(name)).run().answers if decision is not None}

    assert decisions == {CONTINUE, STOP} | ({PAUSE} if name in ("asha-promote", "pbt") else set())


@every_scheduler
@pytest.mark.parametrize("seed", range(5))
def test_the_same_calls_get_the_same_answers(name: str, seed: int) -> None:
    search = Search(build(name), seed).run()
    np.random.seed(seed)  # noqa: NPY002

    assert replay(build(name), search.calls) == search.answers


@every_scheduler
@pytest.mark.parametrize("cut", [1, 50, 120])
def test_a_scheduler_rebuilt_from_the_calls_goes_on_as_the_first_would_have(name: str, cut: int) -> None:
    search = Search(build(name), seed=1).run(calls=cut)
    rebuilt = build(name)
    assert replay(rebuilt, search.calls) == search.answers

    other = copy.deepcopy(search)
    other.scheduler = rebuilt
    assert other.run().calls == search.run().calls
    assert other.answers == search.answers
    assert len(search.calls) > cut


@every_scheduler
@pytest.mark.parametrize("seed", range(3))
def test_reports_that_come_again_change_nothing(name: str, seed: int) -> None:
    """As after a retry: each call is followed by the trial's reports from an older checkpoint on."""
    search = Search(build(name), seed).run()
    stuttering = build(name)
    reports: dict[str, list[tuple[int, Any]]] = {}
    decisions: dict[str, Decision] = {}
    for (method, trial_id, *arguments), (_, decision) in zip(search.calls, search.answers, strict=True):
        assert getattr(stuttering, method)(trial_id, *arguments) is decision
        if method == "on_report":
            reports.setdefault(trial_id, []).append((arguments[0], arguments[1]))
        decisions[trial_id] = CONTINUE if method == "on_promote" else decision or decisions.get(trial_id, CONTINUE)
        again = [stuttering.on_report(trial_id, *report) for report in reports.get(trial_id, [])[-3:]]
        assert again[:-1] == [CONTINUE] * len(again[:-1])
        assert again[-1:] == [decisions[trial_id]] * len(again[-1:])


@every_scheduler
@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("value", [nan, inf, -inf, None])
def test_a_value_that_is_not_finite_stops_at_any_epoch_and_for_good(name: str, mode: str, value: float | None) -> None:
    scheduler = build(name, mode=mode)
    assert scheduler.on_report("first", 1, value) is STOP
    for number in range(4):
        for epoch in (1, 2, 3):
            scheduler.on_report(f"t{number}", epoch, 0.5)
    scheduler.on_report("later", 1, 0.9)

    assert scheduler.on_report("later", 2, value) is STOP
    assert scheduler.on_report("later", 2, value) is STOP
    assert scheduler.on_report("later", 3, 0.9) is STOP
    assert scheduler.on_report("at the end", MAX_EPOCHS, value) is STOP


@every_scheduler
@pytest.mark.parametrize("seed", range(3))
def test_what_a_trial_inherits_is_of_another_that_reached_the_epoch_and_holds_until_its_next_report(
    name: str, seed: int
) -> None:
    search = Search(build(name), seed).run()
    epochs: dict[str, int] = {}
    inherited = None
    for (method, trial_id, *arguments), ((*_, inherits), _) in zip(search.calls, search.answers, strict=True):
        if inherits is not None:
            assert inherits.source != trial_id
            assert inherits.epoch == epochs[trial_id] <= epochs[inherits.source]
        inherited = inherits or inherited
        epochs[trial_id] = arguments[0] if method == "on_report" else epochs.get(trial_id, 0)

    assert (inherited is not None) == (name == "pbt")


@every_scheduler
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("trials", [30, None])
def test_what_is_inherited_is_inheritable_and_what_is_not_inheritable_never_will_be(
    name: str, seed: int, trials: int | None
) -> None:
    search = Search(build(name, trials=trials), seed).run()
    scheduler = build(name, trials=trials)
    before: set[tuple[str, int]] = set()
    for call in search.calls:
        getattr(scheduler, call[0])(*call[1:])
        now = set(scheduler.inheritable())
        fresh = {(call[1], call[2])} if call[0] == "on_report" else set()
        assert now - fresh <= before
        inherits = scheduler.inherits(call[1])
        assert inherits is None or (inherits.source, inherits.epoch) in now
        before = now

    assert trials is None or before == set()


@every_scheduler
def test_an_ended_trial_is_never_promotable(name: str) -> None:
    search = Search(build(name), seed=2)
    for calls in range(20, 400, 20):
        search.run(calls=calls)
        for trial_id in sorted(search.paused)[::2]:
            search.paused.discard(trial_id)
            search.ended.add(trial_id)
            search.scheduler.on_end(trial_id)
        assert search.scheduler.promotable() not in search.ended
        assert search.scheduler.finalist() not in search.ended


@every_scheduler
@pytest.mark.parametrize("grace", [1, 3, MAX_EPOCHS])
def test_no_finite_value_ends_or_pauses_a_trial_before_its_grace_epochs(name: str, grace: int) -> None:
    scheduler = build(name, grace_epochs=grace)
    for number in range(30):
        for epoch in range(1, grace):
            assert scheduler.on_report(f"t{number}", epoch, -number * 1.0) is CONTINUE


@every_scheduler
@pytest.mark.parametrize("seed", range(3))
def test_min_mirrors_max(name: str, seed: int) -> None:
    to_max = Search(build(name, mode="max"), seed, sign=1).run()
    to_min = Search(build(name, mode="min"), seed, sign=-1).run()

    assert to_min.answers == to_max.answers
    assert [call[:3] for call in to_min.calls] == [call[:3] for call in to_max.calls]


@every_scheduler
def test_to_ask_who_may_go_on_changes_nothing(name: str) -> None:
    asked = Search(build(name), seed=4).run()
    silent = build(name)
    answers = [getattr(silent, call[0])(*call[1:]) for call in asked.calls]

    assert answers == [decision for _, decision in asked.answers]


@every_scheduler
def test_trials_that_it_never_heard_of_are_no_error(name: str) -> None:
    scheduler = build(name)
    scheduler.on_promote("unheard of")
    scheduler.on_end("unheard of")

    assert scheduler.promotable() is None
    assert scheduler.on_report("unheard of", 1, 0.5) is CONTINUE


class Counted(float):
    """A float that counts how often floats are compared."""

    compared = 0

    def __neg__(self) -> "Counted":
        return Counted(-float(self))

    def __rmul__(self, other: float) -> "Counted":
        return Counted(other * float(self))

    def __lt__(self, other: float) -> bool:
        Counted.compared += 1
        return float(self) < float(other)

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return float(self) == other

    __hash__ = float.__hash__


def cost_of_reports(scheduler: Any, trials: int) -> float:
    """Lines run and values compared for each of 30 reports in the middle of a search that has so many trials."""
    values = np.random.default_rng(0).permutation(trials + 30)
    for number in range(trials):
        scheduler.on_report(f"t{number}", 2, Counted(values[number]))
        if scheduler.promotable() is not None:
            scheduler.on_promote(scheduler.promotable())
    lines = 0

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    Counted.compared = 0
    before = sys.gettrace()
    sys.settrace(count)
    try:
        for number in range(trials, trials + 30):
            scheduler.on_report(f"t{number}", 2, Counted(values[number]))
            scheduler.promotable()
    finally:
        sys.settrace(before)
    return (lines + Counted.compared) / 30


@every_scheduler
def test_what_a_report_costs_grows_with_the_logarithm_of_the_trials_at_most(name: str) -> None:
    few, many = 100, 3200

    assert cost_of_reports(build(name), many) < cost_of_reports(build(name), few) * log2(many) / log2(few)


class LookingAtAll(RunAll):
    """Compares each value with all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def _decide(self, trial_id: str, epoch: int, value: float) -> Decision:
        self.values.append(value)
        return Decision.STOP if value < min(self.values) else Decision.CONTINUE


def test_the_measure_of_cost_sees_what_is_linear() -> None:
    assert cost_of_reports(LookingAtAll(), 160) > 2 * cost_of_reports(LookingAtAll(), 40)
