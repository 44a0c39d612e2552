from math import inf, nan

import numpy as np
import pytest
from ray.tune.schedulers import MedianStoppingRule

from search.median import MedianRule
from search.schedulers import Decision, SchedulerOptions

CONTINUE, STOP = Decision.CONTINUE, Decision.STOP


def options(mode: str = "max", grace: int = 1) -> SchedulerOptions:
    return SchedulerOptions(metric="m", mode=mode, max_epochs=20, grace_epochs=grace, reduction_factor=3)


class SlowMedian:
    """The rule by its definition: each trial's reports as a dict from epoch to value."""

    def __init__(self, options: SchedulerOptions) -> None:
        self.grace = options.grace_epochs
        self.sign = {"max": 1, "min": -1}[options.mode]
        self.reports: dict[str, dict[int, float]] = {}

    def on_report(self, trial_id: str, epoch: int, value: float) -> Decision:
        self.reports.setdefault(trial_id, {})[epoch] = self.sign * value
        means = [
            self.mean(name, epoch) for name in self.reports if name != trial_id and max(self.reports[name]) >= epoch
        ]
        known = [mean for mean in means if mean is not None]
        if epoch < self.grace or len(known) < 3:
            return CONTINUE
        return STOP if max(self.reports[trial_id].values()) < np.median(known) else CONTINUE

    def mean(self, trial_id: str, until: int) -> float | None:
        values = [value for epoch, value in self.reports[trial_id].items() if self.grace <= epoch <= until]
        return float(np.mean(values)) if values else None


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("grace", [1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_the_rule_is_its_definition(seed: int, grace: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    ours, slow = MedianRule(options(mode, grace)), SlowMedian(options(mode, grace))
    epochs = dict.fromkeys((f"t{n}" for n in range(20)), 0)
    seen = []
    while epochs:
        trial_id = str(rng.choice(list(epochs)))
        epochs[trial_id] += int(rng.choice([1, 1, 1, 3]))
        value = float(rng.integers(6))
        seen.append(ours.on_report(trial_id, epochs[trial_id], value))
        assert seen[-1] is slow.on_report(trial_id, epochs[trial_id], value)
        if seen[-1] is STOP or epochs[trial_id] >= 20:
            del epochs[trial_id]

    assert set(seen) == {CONTINUE, STOP}


def with_three_others(value: float = 0.5, mode: str = "max") -> MedianRule:
    rule = MedianRule(options(mode))
    for name in "abc":
        for epoch in (1, 2, 3):
            rule.on_report(name, epoch, value)
    return rule


def test_a_trial_is_stopped_where_its_best_is_strictly_worse_than_the_median() -> None:
    rule = with_three_others(0.5)

    assert rule.on_report("worse", 1, 0.49) is STOP
    assert rule.on_report("equal", 1, 0.5) is CONTINUE
    assert rule.on_report("equal", 2, 0.1) is CONTINUE


def test_two_others_say_nothing() -> None:
    rule = MedianRule(options())
    decisions = [rule.on_report(name, 1, value) for name, value in (("a", 0.9), ("b", 0.9), ("c", 0.1), ("d", 0.2))]

    assert decisions == [CONTINUE, CONTINUE, CONTINUE, STOP]


@pytest.mark.parametrize("value", [nan, inf, -inf, None])
def test_a_value_that_is_not_finite_stops_and_reaches_no_other_trial(value: float | None) -> None:
    rule, without = with_three_others(), with_three_others()
    assert [rule.on_report(name, 1, value) for name in "xyz"] == [STOP] * 3

    for number in range(5):
        assert rule.on_report(f"t{number}", 1, 0.48 + number / 100) is without.on_report(
            f"t{number}", 1, 0.48 + number / 100
        )


class Trial:
    trial_id = "any"


def test_rays_rule_lets_a_trial_that_was_good_go_on_with_nan() -> None:
    rays = MedianStoppingRule(time_attr="epoch", metric="m", mode="max", grace_period=1, min_time_slice=inf)
    for other in (Trial(), Trial(), Trial()):
        rays.on_trial_result(None, other, {"epoch": 20, "m": 0.5})
    good = Trial()
    reports = [{"epoch": epoch, "m": 0.9 if epoch == 1 else nan} for epoch in range(1, 20)]
    assert [rays.on_trial_result(None, good, report) for report in reports] == ["CONTINUE"] * 19

    assert [with_three_others().on_report("t", epoch, value) for epoch, value in ((1, 0.9), (2, nan))] == [
        CONTINUE,
        STOP,
    ]


def test_an_epoch_that_comes_again_counts_once() -> None:
    rule = MedianRule(options())
    for name in "abc":
        rule.on_report(name, 1, 0.1)
        rule.on_report(name, 2, 0.5)
        assert [rule.on_report(name, epoch, 0.1) for epoch in (1, 1, 1, 1)] == [CONTINUE] * 4

    assert rule.on_report("t", 2, 0.25) is STOP


def test_a_stopped_trial_that_reports_on_is_stopped_again() -> None:
    rule = with_three_others()

    assert [rule.on_report("t", 1, 0.1), rule.on_report("t", 1, 0.1), rule.on_report("t", 2, 0.9)] == [STOP] * 3


def test_trials_that_ended_go_on_counting_and_each_report_once() -> None:
    rule = MedianRule(options())
    for name in "abc":
        rule.on_report(name, 1, 0.1)
        rule.on_report(name, 2, 0.5)
        rule.on_end(name)

    assert rule.on_report("t", 2, 0.31) is CONTINUE
    assert rule.on_report("u", 2, 0.29) is STOP
