from collections.abc import Callable, Iterator
from math import inf, nan
from typing import Any

import numpy as np
import optuna
import pytest

from search.asha import Hyperband, PromotingAsha, StoppingAsha, bracket_shares, rung_epochs
from search.schedulers import Decision, SchedulerOptions

CONTINUE, PAUSE, STOP = Decision.CONTINUE, Decision.PAUSE, Decision.STOP
SEEDS = range(20)


def options(
    max_epochs: int = 27, grace: int = 1, factor: int = 3, mode: str = "max", seed: int = 0
) -> SchedulerOptions:
    return SchedulerOptions(
        metric="m", mode=mode, max_epochs=max_epochs, grace_epochs=grace, reduction_factor=factor, seed=seed
    )


def random_options(rng: np.random.Generator, mode: str) -> SchedulerOptions:
    grace = int(rng.integers(1, 4))
    return options(int(rng.integers(grace, 30)), grace, int(rng.integers(2, 5)), mode)


def random_value(rng: np.random.Generator) -> float:
    """One of few values, so that many are equal; one in twenty is not finite."""
    return float(rng.choice([nan, inf, -inf])) if rng.random() < 0.05 else float(rng.integers(8))


def rungs_of(scheduler: Any) -> dict[int, dict[str, float]]:
    return {rung.epoch: rung.values for rung in scheduler.rungs}


@pytest.mark.parametrize(
    ("grace", "max_epochs", "factor", "epochs"),
    [
        (1, 81, 3, [1, 3, 9, 27]),
        (1, 243, 3, [1, 3, 9, 27, 81]),
        (1, 1000, 10, [1, 10, 100]),
        (1, 10, 3, [1, 3, 9]),
        (2, 10, 2, [2, 4, 8]),
        (5, 100, 4, [5, 20, 80]),
        (4, 4, 2, []),
        (1, 1, 3, []),
    ],
)
def test_rungs_are_products_below_the_last_epoch(grace: int, max_epochs: int, factor: int, epochs: list[int]) -> None:
    assert rung_epochs(grace, max_epochs, factor) == epochs
    assert [rung.epoch for rung in StoppingAsha(options(max_epochs, grace, factor)).rungs] == epochs
    assert [rung.epoch for rung in PromotingAsha(options(max_epochs, grace, factor)).rungs] == epochs


class SlowStopping:
    """The stopping rule by full sorts: a list of (trial, value) for each rung."""

    def __init__(self, options: SchedulerOptions) -> None:
        levels = [options.grace_epochs * options.reduction_factor**k for k in range(10)]
        self.rungs: dict[int, list[tuple[str, float]]] = {n: [] for n in levels if n < options.max_epochs}
        self.factor = options.reduction_factor
        self.sign = {"max": 1, "min": -1}[options.mode]

    def on_report(self, trial_id: str, epoch: int, value: float) -> Decision:
        missing = [level for level in self.rungs if trial_id not in dict(self.rungs[level])]
        if not np.isfinite(value):
            for level in missing[:1]:
                self.rungs[level].append((trial_id, -inf))
            return STOP
        passed = [level for level in missing if level <= epoch]
        for level in passed:
            self.rungs[level].append((trial_id, self.sign * value))
        return CONTINUE if all(self.sign * value in self.best(level) for level in passed) else STOP

    def best(self, level: int) -> list[float]:
        values = sorted((value for _, value in self.rungs[level]), reverse=True)
        return values[: max(1, len(values) // self.factor)]


def random_reports(rng: np.random.Generator, max_epochs: int) -> Iterator[tuple[str, int, float]]:
    """Reports of trials that run beside each other and now and then skip epochs."""
    epochs = dict.fromkeys((f"t{n}" for n in range(40)), 0)
    while epochs:
        trial_id = str(rng.choice(list(epochs)))
        epochs[trial_id] += int(rng.choice([1, 1, 1, 1, 3]))
        if epochs[trial_id] <= max_epochs:
            yield trial_id, epochs[trial_id], random_value(rng)
        else:
            del epochs[trial_id]


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("seed", SEEDS)
def test_stopping_is_what_full_sorts_say(seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    chosen = random_options(rng, mode)
    ours, slow = StoppingAsha(chosen), SlowStopping(chosen)
    stopped: set[str] = set()
    for trial_id, epoch, value in random_reports(rng, chosen.max_epochs):
        if trial_id not in stopped:
            decision = ours.on_report(trial_id, epoch, value)
            assert decision is slow.on_report(trial_id, epoch, value)
            stopped |= {trial_id} if decision is STOP else set()

    assert rungs_of(ours) == {level: dict(entries) for level, entries in slow.rungs.items()}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_stopping_is_what_optunas_pruner_does(mode: str) -> None:
    rng = np.random.default_rng(0)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(direction=f"{mode}imize", pruner=pruner)
    ours = StoppingAsha(options(max_epochs=28, mode=mode))
    for number in range(60):
        trial = study.ask()
        for epoch in range(1, 28):
            value = float(rng.integers(30))
            trial.report(value, epoch)
            stop = trial.should_prune()
            assert (ours.on_report(f"t{number}", epoch, value) is STOP) == stop
            if stop:
                break
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)


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


def test_equal_trials_all_pass_a_rung_that_stops() -> None:
    scheduler = StoppingAsha(options())

    assert [scheduler.on_report(f"t{n}", 1, 0.143) for n in range(9)] == [CONTINUE] * 9


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


@pytest.mark.parametrize("build", [StoppingAsha, PromotingAsha])
def test_a_skipped_rung_gets_the_value_that_skipped_it_and_never_a_later_one(build: Callable[..., Any]) -> None:
    scheduler = build(options())
    for epoch, value in ((4, 0.4), (5, 0.5), (8, 0.8), (10, 1.0)):
        scheduler.on_report("a", epoch, value)

    assert rungs_of(scheduler) == {1: {"a": 0.4}, 3: {"a": 0.4}, 9: {"a": 1.0}}


def test_a_trial_that_skipped_rungs_is_compared_at_each() -> None:
    scheduler = StoppingAsha(options())
    scheduler.on_report("a", 1, 0.6)
    scheduler.on_report("b", 4, 0.5)

    assert rungs_of(scheduler) == {1: {"a": 0.6, "b": 0.5}, 3: {"b": 0.5}, 9: {}}
    assert scheduler.on_report("b", 4, 0.5) is STOP


@pytest.mark.parametrize("value", [nan, inf, -inf, None])
@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("build", [StoppingAsha, PromotingAsha])
def test_a_value_that_is_not_finite_stops_at_once_and_is_the_worst_of_the_next_rung(
    build: Callable[..., Any], mode: str, value: float | None
) -> None:
    scheduler = build(options(mode=mode))
    scheduler.on_report("a", 1, 0.5)

    assert scheduler.on_report("a", 2, value) is STOP
    assert scheduler.on_report("b", 1, value) is STOP
    assert rungs_of(scheduler)[3] == {"a": -inf}
    assert list(rungs_of(scheduler)[1].items())[1:] == [("b", -inf)]


def test_diverged_trials_make_room_for_others() -> None:
    scheduler = PromotingAsha(options())
    assert [scheduler.on_report(name, 1, value) for name, value in (("a", 0.1), ("b", nan))] == [PAUSE, STOP]
    assert scheduler.promotable() is None

    scheduler.on_report("c", 1, nan)
    assert scheduler.promotable() == "a"


@pytest.mark.parametrize("build", [StoppingAsha, PromotingAsha])
def test_divergence_beyond_the_last_rung_counts_nowhere(build: Callable[..., Any]) -> None:
    scheduler = build(options(max_epochs=3))
    scheduler.on_report("a", 1, 0.5)

    assert scheduler.on_report("a", 2, nan) is STOP
    assert rungs_of(scheduler) == {1: {"a": 0.5}}


def test_without_rungs_every_trial_runs_to_its_end() -> None:
    for scheduler in (StoppingAsha(options(4, grace=4)), PromotingAsha(options(4, grace=4))):
        decisions = [scheduler.on_report(f"t{n}", epoch, -n) for n in range(5) for epoch in range(1, 5)]
        assert decisions == [CONTINUE] * 20


def test_a_rung_that_is_no_power_short_of_the_end_is_compared_at() -> None:
    scheduler = StoppingAsha(options(max_epochs=10))
    scheduler.on_report("a", 9, 0.9)

    assert scheduler.on_report("b", 9, 0.8) is STOP
    assert scheduler.on_report("c", 10, 0.95) is CONTINUE


def test_an_epoch_before_the_last_gets_what_it_got_and_leaves_the_rungs() -> None:
    scheduler = StoppingAsha(options())
    scheduler.on_report("good", 3, 0.9)
    reports = [(1, 0.95), (2, 0.8), (3, 0.7)]
    decisions = [scheduler.on_report("a", epoch, value) for epoch, value in reports]
    rungs = rungs_of(scheduler)

    assert decisions == [CONTINUE, CONTINUE, STOP]
    assert [scheduler.on_report("a", epoch, 0.1) for epoch, _ in reports] == decisions
    assert rungs_of(scheduler) == rungs


def test_a_stopped_trial_that_goes_on_from_its_checkpoint_is_stopped_again() -> None:
    """Its driver died between the report and the end."""
    scheduler = StoppingAsha(options())
    scheduler.on_report("good", 1, 0.9)

    assert [scheduler.on_report("a", 1, 0.5), scheduler.on_report("a", 2, 0.99)] == [STOP, STOP]


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


def test_hyperbands_brackets_begin_one_rung_later_each_and_the_last_has_none() -> None:
    scheduler = Hyperband(options())

    assert [[rung.epoch for rung in bracket.rungs] for bracket in scheduler.brackets] == [[1, 3, 9], [3, 9], [9], []]


def test_hyperbands_shares_are_the_trials_that_its_brackets_begin_with() -> None:
    """Algorithm 1, line 2, for R = 81 and η = 3, before it is rounded up."""
    trials = np.array([81, 5 / 4 * 27, 5 / 3 * 9, 5 / 2 * 3, 5])

    assert np.ceil(trials).tolist() == [81, 34, 15, 8, 5]
    assert bracket_shares(5, 3) == pytest.approx(trials / trials.sum())
    assert bracket_shares(1, 3) == [1.0]


def test_hyperband_draws_brackets_by_their_shares_from_its_seed_and_the_trials_id() -> None:
    def draws(seed: int) -> list[int]:
        scheduler = Hyperband(options(seed=seed))
        return [scheduler.brackets.index(scheduler.bracket_of(f"trial_{n:04d}")) for n in range(2000)]

    first = draws(1)
    assert np.bincount(first) / len(first) == pytest.approx(bracket_shares(4, 3), abs=0.03)
    assert draws(1) == first
    assert draws(2) != first


def test_hyperband_compares_a_trial_with_those_of_its_bracket_alone() -> None:
    scheduler = Hyperband(options())
    names = [f"trial_{n:04d}" for n in range(60)]
    for number, name in enumerate(names):
        scheduler.on_report(name, 9, number)

    for bracket in scheduler.brackets:
        alone = StoppingAsha(options(grace=bracket.rungs[0].epoch if bracket.rungs else 27))
        own = [name for name in names if scheduler.bracket_of(name) is bracket]
        assert own
        assert [alone.on_report(name, 9, names.index(name)) for name in own] == [
            scheduler.on_report(name, 9, 0.0) for name in own
        ]


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
