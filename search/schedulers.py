"""What decides after each report whether a trial goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainable.errors import ConfigError, nearest


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


def build_scheduler(name: str, options: SchedulerOptions) -> Any:
    """The `ray.tune.schedulers.TrialScheduler` of a name; raises `ConfigError` for an unknown one.

    A report that is not finite never reaches a scheduler: the slot ends such a trial as a failure.
    """
    if name not in SCHEDULERS:
        raise ConfigError(f"--scheduler must name a scheduler, but got {name!r}.{nearest(name, SCHEDULERS)}")
    return SCHEDULERS[name](options)


def _build_asha(options: SchedulerOptions) -> Any:
    """ASHA in its stopping form (Li et al., arXiv 1810.05934, section 3.3), one bracket, rungs counted in epochs."""
    from ray.tune.schedulers import AsyncHyperBandScheduler

    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=options.metric,
        mode=options.mode,
        max_t=options.max_epochs,
        grace_period=options.grace_epochs,
        reduction_factor=options.reduction_factor,
        brackets=1,
    )


def _build_none(options: SchedulerOptions) -> Any:
    from ray.tune.schedulers import FIFOScheduler

    return FIFOScheduler()


SCHEDULERS: dict[str, Callable[[SchedulerOptions], Any]] = {"asha": _build_asha, "none": _build_none}
