"""The median stopping rule (Golovin et al., Google Vizier, KDD 2017, section 3.2), as Ray has it.

A trial is stopped where its best value so far is strictly worse than the median of the others' running means. The rule
is Ray's `MedianStoppingRule`: whose means are compared, from which epoch, and how. It is sound: best against means,
ties go on, and it has no randomness and no clock. What it differs in from its paper is that trials count that still run
or were stopped, not finished ones alone, as long as they reached the epoch; and epochs before the grace period count
for a trial's best value, but not for the means.

Ours is what stands before it, because Ray's rule takes as it comes what Tune sends it: a value that is not finite stops
the trial and never reaches the rule, where NaN as a trial's best compares as false and lets it go on; an epoch that
comes again would count twice, as Tune lets the last one do at each trial's end; and a report of a trial that was
stopped would fail an assertion. Ray's pause of a trial while there are too few to compare it with is switched off.

Each report looks at all trials that reached its epoch, so that what it costs grows with their number.
"""

import math
from dataclasses import dataclass

from search.asha import Verdicts
from search.schedulers import Decision, SchedulerOptions, is_number

TRIALS_TO_COMPARE = 3
"""Fewer others that reached an epoch say nothing."""


@dataclass(frozen=True)
class _Trial:
    """All that Ray's rule knows of a trial."""

    trial_id: str


class MedianRule:
    """Stops a trial whose best value is worse than the median of the others' means; raises nothing of Ray's."""

    def __init__(self, options: SchedulerOptions) -> None:
        from ray.tune.schedulers import MedianStoppingRule

        self._rule = MedianStoppingRule(
            time_attr="epoch",
            metric=options.metric,
            mode=options.mode,
            grace_period=options.grace_epochs,
            min_samples_required=TRIALS_TO_COMPARE,
            min_time_slice=math.inf,
            hard_stop=True,
        )
        self._metric = options.metric
        self._verdicts = Verdicts()

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """Compare a new epoch with what the others had reached by then."""
        known = self._verdicts.known(trial_id, epoch)
        return known or self._verdicts.set(trial_id, epoch, self._decide(trial_id, epoch, value))

    def on_end(self, trial_id: str) -> None:
        """What it reached goes on counting."""

    def promotable(self) -> str | None:
        """No trial is ever paused."""
        return None

    def on_promote(self, trial_id: str) -> None:
        """No trial is ever paused."""

    def _decide(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        if not is_number(value):
            return Decision.STOP
        return Decision(self._rule.on_trial_result(None, _Trial(trial_id), {"epoch": epoch, self._metric: value}))
