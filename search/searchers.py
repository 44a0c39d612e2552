"""What draws the next trial's hyperparameters: random sampling, TPE of Optuna, TPE of HyperOpt.

A searcher is three calls, with which a driver, a simulator and a replay of the ledger all work: `suggest` a config,
`on_report` of an epoch, `on_end` of a trial. `build_searcher` turns an algorithm's name into one; objects inside.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from search.dimensions import Choice, Dimension, Fixed, LogUniform, RandInt, Uniform, Value
from search.spaces import Space
from trainable.errors import ConfigError, nearest


class Searcher(Protocol):
    """Draws configs and learns from what became of them."""

    def suggest(self, trial_id: str) -> dict[str, Value]:
        """The next trial's hyperparameters: every dimension of the space, fixed ones included."""
        ...

    def on_report(self, trial_id: str, epoch: int, value: float) -> None:
        """A trial reached a finite `value` of the metric at the end of `epoch`."""
        ...

    def on_end(self, trial_id: str, value: float | None) -> None:
        """A trial is over, at its last `value` of the metric; None where it failed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a search looks for."""

    metric: str
    mode: str
    """`max` or `min`."""


class RandomSearcher:
    """Independent draws; the n-th depends on the seed and n alone."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._drawn = 0

    def suggest(self, trial_id: str) -> dict[str, Value]:
        """Draw the next config."""
        config = self._space.sample(np.random.default_rng((self._seed, self._drawn)))
        self._drawn += 1
        return config

    def on_report(self, trial_id: str, epoch: int, value: float) -> None:
        """Random draws learn nothing."""

    def on_end(self, trial_id: str, value: float | None) -> None:
        """Random draws learn nothing."""


class RaySearcher:
    """A searcher of `ray.tune.search`, told of failures as failures.

    Without this, a result that lacks the metric leaves an Optuna trial RUNNING for ever and makes HyperOpt raise.
    """

    def __init__(self, searcher: Any, space: Space, metric: str) -> None:
        self._searcher = searcher
        self._space = space
        self._metric = metric
        self._epochs: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Value]:
        """Ask the library for the dimensions that vary."""
        drawn = self._searcher.suggest(trial_id)
        dimensions = self._space.draws()
        return {**self._space.fixed(), **{name: _within(dimensions[name], value) for name, value in drawn.items()}}

    def on_report(self, trial_id: str, epoch: int, value: float) -> None:
        """Tell an intermediate value; an epoch reported again, after a restart, is passed over."""
        if epoch > self._epochs.get(trial_id, 0):
            self._epochs[trial_id] = epoch
            self._searcher.on_trial_result(trial_id, {"training_iteration": epoch, self._metric: value})

    def on_end(self, trial_id: str, value: float | None) -> None:
        """Tell the final value, or an error."""
        self._epochs.pop(trial_id, None)
        if value is None:
            self._searcher.on_trial_complete(trial_id, error=True)
        else:
            self._searcher.on_trial_complete(trial_id, {self._metric: value})


def build_searcher(algorithm: str, space: Space, objective: Objective, *, seed: int) -> Searcher:
    """The searcher of an algorithm's name; raises `ConfigError` for an unknown name or a space with nothing to draw."""
    if algorithm not in SEARCHERS:
        raise ConfigError(f"--algo must name a search algorithm, but got {algorithm!r}.{nearest(algorithm, SEARCHERS)}")
    return SEARCHERS[algorithm](space, objective, seed)


def _build_random(space: Space, objective: Objective, seed: int) -> Searcher:
    return RandomSearcher(space, seed)


def _build_optuna(space: Space, objective: Objective, seed: int) -> Searcher:
    """TPE: Bergstra et al., NeurIPS 2011, section 4; constants as Optuna sets them."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    _require_draws("optuna", space)
    optuna.logging.set_verbosity(logging.WARNING)
    searcher = OptunaSearch(
        {name: _optuna_distribution(dimension) for name, dimension in space.draws().items()},
        metric=objective.metric,
        mode=objective.mode,
        sampler=optuna.samplers.TPESampler(seed=seed),
    )
    return RaySearcher(searcher, space, objective.metric)


def _build_hyperopt(space: Space, objective: Objective, seed: int) -> Searcher:
    """TPE: Bergstra et al., NeurIPS 2011, section 4; constants as Ray sets them."""
    from ray.tune.search.hyperopt import HyperOptSearch

    _require_draws("hyperopt", space)
    logging.getLogger("hyperopt").setLevel(logging.WARNING)
    searcher = HyperOptSearch(
        {name: _hyperopt_expression(name, dimension) for name, dimension in space.draws().items()},
        metric=objective.metric,
        mode=objective.mode,
        random_state_seed=seed,
    )
    return RaySearcher(searcher, space, objective.metric)


SEARCHERS: dict[str, Callable[[Space, Objective, int], Searcher]] = {
    "asha": _build_random,
    "random": _build_random,
    "optuna": _build_optuna,
    "hyperopt": _build_hyperopt,
}
"""Algorithm -> builder. `asha` draws at random; what makes it ASHA is its scheduler."""


def _require_draws(algorithm: str, space: Space) -> None:
    if not space.draws():
        raise ConfigError(f"--algo {algorithm} needs a dimension that varies, but the space fixes all of them.")


def _optuna_distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    match dimension:
        case Uniform(low, high):
            return distributions.FloatDistribution(low, high)
        case LogUniform(low, high):
            return distributions.FloatDistribution(low, high, log=True)
        case RandInt(low, high):
            return distributions.IntDistribution(low, high)
        case Choice(values):
            return distributions.CategoricalDistribution(values)
        case Fixed(value):
            return distributions.CategoricalDistribution((value,))


def _hyperopt_expression(name: str, dimension: Dimension) -> Any:
    from hyperopt import hp

    match dimension:
        case Uniform(low, high):
            return hp.uniform(name, low, high)
        case LogUniform(low, high):
            return hp.loguniform(name, math.log(low), math.log(high))
        case RandInt(low, high):
            return hp.uniformint(name, low, high)
        case Choice(values):
            return hp.choice(name, list(values))
        case Fixed(value):
            return hp.choice(name, [value])


def _within(dimension: Dimension, value: Any) -> Value:
    """A drawn value as plain Python, a float clipped to its bounds: exp(ln x) may miss x by a rounding."""
    value = value.item() if hasattr(value, "item") else value
    match dimension:
        case Uniform(low, high) | LogUniform(low, high):
            return min(max(float(value), low), high)
        case _:
            plain: Value = value
            return plain
