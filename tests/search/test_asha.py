"""What ASHA in both its forms does, and stopping against a slow reference and Optuna."""

from collections.abc import Callable, Iterator
from math import inf, nan
from typing import Any

import numpy as np
import optuna
import pytest

from search.asha import PromotingAsha, StoppingAsha, rung_epochs
from search.schedulers import Decision, SchedulerOptions
from tests.search.asha_cases import CONTINUE, SEEDS, STOP, options, random_options, random_value, rungs_of


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


def test_equal_trials_all_pass_a_rung_that_stops() -> None:
    scheduler = StoppingAsha(options())

    assert [scheduler.on_report(f"t{n}", 1, 0.143) for n in range(9)] == [CONTINUE] * 9


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
