"""What decides after each report whether a trial goes on.

A scheduler is a state machine over the reports, in the order in which the ledger has them: it knows no clock, no slot
and no Ray. Fed with the events of a ledger again it makes the same decisions, which is how a search goes on after its
driver died (`search.resume`), and how the simulator runs it (`search.simulate`).
"""

import enum
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

from trainable.errors import ConfigError, nearest


class Decision(enum.StrEnum):
    """What becomes of a trial after a report."""

    CONTINUE = "CONTINUE"
    PAUSE = "PAUSE"
    """It gives its slot back, and goes on from its checkpoint once it is promoted."""
    STOP = "STOP"


Kept = tuple[str, int]
"""A checkpoint that is kept for others: of a trial, at the end of an epoch."""


@dataclass(frozen=True, kw_only=True)
class Inheritance:
    """What a paused trial goes on from in place of its own checkpoint: another trial's, with other hyperparameters."""

    source: str
    """The other trial."""
    epoch: int
    """Of the other trial's checkpoint; the epoch that the paused trial stands at."""
    factors: Mapping[str, float]
    """What the source's hyperparameters are multiplied by."""
    ranges: Mapping[str, tuple[float, float]]
    """Where each of them stays."""

    def changes(self, config: Mapping[str, Any]) -> dict[str, float]:
        """The hyperparameters that change, from those which the source had at that epoch."""
        bounds = {name: self.ranges[name] for name in self.factors}
        return {name: min(max(config[name] * self.factors[name], low), high) for name, (low, high) in bounds.items()}


class Scheduler(Protocol):
    """Decides which trials go on."""

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """A trial reached a value of the metric at the end of `epoch`; None or NaN where it is not finite.

        An epoch that was reported already, by a trial that went on from a checkpoint, gets the decision it got then. A
        trial that was stopped is stopped again, whatever it reports: its driver died before it could end it.
        """
        ...

    def on_end(self, trial_id: str) -> None:
        """No further report of the trial will come: it is finished, failed or was stopped."""
        ...

    def promotable(self) -> str | None:
        """The paused trial that should go on before any new one begins; None where there is none. Changes nothing."""
        ...

    def finalist(self) -> str | None:
        """The paused trial that should go on once no other trial runs or will come; changes nothing either."""
        ...

    def on_promote(self, trial_id: str) -> None:
        """A paused trial goes on."""
        ...

    def inherits(self, trial_id: str) -> Inheritance | None:
        """What a paused trial goes on from, and again where it is retried before its next report; None: from its own
        checkpoint. Changes nothing."""
        ...

    def inheritable(self) -> Collection[Kept]:
        """Every checkpoint that a trial goes on from, or may come to go on from; changes nothing either.

        One that is not among them will never be again, unless it is of a later report.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SchedulerOptions:
    """What a scheduler is built from."""

    metric: str
    mode: str
    """`max` or `min`."""
    max_epochs: int
    grace_epochs: int
    """Epochs before a trial can be stopped."""
    reduction_factor: int
    """One in so many trials passes each rung."""
    seed: int = 0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Smallest and largest value of each hyperparameter that a scheduler may change in the middle of training."""
    trials: int | None = None
    """At most so many trials will ever report; None where that is not known."""


class Verdicts:
    """The last decision on each trial, so that a report that comes again changes nothing."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, Decision]] = {}

    def known(self, trial_id: str, epoch: int) -> Decision | None:
        """What stands already for a report; None where it must be decided.

        A trial that was stopped stays so, whatever it still reports. An epoch before a trial's last was one after which
        it went on.
        """
        last, decision = self._last.get(trial_id, (-1, Decision.CONTINUE))
        if epoch < last:
            return Decision.CONTINUE
        return decision if epoch == last or decision is Decision.STOP else None

    def set(self, trial_id: str, epoch: int, decision: Decision) -> Decision:
        """Remember a decision; returns it."""
        self._last[trial_id] = (epoch, decision)
        return decision

    def resume(self, trial_id: str) -> None:
        """What was decided on a trial's last report is now that it goes on, unless it was stopped."""
        last = self._last.get(trial_id)
        if last is not None and last[1] is Decision.PAUSE:
            self._last[trial_id] = (last[0], Decision.CONTINUE)


class RunAll:
    """Stops a trial only where its metric is not finite; what the other schedulers have in common.

    They say in `_decide` what becomes of a trial after a new and finite value, and in `_diverged` what another value
    means for the others.
    """

    def __init__(self) -> None:
        self._verdicts = Verdicts()

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """Decide on a report, once."""
        known = self._verdicts.known(trial_id, epoch)
        return known or self._verdicts.set(trial_id, epoch, self._decision(trial_id, epoch, value))

    def on_end(self, trial_id: str) -> None:
        """What it reached goes on counting."""

    def promotable(self) -> str | None:
        """No trial is ever paused."""
        return None

    def finalist(self) -> str | None:
        """No trial is ever paused."""
        return None

    def on_promote(self, trial_id: str) -> None:
        """No trial is ever paused."""

    def inherits(self, trial_id: str) -> Inheritance | None:
        """A trial goes on from its own checkpoint."""
        return None

    def inheritable(self) -> Collection[Kept]:
        """Each trial needs its own checkpoint alone."""
        return ()

    def _decision(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        if is_number(value):
            return self._decide(trial_id, epoch, value)
        self._diverged(trial_id)
        return Decision.STOP

    def _decide(self, trial_id: str, epoch: int, value: float) -> Decision:
        return Decision.CONTINUE

    def _diverged(self, trial_id: str) -> None:
        """Nothing is compared."""


def is_number(value: float | None) -> TypeGuard[float]:
    """Whether a metric is finite."""
    return value is not None and math.isfinite(value)


def build_scheduler(name: str, options: SchedulerOptions) -> Scheduler:
    """The scheduler of a name; raises `ConfigError` for an unknown one."""
    if name not in SCHEDULERS:
        raise ConfigError(f"--scheduler must name a scheduler, but got {name!r}.{nearest(name, SCHEDULERS)}")
    return SCHEDULERS[name](options)


def _build_asha(options: SchedulerOptions) -> Scheduler:
    from search.asha import StoppingAsha

    return StoppingAsha(options)


def _build_asha_promote(options: SchedulerOptions) -> Scheduler:
    from search.asha import PromotingAsha

    return PromotingAsha(options)


def _build_hyperband(options: SchedulerOptions) -> Scheduler:
    from search.asha import Hyperband

    return Hyperband(options)


def _build_median(options: SchedulerOptions) -> Scheduler:
    from search.median import MedianRule

    return MedianRule(options)


def _build_pbt(options: SchedulerOptions) -> Scheduler:
    from search.pbt import PopulationBased

    return PopulationBased(options)


SCHEDULERS: dict[str, Callable[[SchedulerOptions], Scheduler]] = {
    "asha": _build_asha,
    "asha-promote": _build_asha_promote,
    "hyperband": _build_hyperband,
    "median": _build_median,
    "pbt": _build_pbt,
    "none": lambda options: RunAll(),
}
