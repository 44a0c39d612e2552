"""The median stopping rule (Golovin et al., Google Vizier, KDD 2017, section 3.2), as Ray has it.

A trial is stopped where its best value so far is strictly worse than the median of the others' running means. The rule
is Ray's `MedianStoppingRule`: whose means are compared, from which epoch, and how. It is sound: best against means,
ties go on, and it has no randomness and no clock. What it differs in from its paper is that trials count that still run
or were stopped, not finished ones alone, as long as they reached the epoch; and epochs before the grace period count
for a trial's best value, but not for the means.

Ours is what stands before it, because Ray's rule takes as it comes what Tune sends it. A value that is not finite stops
the trial and never reaches the rule, which lets a trial that was good once go on with NaN to its end. An epoch that
comes again would count twice, as Tune lets the last one do at each trial's end, and a report of a trial that was
stopped would fail an assertion. Ray's pause of a trial while there are too few to compare it with is switched off.

Each report looks at all trials that reached its epoch, so that what it costs grows with their number.
"""

import math
from dataclasses import dataclass

from search.schedulers import Decision, RunAll, SchedulerOptions

TRIALS_TO_COMPARE = 3
"""Fewer others that reached an epoch say nothing."""


@dataclass(frozen=True)
class _Trial:
    """All that Ray's rule knows of a trial."""

    trial_id: str


class MedianRule(RunAll):
    """Stops a trial whose best value is worse than the median of the others' means."""

    def __init__(self, options: SchedulerOptions) -> None:
        from ray.tune.schedulers import MedianStoppingRule

        super().__init__()
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

    def _decide(self, trial_id: str, epoch: int, value: float) -> Decision:
        """Compare a new epoch with what the others had reached by then."""
        return Decision(self._rule.on_trial_result(None, _Trial(trial_id), {"epoch": epoch, self._metric: value}))
