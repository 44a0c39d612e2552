"""Options, values and rungs for the tests of ASHA and Hyperband."""

from math import inf, nan
from typing import Any

import numpy as np

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
