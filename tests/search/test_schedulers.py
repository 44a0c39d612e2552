from math import inf, nan

import numpy as np
import pytest

from search.asha import Hyperband, PromotingAsha, StoppingAsha
from search.median import MedianRule
from search.schedulers import Decision, RunAll, SchedulerOptions, Verdicts, build_scheduler, is_number
from trainable.errors import ConfigError

CONTINUE, PAUSE, STOP = Decision.CONTINUE, Decision.PAUSE, Decision.STOP
OPTIONS = SchedulerOptions(metric="val_accuracy", mode="max", max_epochs=9, grace_epochs=1, reduction_factor=3)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("asha", StoppingAsha),
        ("asha-promote", PromotingAsha),
        ("hyperband", Hyperband),
        ("median", MedianRule),
        ("none", RunAll),
    ],
)
def test_a_scheduler_has_a_name(name: str, kind: type) -> None:
    assert type(build_scheduler(name, OPTIONS)) is kind


def test_each_search_gets_a_scheduler_of_its_own() -> None:
    assert build_scheduler("none", OPTIONS) is not build_scheduler("none", OPTIONS)


def test_an_unknown_scheduler_gets_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'asha'"):
        build_scheduler("aha", OPTIONS)


@pytest.mark.parametrize("value", [0.5, -3, 0, np.float32(1.5), np.int64(2), 1e308])
def test_a_finite_value_is_a_number(value: float) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [nan, inf, -inf, None, np.float32("nan"), np.float64("inf")])
def test_nothing_else_is(value: float | None) -> None:
    assert not is_number(value)


def test_none_stops_no_trial_whose_metric_is_finite() -> None:
    scheduler = build_scheduler("none", OPTIONS)

    assert {scheduler.on_report(f"t{n}", epoch, -n) for n in range(5) for epoch in range(1, 10)} == {CONTINUE}
    assert scheduler.on_report("t0", 10, None) is STOP


def test_a_verdict_stands_for_its_epoch_and_those_before_went_on() -> None:
    verdicts = Verdicts()
    assert verdicts.known("a", 3) is None

    assert verdicts.set("a", 3, PAUSE) is PAUSE
    assert [verdicts.known("a", epoch) for epoch in (1, 2, 3, 4)] == [CONTINUE, CONTINUE, PAUSE, None]
    assert verdicts.known("b", 3) is None


def test_a_stop_stands_for_all_epochs_to_come() -> None:
    verdicts = Verdicts()
    verdicts.set("a", 3, STOP)
    verdicts.resume("a")

    assert [verdicts.known("a", epoch) for epoch in (2, 3, 4)] == [CONTINUE, STOP, STOP]


def test_a_pause_that_is_over_is_no_pause_when_its_epoch_comes_again() -> None:
    verdicts = Verdicts()
    verdicts.set("a", 3, PAUSE)
    verdicts.resume("a")
    verdicts.resume("unheard of")

    assert [verdicts.known("a", epoch) for epoch in (3, 4)] == [CONTINUE, None]
    assert verdicts.known("unheard of", 1) is None
