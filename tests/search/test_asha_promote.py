"""ASHA by promotion, against the paper's algorithm."""

from math import inf, nan

import numpy as np
import pytest

from search.asha import PromotingAsha
from search.schedulers import SchedulerOptions
from tests.search.asha_cases import CONTINUE, PAUSE, SEEDS, STOP, options, random_options, random_value

Job = tuple[str, int]
"""A trial and the rung that it is to be trained to."""


class Algorithm2:
    """arXiv 1810.05934, algorithm 2, line by line; a promoted trial is one that a job was made of."""

    def __init__(self, options: SchedulerOptions) -> None:
        self.factor = options.reduction_factor
        self.sign = {"max": 1, "min": -1}[options.mode]
        self.below_top = len([k for k in range(10) if options.grace_epochs * self.factor**k < options.max_epochs])
        self.rungs: list[list[tuple[str, float]]] = [[] for _ in range(self.below_top)]
        self.promoted: set[Job] = set()
        self.drawn = 0

    def complete(self, job: Job, value: float) -> None:
        trial_id, k = job
        if k < self.below_top:
            self.rungs[k].append((trial_id, self.sign * value if np.isfinite(value) else -inf))

    def get_job(self) -> Job:
        for k in reversed(range(self.below_top)):
            ranked = sorted(self.rungs[k], key=lambda entry: entry[1], reverse=True)
            candidates = [(name, k) for name, value in ranked[: len(ranked) // self.factor] if value > -inf]
            promotable = [candidate for candidate in candidates if candidate not in self.promoted]
            if promotable:
                self.promoted.add(promotable[0])
                return promotable[0][0], k + 1
        self.drawn += 1
        return f"t{self.drawn}", 0


class OurJobs:
    """Our scheduler, driven as a search drives it, seen as jobs."""

    def __init__(self, options: SchedulerOptions) -> None:
        self.scheduler = PromotingAsha(options)
        self.epochs = [*(rung.epoch for rung in self.scheduler.rungs), options.max_epochs]
        self.goes_on: str | None = None
        self.rung_of: dict[str, int] = {}

    def complete(self, job: Job, value: float) -> None:
        trial_id, k = job
        decision = self.scheduler.on_report(trial_id, self.epochs[k], value)
        self.goes_on = trial_id if decision is CONTINUE and k + 1 < len(self.epochs) else None
        if decision is STOP or k + 1 == len(self.epochs):
            self.scheduler.on_end(trial_id)

    def get_job(self) -> Job:
        trial_id = self.goes_on or self.scheduler.promotable()
        if trial_id is None:
            trial_id = f"t{len(self.rung_of) + 1}"
        elif self.goes_on is None:
            self.scheduler.on_promote(trial_id)
        self.goes_on = None
        self.rung_of[trial_id] = self.rung_of.get(trial_id, -1) + 1
        return trial_id, self.rung_of[trial_id]


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("seed", SEEDS)
def test_promoting_is_algorithm_2(seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    chosen = random_options(rng, mode)
    ours, paper = OurJobs(chosen), Algorithm2(chosen)
    slots = [paper.get_job() for _ in range(4)]
    assert [ours.get_job() for _ in range(4)] == slots
    for _ in range(150):
        place, value = int(rng.integers(len(slots))), random_value(rng)
        ours.complete(slots[place], value)
        paper.complete(slots[place], value)
        slots[place] = paper.get_job()
        assert ours.get_job() == slots[place]

    assert [list(rung.values.items()) for rung in ours.scheduler.rungs] == paper.rungs


def test_of_equal_trials_the_first_third_is_promoted() -> None:
    scheduler = PromotingAsha(options())
    decisions = [scheduler.on_report(f"t{n}", 1, 0.143) for n in range(9)]

    assert decisions == [PAUSE] * 9
    assert promote_all(scheduler) == ["t0", "t1", "t2"]


def test_a_trial_that_is_the_best_of_its_rung_goes_on_in_its_slot() -> None:
    scheduler = PromotingAsha(options())

    assert [scheduler.on_report(f"t{n}", 1, value) for n, value in enumerate([0.1, 0.2, 0.3])] == [
        PAUSE,
        PAUSE,
        CONTINUE,
    ]
    assert scheduler.promotable() is None


def test_the_highest_rung_promotes_first() -> None:
    scheduler = PromotingAsha(options())
    for number in range(6):
        scheduler.on_report(f"t{number}", 3, 0.5 - number / 10)
    for number in range(6, 9):
        scheduler.on_report(f"t{number}", 1, 0.9)

    assert promote_all(scheduler) == ["t0", "t1", "t6", "t7", "t8"]


def test_diverged_trials_make_room_for_others() -> None:
    scheduler = PromotingAsha(options())
    assert [scheduler.on_report(name, 1, value) for name, value in (("a", 0.1), ("b", nan))] == [PAUSE, STOP]
    assert scheduler.promotable() is None

    scheduler.on_report("c", 1, nan)
    assert scheduler.promotable() == "a"


def test_a_promoted_trial_that_repeats_its_rung_goes_on() -> None:
    """Its processes died after the promotion, before the next report."""
    scheduler = PromotingAsha(options())
    for number in range(3):
        scheduler.on_report(f"t{number}", 1, 0.9 - number / 10)
    assert promote_all(scheduler) == ["t0"]

    assert scheduler.on_report("t0", 1, 0.9) is CONTINUE
    assert scheduler.promotable() is None
    assert scheduler.on_report("t0", 2, 0.5) is CONTINUE
    assert scheduler.on_report("t0", 3, 0.5) is PAUSE


def test_a_paused_trial_that_repeats_its_rung_still_waits_once() -> None:
    scheduler = PromotingAsha(options())
    assert [scheduler.on_report("a", 1, 0.9) for _ in range(5)] == [PAUSE] * 5

    scheduler.on_report("b", 1, 0.1)
    scheduler.on_report("c", 1, 0.2)
    assert promote_all(scheduler) == ["a"]


def test_a_promotion_of_a_trial_that_does_not_wait_changes_nothing() -> None:
    scheduler = PromotingAsha(options())
    scheduler.on_promote("unheard of")
    scheduler.on_report("a", 1, 0.1)
    scheduler.on_report("b", 1, nan)
    scheduler.on_promote("b")

    assert scheduler.on_report("b", 2, 0.9) is STOP
    scheduler.on_report("c", 1, 0.1)
    assert scheduler.promotable() == "a"


def test_a_paused_trial_that_reports_on_was_promoted() -> None:
    scheduler = PromotingAsha(options())
    scheduler.on_report("a", 1, 0.9)
    assert scheduler.on_report("a", 2, 0.9) is CONTINUE

    scheduler.on_report("b", 1, 0.1)
    scheduler.on_report("c", 1, 0.2)
    assert scheduler.promotable() is None


def test_an_ended_trial_is_not_promoted_but_keeps_its_place() -> None:
    scheduler = PromotingAsha(options())
    for number in range(3):
        scheduler.on_report(f"t{number}", 1, 0.9 - number / 10)
    scheduler.on_end("t0")

    assert scheduler.promotable() is None
    assert len(scheduler.rungs[0]) == 3


def promote_all(scheduler: PromotingAsha) -> list[str]:
    promoted = []
    while (trial_id := scheduler.promotable()) is not None:
        scheduler.on_promote(trial_id)
        promoted.append(trial_id)
    return promoted


def test_a_search_that_is_too_small_for_its_rungs_still_trains_one_trial_to_the_end() -> None:
    scheduler = PromotingAsha(options(max_epochs=9))
    for n, value in enumerate([0.1, 0.3]):
        assert scheduler.on_report(f"t{n}", 1, value) is PAUSE
    assert scheduler.promotable() is None
    assert scheduler.finalist() == "t1"

    scheduler.on_promote("t1")
    assert scheduler.finalist() is None
    assert scheduler.on_report("t1", 3, 0.2) is PAUSE
    assert scheduler.finalist() == "t1"
    scheduler.on_promote("t1")
    assert scheduler.finalist() is None
