"""What draws the next trial's hyperparameters: at random, by Optuna's samplers, by HyperOpt's TPE.

A searcher draws configs and is told what became of them, by the records of the ledger: in a search, in the simulator,
and where a search goes on after its driver died, which is when `restore` tells it what was drawn before. The same seed
and the same records give the same draws. `build_searcher` turns an algorithm's name into one; objects inside.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from search.dimensions import Value
from search.spaces import Space
from search.trials import Report, TrialRecord, is_finite
from trainable.errors import ConfigError, nearest

REDRAWS = 1000
"""So many draws in a row that were all drawn before mean that the space has nothing more."""
TRIES = 20
"""So many suggestions of a model for one trial that were all drawn before make the trial a random one."""


class Searcher(Protocol):
    """Draws configs and learns from what became of them."""

    def suggest(self, trial_id: str) -> dict[str, Value] | None:
        """The next trial's hyperparameters: every dimension of the space that acts, fixed ones included.

        None where everything that can be drawn was drawn: no config is drawn twice.
        """
        ...

    def restore(self, trial: TrialRecord) -> None:
        """A trial that was drawn before, ended or not, with all its reports; called in order of the trials' numbers."""
        ...

    def on_report(self, trial: TrialRecord, report: Report) -> None:
        """An epoch of a trial is over; its numbers are finite, and no epoch comes twice."""
        ...

    def on_end(self, trial: TrialRecord) -> None:
        """A trial is over: FINISHED, STOPPED by the scheduler, or FAILED."""
        ...


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a search looks for; the scheduler and the best trial go by the first of several metrics."""

    metric: str
    mode: str
    """`max` or `min`."""
    further: tuple[tuple[str, str], ...] = ()
    """Second and later metrics, each with its mode."""

    @property
    def metrics(self) -> tuple[tuple[str, str], ...]:
        """Every metric with its mode."""
        return ((self.metric, self.mode), *self.further)

    def values(self, report: Mapping[str, Any]) -> list[float] | None:
        """What a report says of each metric; None where one is missing or not finite."""
        values = [report.get(name) for name, _ in self.metrics]
        return [float(value) for value in values if value is not None] if all(map(is_finite, values)) else None

    def result(self, trial: TrialRecord) -> list[float] | None:
        """What an ended trial reached with its last report; None where it failed or that is not finite."""
        return self.values(trial.reports[-1]) if trial.reports and trial.state != "FAILED" else None


@dataclass(frozen=True, kw_only=True)
class SearcherOptions:
    """What a searcher is built from."""

    space: Space
    objective: Objective
    seed: int
    sampler: str | None = None
    """One of `search.optuna_searcher.SAMPLERS`, for `optuna` alone."""
    journal: Path | None = None
    """File of Optuna's journal storage, which a searcher of Optuna's writes; None keeps its study in memory."""


class RandomSearcher:
    """Independent draws; the n-th depends on the seed and n alone, and one that was drawn before is passed over."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._drawn = 0
        self._known: set[Any] = set()
        self._ahead: deque[tuple[Any, ...]] = deque()
        """What the next draws are, as far as that was looked at."""

    def suggest(self, trial_id: str) -> dict[str, Value] | None:
        """Draw the next config."""
        for _ in range(REDRAWS):
            config = self._draw()
            if identity(self._space, config) not in self._known:
                self._known.add(identity(self._space, config))
                return config
        return None

    def restore(self, trial: TrialRecord) -> None:
        """Draw past the config of a trial; one that this seed does not draw next is only remembered."""
        key = identity(self._space, trial.config)
        self._known.add(key)
        for place in range(REDRAWS):
            if place == len(self._ahead):
                self._ahead.append(identity(self._space, self._config(self._drawn + place)))
            if self._ahead[place] == key:
                for _ in range(place + 1):
                    self._draw()
                return

    def on_report(self, trial: TrialRecord, report: Report) -> None:
        """Random draws learn nothing."""

    def on_end(self, trial: TrialRecord) -> None:
        """Random draws learn nothing."""

    def _draw(self) -> dict[str, Value]:
        config = self._config(self._drawn)
        self._drawn += 1
        if self._ahead:
            self._ahead.popleft()
        return config

    def _config(self, number: int) -> dict[str, Value]:
        return self._space.sample(np.random.default_rng((self._seed, number)))


class Drawn:
    """The configs that were drawn, so that a model's suggestions are passed over where they come again.

    They are not told to the model: its history then holds the trials of the ledger and nothing else, and can be rebuilt
    from them.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._known: set[Any] = set()

    def find(self, number: int, draw: Callable[[int], dict[str, Value]], tries: int = TRIES) -> dict[str, Value] | None:
        """A new config for the search's `number`-th trial: of `draw`, which gets a seed, else a random one.

        None where random draws bring nothing new either.
        """
        for attempt in range(tries + REDRAWS):
            seed = _mixed(self._seed, number, attempt)
            config = draw(seed) if attempt < tries else self._space.sample(np.random.default_rng(seed))
            if identity(self._space, config) not in self._known:
                self.remember(config)
                return config
        return None

    def remember(self, config: Mapping[str, Any]) -> None:
        """A config was drawn."""
        self._known.add(identity(self._space, config))


def identity(space: Space, config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one config from another: the values of the dimensions that vary and act, true and 1 apart."""
    acting = space.acting(config)
    return tuple((type(acting.get(name)) is bool, acting.get(name)) for name in space.draws())


def build_searcher(algorithm: str, options: SearcherOptions) -> Searcher:
    """The searcher of an algorithm's name; raises `ConfigError` for an unknown name or a space with nothing to draw."""
    if algorithm not in SEARCHERS:
        raise ConfigError(f"--algo must name a search algorithm, but got {algorithm!r}.{nearest(algorithm, SEARCHERS)}")
    return SEARCHERS[algorithm](options)


def _build_random(options: SearcherOptions) -> Searcher:
    return RandomSearcher(options.space, options.seed)


def _build_optuna(options: SearcherOptions) -> Searcher:
    from search.optuna_searcher import OptunaSearcher

    _require_draws("optuna", options.space)
    return OptunaSearcher(options)


def _build_hyperopt(options: SearcherOptions) -> Searcher:
    from search.hyperopt_searcher import HyperOptSearcher

    _require_draws("hyperopt", options.space)
    return HyperOptSearcher(options)


SEARCHERS: dict[str, Callable[[SearcherOptions], Searcher]] = {
    "asha": _build_random,
    "random": _build_random,
    "optuna": _build_optuna,
    "hyperopt": _build_hyperopt,
}
"""Algorithm -> builder. `asha` draws at random; what makes it ASHA is its scheduler."""


def _mixed(*numbers: int) -> int:
    """A seed of 32 bits from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _require_draws(algorithm: str, space: Space) -> None:
    if not space.draws():
        raise ConfigError(f"--algo {algorithm} needs a dimension that varies, but the space fixes all of them.")
