"""Optuna's samplers behind `search.searchers.Searcher`: ask and tell, on a study of our own.

The study that the samplers learn from is kept in memory and follows from the ledger's records alone. A trial is told
with what its end says of its config:

    FINISHED                    COMPLETE, with the values of its last report: the objective at full length
    STOPPED by the scheduler    PRUNED, with its intermediate values
    FAILED, or not finite       FAIL; so is a trial that ended without a report

Optuna refuses intermediate values, and values of a pruned trial, where there are several objectives: a stopped trial
is then PRUNED without any, which TPE takes for worse than every complete one, and its last values stand in the user
attribute `last_values`. Of the samplers only `tpe` and `cmaes` learn from stopped trials; `gp` and `nsga2` look at
complete ones. `ray.tune.search.optuna.OptunaSearch` tells stopped trials as complete and loses those that are not
finite; `tests/search/test_ray_search_holes.py` shows both beside what is done here.
"""

import importlib.util
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.dimensions import Choice, Dimension, Fixed, LogUniform, RandInt, Uniform, Value, can_hold
from search.optuna_journal import NUMBER, STUDY_NAME, TRIAL_ID, Journal
from search.searchers import TRIES, Drawn, Objective, SearcherOptions
from search.trials import Report, TrialRecord
from trainable.errors import ConfigError, nearest

DEFAULT_SAMPLER = "tpe"
LAST_VALUES = "last_values"
"""User attribute of a stopped trial of several objectives: what it reached."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """One of Optuna's samplers, built anew for every draw with the seed of that draw."""

    build: Callable[[int], BaseSampler]
    tries: int = TRIES
    """Suggestions for one trial, until one is new."""
    keeps_state: bool = False
    """Whether it writes what it learned into the trials that it is asked for."""
    single_objective: bool = False
    package: str | None = None
    """What it needs beyond Optuna's own requirements."""


SAMPLERS: dict[str, Sampler] = {
    "tpe": Sampler(
        build=lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    ),
    "gp": Sampler(
        build=lambda seed: optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False),
        tries=2,
        package="torch",
    ),
    "cmaes": Sampler(
        build=lambda seed: optuna.samplers.CmaEsSampler(
            seed=seed, warn_independent_sampling=False, consider_pruned_trials=True
        ),
        keeps_state=True,
        single_objective=True,
        package="cmaes",
    ),
    "nsga2": Sampler(build=lambda seed: optuna.samplers.NSGAIISampler(seed=seed), keeps_state=True),
}
"""Name -> sampler. TPE models dimensions together (arXiv 2304.11127, section 3.3), and counts running trials as bad
ones, so that parallel slots draw apart. CMA-ES draws what is a choice at random; its draws, and going on with it, take
time in proportion to all trials before (0.4 s a draw after 1,000), because it copies each that was stopped."""


class OptunaSearcher:
    """Draws from a study of Optuna's; the n-th draw depends on the seed, n and the records of the trials before.

    Raises `ConfigError` for an unknown sampler, one that lacks its package, or one that cannot serve the objective.
    """

    def __init__(self, options: SearcherOptions) -> None:
        optuna.logging.set_verbosity(logging.ERROR)
        self._sampler = _sampler_of(options)
        self._space = options.space
        self._objective = options.objective
        self._distributions = {name: _distribution(which) for name, which in options.space.draws().items()}
        self._drawn = Drawn(options.space, options.seed)
        self._given = _Given()
        self._storage = optuna.storages.InMemoryStorage()
        directions = [_DIRECTIONS[mode] for _, mode in options.objective.metrics]
        self.study = optuna.create_study(
            storage=self._storage, sampler=self._given, study_name=STUDY_NAME, directions=directions
        )
        """What the samplers learn from; in memory."""
        self._journal = None if options.journal is None else Journal(options.journal, directions)
        self._running: dict[str, optuna.Trial] = {}
        self._untold: list[TrialRecord] = []
        self._next_number = 0

    def suggest(self, trial_id: str) -> dict[str, Value] | None:
        """Ask the sampler."""
        self._tell_restored(math.inf)
        asked = self.study.ask()
        config = self._drawn.find(asked.number, lambda seed: self._draw(asked, seed), self._sampler.tries)
        if config is None:
            self.study.tell(asked, state=TrialState.FAIL)
            return None
        self._begin(
            asked, TrialRecord(trial_id=trial_id, number=self._next_number, config=config, created_time=time.time())
        )
        return config

    def restore(self, trial: TrialRecord) -> None:
        """Put a trial into the study, as it was asked for: after those that had ended by then."""
        self._tell_restored(trial.created_time)
        self._drawn.remember(trial.config)
        asked = self.study.ask()
        if self._sampler.keeps_state:
            self._draw(asked, seed=0)
        self._begin(asked, trial)
        if trial.ended:
            self._untold.append(trial)

    def on_report(self, trial: TrialRecord, report: Report) -> None:
        """Tell an intermediate value."""
        if self._report(trial, report) and self._journal is not None:
            self._journal.report(trial.trial_id, report["epoch"], report[self._objective.metric])

    def on_end(self, trial: TrialRecord) -> None:
        """Tell the end."""
        self._tell(trial)
        if self._journal is not None:
            self._journal.end(self._frozen(trial))

    def _draw(self, asked: optuna.Trial, seed: int) -> dict[str, Value]:
        """What the sampler, newly seeded, suggests for a trial that was asked for."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = self._sampler.build(seed)
            trial = self._storage.get_trial(asked._trial_id)
            related = sampler.sample_relative(self.study, trial, sampler.infer_relative_search_space(self.study, trial))

        def value(name: str, dimension: Dimension) -> Value:
            if isinstance(dimension, Fixed):
                return dimension.value
            if name in related:
                return _within(dimension, related[name])
            distribution = self._distributions[name]
            return _within(dimension, sampler.sample_independent(self.study, trial, name, distribution))

        return self._space.compose(value)

    def _begin(self, asked: optuna.Trial, trial: TrialRecord) -> None:
        """Fill in a trial that was asked for, with the reports that it has."""
        for key in self._storage.get_trial(asked._trial_id).system_attrs:
            if "relative_params" in key:  # a sampler's note to others of what it draws, which is no more than a draft
                self._storage.set_trial_system_attr(asked._trial_id, key, "")
        self._given.config = self._params(trial.config)
        for name in self._given.config:
            _suggest(asked, name, self._space.dimensions[name])
        asked.set_user_attr(TRIAL_ID, trial.trial_id)
        asked.set_user_attr(NUMBER, trial.number)
        self._running[trial.trial_id] = asked
        self._next_number = trial.number + 1
        for report in trial.reports:
            self._report(trial, report)
        if self._journal is not None:
            self._journal.begin(self._frozen(trial))

    def _report(self, trial: TrialRecord, report: Report) -> bool:
        """Tell an intermediate value; returns whether Optuna takes it."""
        values = self._objective.values(report)
        taken = values is not None and not self._objective.further
        if taken and values is not None:
            self._running[trial.trial_id].report(values[0], report["epoch"])
        return taken

    def _tell_restored(self, until: float) -> None:
        """Tell the trials of before that had ended at a time."""
        told = [trial for trial in self._untold if (trial.ended_time or 0.0) <= until]
        self._untold = [trial for trial in self._untold if (trial.ended_time or 0.0) > until]
        for trial in told:
            self._tell(trial)

    def _tell(self, trial: TrialRecord) -> None:
        asked = self._running.pop(trial.trial_id)
        frozen = self._frozen(trial)
        for name, value in frozen.user_attrs.items():
            asked.set_user_attr(name, value)
        self.study.tell(asked, frozen.values if frozen.state == TrialState.COMPLETE else None, state=frozen.state)

    def _frozen(self, trial: TrialRecord) -> FrozenTrial:
        """A trial as the study shows it."""
        state = _state_of(trial, self._objective)
        values = self._objective.result(trial) if state in (TrialState.COMPLETE, TrialState.PRUNED) else None
        attributes: dict[str, Any] = {TRIAL_ID: trial.trial_id, NUMBER: trial.number}
        if state == TrialState.PRUNED and self._objective.further:
            attributes[LAST_VALUES], values = values, None
        params = self._params(trial.config)
        frozen = optuna.create_trial(
            state=state,
            values=values,
            params=params,
            distributions={name: self._distributions[name] for name in params},
            user_attrs=attributes,
            intermediate_values=self._intermediate_values(trial),
        )
        frozen.datetime_start = datetime.fromtimestamp(trial.created_time)
        if state.is_finished():
            frozen.datetime_complete = datetime.fromtimestamp(trial.ended_time or trial.created_time)
        return frozen

    def _intermediate_values(self, trial: TrialRecord) -> dict[int, float]:
        if self._objective.further:
            return {}
        values = {report["epoch"]: self._objective.values(report) for report in trial.reports}
        return {epoch: value[0] for epoch, value in values.items() if value is not None}

    def _params(self, config: Mapping[str, Any]) -> dict[str, Value]:
        """The drawn part of a config, without values that the space cannot draw."""
        acting = self._space.acting(config)
        dimensions = self._space.draws()
        return {
            name: acting[name] for name in acting if name in dimensions and can_hold(dimensions[name], acting[name])
        }


class _Given(BaseSampler):
    """Gives a trial the config that was found for it."""

    def __init__(self) -> None:
        self.config: dict[str, Value] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.config[param_name]


_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}


def _sampler_of(options: SearcherOptions) -> Sampler:
    name = options.sampler or DEFAULT_SAMPLER
    if name not in SAMPLERS:
        raise ConfigError(f"--sampler must name one of Optuna's samplers, but got {name!r}.{nearest(name, SAMPLERS)}")
    sampler = SAMPLERS[name]
    if sampler.package is not None and importlib.util.find_spec(sampler.package) is None:
        raise ConfigError(
            f"--sampler {name} needs the package {sampler.package}, which is not installed: "
            f"pip install {sampler.package}, or use --sampler {DEFAULT_SAMPLER}."
        )
    if sampler.single_objective and options.objective.further:
        raise ConfigError(
            f"--sampler {name} must have one metric, but got "
            f"{', '.join(metric for metric, _ in options.objective.metrics)}: use --sampler nsga2 for several."
        )
    return sampler


def _state_of(trial: TrialRecord, objective: Objective) -> TrialState:
    if not trial.ended:
        return TrialState.RUNNING
    if objective.result(trial) is None:
        return TrialState.FAIL
    return TrialState.COMPLETE if trial.state == "FINISHED" else TrialState.PRUNED


def _distribution(dimension: Dimension) -> BaseDistribution:
    match dimension:
        case Uniform(low, high):
            return FloatDistribution(low, high)
        case LogUniform(low, high):
            return FloatDistribution(low, high, log=True)
        case RandInt(low, high):
            return IntDistribution(low, high)
        case Choice(values):
            return CategoricalDistribution(values)
        case Fixed(value):
            return CategoricalDistribution((value,))


def _suggest(trial: optuna.Trial, name: str, dimension: Dimension) -> None:
    """Ask a trial for a dimension's value, as a function to optimise would."""
    match dimension:
        case Uniform(low, high):
            trial.suggest_float(name, low, high)
        case LogUniform(low, high):
            trial.suggest_float(name, low, high, log=True)
        case RandInt(low, high):
            trial.suggest_int(name, low, high)
        case Choice(values):
            trial.suggest_categorical(name, values)
        case Fixed():
            pass


def _within(dimension: Dimension, value: Any) -> Value:
    """A drawn value as plain Python, a number clipped to its bounds: exp(ln x) may miss x by a rounding."""
    value = value.item() if hasattr(value, "item") else value
    match dimension:
        case Uniform(low, high) | LogUniform(low, high):
            return min(max(float(value), low), high)
        case _:
            plain: Value = value
            return plain
