"""HyperOpt's TPE behind `search.searchers.Searcher`, stepped by hand: its trials are documents that we keep.

TPE: Bergstra et al., NeurIPS 2011, section 4; constants as HyperOpt sets them. It draws each dimension apart, so a
dimension that does not act in a trial is left out of that trial's document, as HyperOpt itself leaves out the branch
of a choice that was not taken. A trial is told with what its end says of its config:

    FINISHED, or STOPPED        done, with the last value of the metric as its loss
    not finite                  done with the status `fail`, which TPE takes for the worst there is
    FAILED                      error, which TPE passes over; so it does a trial that ended without a report
"""

import logging
import math
from collections.abc import Mapping
from typing import Any

from hyperopt import JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_RUNNING, STATUS_FAIL, STATUS_OK, Trials, hp, tpe
from hyperopt.base import Domain

from search.dimensions import Choice, Dimension, Fixed, LogUniform, RandInt, Uniform, Value
from search.searchers import Drawn, SearcherOptions
from search.trials import Report, TrialRecord
from trainable.errors import ConfigError


class HyperOptSearcher:
    """Draws by TPE; the n-th draw depends on the seed, n and the records of the trials before.

    Raises `ConfigError` where there are several metrics.
    """

    def __init__(self, options: SearcherOptions) -> None:
        if options.objective.further:
            raise ConfigError(
                "--algo hyperopt must have one metric, but got "
                f"{', '.join(metric for metric, _ in options.objective.metrics)}: use --algo optuna for several."
            )
        logging.getLogger("hyperopt").setLevel(logging.WARNING)
        self._space = options.space
        self._objective = options.objective
        self._sign = -1.0 if options.objective.mode == "max" else 1.0
        self._drawn = Drawn(options.space, options.seed)
        self._domain = Domain(
            _nothing_to_run, {name: _expression(name, which) for name, which in options.space.draws().items()}
        )
        self.trials = Trials()
        """What TPE learns from."""
        self._running: dict[str, dict[str, Any]] = {}

    def suggest(self, trial_id: str) -> dict[str, Value] | None:
        """Ask TPE."""
        config = self._drawn.find(self._count, self._draw)
        if config is not None:
            self._begin(trial_id, config)
        return config

    def restore(self, trial: TrialRecord) -> None:
        """Put a trial among the others."""
        self._drawn.remember(trial.config)
        self._begin(trial.trial_id, trial.config)
        if trial.ended:
            self.on_end(trial)

    def on_report(self, trial: TrialRecord, report: Report) -> None:
        """TPE learns from ends alone."""

    def on_end(self, trial: TrialRecord) -> None:
        """Tell the end."""
        document = self._running.pop(trial.trial_id)
        values = self._objective.result(trial)
        if trial.state == "FAILED" or not trial.reports:
            document["state"] = JOB_STATE_ERROR
        elif values is None:
            document.update(state=JOB_STATE_DONE, result={"status": STATUS_FAIL})
        else:
            document.update(state=JOB_STATE_DONE, result={"status": STATUS_OK, "loss": self._sign * values[0]})
        self.trials.refresh()

    @property
    def _count(self) -> int:
        """How many trials were drawn, those that failed included."""
        return len(self.trials._dynamic_trials)

    def _draw(self, seed: int) -> dict[str, Value]:
        """What TPE suggests."""
        (document,) = tpe.suggest([self._count], self._domain, self.trials, seed, verbose=False)
        values = document["misc"]["vals"]
        return self._space.compose(
            lambda name, which: which.value if isinstance(which, Fixed) else _decoded(which, values[name][0])
        )

    def _begin(self, trial_id: str, config: Mapping[str, Any]) -> None:
        """Add the document of a trial that has begun."""
        number, acting = self._count, self._space.acting(config)
        values = {name: _encoded(which, acting.get(name)) for name, which in self._space.draws().items()}
        misc = {
            "tid": number,
            "cmd": self._domain.cmd,
            "workdir": None,
            "idxs": {name: [number] * len(value) for name, value in values.items()},
            "vals": values,
        }
        (document,) = self.trials.new_trial_docs([number], [None], [self._domain.new_result()], [misc])
        document["state"] = JOB_STATE_RUNNING
        self.trials.insert_trial_docs([document])
        self._running[trial_id] = self.trials._dynamic_trials[-1]
        self.trials.refresh()


def _nothing_to_run(config: object) -> float:
    raise NotImplementedError("the trials run elsewhere")


def _expression(name: str, dimension: Dimension) -> Any:
    match dimension:
        case Uniform(low, high):
            return hp.uniform(name, low, high)
        case LogUniform(low, high):
            return hp.loguniform(name, math.log(low), math.log(high))
        case RandInt(low, high):
            return hp.quniform(name, low - 0.5, high + 0.5, 1)
        case Choice(values):
            return hp.choice(name, list(values))
        case Fixed(value):
            return value


def _decoded(dimension: Dimension, value: Any) -> Value:
    """A value of a document as the trial gets it."""
    match dimension:
        case Uniform(low, high) | LogUniform(low, high):
            return min(max(float(value), low), high)
        case RandInt(low, high):
            return min(max(round(float(value)), low), high)
        case Choice(values):
            return values[int(value)]
        case Fixed(fixed):
            return fixed


def _encoded(dimension: Dimension, value: Any) -> list[float | int]:
    """A trial's value as its document has it: one number, or none where the dimension does not act or lacks it."""
    match dimension:
        case Choice(values) if value in values:
            return [values.index(value)]
        case Uniform(low, high) | LogUniform(low, high) | RandInt(low, high):
            return [float(value)] if isinstance(value, int | float) and low <= value <= high else []
        case _:
            return []
