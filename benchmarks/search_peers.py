"""Other libraries' search algorithms behind our protocols, for benchmarks/search_algorithms.py."""

import logging
import math
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np

from search.dimensions import Choice, Dimension, LogUniform, RandInt, Uniform
from search.schedulers import Decision, RunAll, SchedulerOptions
from search.spaces import Space
from search.trials import Report, TrialRecord


class RayAsha(RunAll):
    """Ray's `AsyncHyperBandScheduler`; it draws brackets from numpy's global generator, which is seeded for it."""

    def __init__(self, options: SchedulerOptions) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler

        np.random.seed(options.seed)  # noqa: NPY002
        self._metric = options.metric
        self._trials: dict[str, Any] = {}
        self._scheduler = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric=options.metric,
            mode=options.mode,
            max_t=options.max_epochs,
            grace_period=options.grace_epochs,
            reduction_factor=options.reduction_factor,
        )

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """Ask Ray's."""
        if trial_id not in self._trials:
            self._trials[trial_id] = SimpleNamespace(trial_id=trial_id)
            self._scheduler.on_trial_add(None, self._trials[trial_id])
        result = {"epoch": epoch, self._metric: math.nan if value is None else value}
        return Decision(self._scheduler.on_trial_result(None, self._trials[trial_id], result))


class _Draws:
    """A searcher that hears of reports through its scheduler."""

    def restore(self, trial: TrialRecord) -> None:
        """No search of a benchmark is taken up again."""

    def on_report(self, trial: TrialRecord, report: Report) -> None:
        """The scheduler was told."""


class OptunaDraws(_Draws):
    """Optuna's TPE in ask and tell."""

    def __init__(self, space: Space, options: SchedulerOptions) -> None:
        import optuna

        optuna.logging.set_verbosity(logging.WARNING)
        self._space, self._metric = space, options.metric
        self.trials: dict[str, Any] = {}
        self._study = optuna.create_study(
            direction={"max": "maximize", "min": "minimize"}[options.mode],
            sampler=optuna.samplers.TPESampler(seed=options.seed),
            pruner=optuna.pruners.HyperbandPruner(
                min_resource=options.grace_epochs,
                max_resource=options.max_epochs,
                reduction_factor=options.reduction_factor,
            ),
        )

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Ask."""
        distributions = {name: _distribution(dimension) for name, dimension in self._space.draws().items()}
        self.trials[trial_id] = self._study.ask(distributions)
        return {**self._space.fixed(), **self.trials[trial_id].params}

    def on_end(self, trial: TrialRecord) -> None:
        """Tell."""
        from optuna.trial import TrialState

        state = {"FINISHED": TrialState.COMPLETE, "STOPPED": TrialState.PRUNED, "FAILED": TrialState.FAIL}[trial.state]
        value = trial.reports[-1][self._metric] if trial.state == "FINISHED" else None
        self._study.tell(self.trials[trial.trial_id], value, state=state)


class OptunaPruner(RunAll):
    """Optuna's Hyperband pruner, asked after each report."""

    def __init__(self, draws: OptunaDraws) -> None:
        self._trials = draws.trials

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """Tell an intermediate value, then ask."""
        trial = self._trials[trial_id]
        trial.report(math.nan if value is None else value, step=epoch)
        return Decision.STOP if trial.should_prune() else Decision.CONTINUE


class SyneTuneDraws(_Draws):
    """Syne Tune's ASHA, as far as it draws."""

    def __init__(self, space: Space, options: SchedulerOptions) -> None:
        from syne_tune.optimizer.baselines import ASHA

        logging.getLogger("syne_tune").setLevel(logging.WARNING)
        self._space = space
        self.trials: dict[str, Any] = {}
        self.scheduler = ASHA(
            config_space={name: _syne_tune_domain(dimension) for name, dimension in space.draws().items()},
            metric=options.metric,
            do_minimize=options.mode == "min",
            time_attr="epoch",
            max_t=options.max_epochs,
            grace_period=options.grace_epochs,
            reduction_factor=options.reduction_factor,
            random_seed=options.seed,
        )

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Ask."""
        from syne_tune.backend.trial_status import Trial

        config = self.scheduler.suggest().config
        self.trials[trial_id] = Trial(trial_id=len(self.trials), config=config, creation_time=datetime.now())
        self.scheduler.on_trial_add(self.trials[trial_id])
        return {**self._space.fixed(), **config}

    def on_end(self, trial: TrialRecord) -> None:
        """Tell that a trial ran to its end."""
        if trial.state == "FINISHED":
            self.scheduler.on_trial_complete(self.trials[trial.trial_id], dict(trial.reports[-1]))


class SyneTuneStops(RunAll):
    """Syne Tune's ASHA, as far as it stops."""

    def __init__(self, draws: SyneTuneDraws, options: SchedulerOptions) -> None:
        self._draws, self._metric = draws, options.metric

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """Ask."""
        result = {"epoch": epoch, self._metric: math.nan if value is None else value}
        return Decision(self._draws.scheduler.on_trial_result(self._draws.trials[trial_id], result))


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    match dimension:
        case LogUniform(low, high):
            return distributions.FloatDistribution(low, high, log=True)
        case Uniform(low, high):
            return distributions.FloatDistribution(low, high)
        case RandInt(low, high):
            return distributions.IntDistribution(low, high)
    return distributions.CategoricalDistribution(dimension.edges())


def _syne_tune_domain(dimension: Dimension) -> Any:
    from syne_tune.config_space import choice, loguniform, randint, uniform

    match dimension:
        case LogUniform(low, high):
            return loguniform(low, high)
        case Uniform(low, high):
            return uniform(low, high)
        case RandInt(low, high):
            return randint(low, high)
        case Choice(values):
            return choice(list(values))
    raise TypeError(dimension)
