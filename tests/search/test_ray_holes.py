"""Each hole of Ray's `AsyncHyperBandScheduler`, in Ray's own class and beside it in ours."""

import inspect
import pickle
import re
from math import nan
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.execution import tune_controller
from ray.tune.schedulers import AsyncHyperBandScheduler

from search.asha import Hyperband, PromotingAsha, StoppingAsha
from search.schedulers import Decision, SchedulerOptions, build_scheduler

OURS = [StoppingAsha, PromotingAsha]


def options(max_epochs: int = 9, seed: int = 0) -> SchedulerOptions:
    return SchedulerOptions(
        metric="m", mode="max", max_epochs=max_epochs, grace_epochs=1, reduction_factor=3, seed=seed
    )


def rays(max_epochs: int = 9, time_attr: str = "epoch", brackets: int = 1) -> Any:
    return AsyncHyperBandScheduler(
        time_attr=time_attr,
        metric="m",
        mode="max",
        max_t=max_epochs,
        grace_period=1,
        reduction_factor=3,
        brackets=brackets,
    )


def tell_ray(scheduler: Any, trial_id: str, epoch: int, value: float, training_iteration: int = 0) -> str:
    """What Tune tells its scheduler of a report."""
    trial = SimpleNamespace(trial_id=trial_id)
    if trial_id not in scheduler._trial_info:
        scheduler.on_trial_add(None, trial)
    result = {"epoch": epoch, "training_iteration": training_iteration or epoch, "m": value}
    return str(scheduler.on_trial_result(None, trial, result))


def rays_rungs(scheduler: Any) -> dict[int, dict[str, float]]:
    return dict(sorted(scheduler._brackets[0]._rungs))


def our_rungs(scheduler: Any) -> dict[int, dict[str, float]]:
    return {rung.epoch: rung.values for rung in scheduler.rungs}


def test_nan_is_never_stopped() -> None:
    ray = rays(max_epochs=9)
    good = [tell_ray(ray, f"good-{n}", epoch, 0.9) for n in range(10) for epoch in (1, 2, 3)]
    diverged = [tell_ray(ray, f"nan-{n}", epoch, nan) for n in range(10) for epoch in range(1, 9)]
    assert good == ["CONTINUE"] * 30
    assert diverged == ["CONTINUE"] * 80

    for name in ("asha", "asha-promote", "hyperband", "median", "none"):
        ours = build_scheduler(name, options())
        assert [ours.on_report(f"nan-{n}", 1, nan) for n in range(10)] == [Decision.STOP] * 10


@pytest.mark.parametrize(("max_epochs", "holds_a_rung_at_its_end"), [(81, True), (243, False)])
def test_rungs_come_from_float_logarithms(max_epochs: int, holds_a_rung_at_its_end: bool) -> None:
    """ln 81 / ln 3 is 4.0 and ln 243 / ln 3 is 4.99..., so that one of two powers of 3 gets a rung at its end."""
    assert (max_epochs in rays_rungs(rays(max_epochs))) is holds_a_rung_at_its_end

    powers = [1, 3, 9, 27, 81, 243]
    for build in OURS:
        assert list(our_rungs(build(options(max_epochs)))) == powers[: powers.index(max_epochs)]


def test_a_skipped_rung_is_filled_with_later_values() -> None:
    ray = rays()
    for epoch, value in ((4, 0.4), (5, 0.5), (6, 0.6)):
        tell_ray(ray, "a", epoch, value)
    assert rays_rungs(ray) == {1: {"a": 0.5}, 3: {"a": 0.4}, 9: {}}

    for build in OURS:
        ours = build(options())
        for epoch, value in ((4, 0.4), (5, 0.5), (6, 0.6)):
            ours.on_report("a", epoch, value)
        assert our_rungs(ours) == {1: {"a": 0.4}, 3: {"a": 0.4}}


def test_the_bracket_is_drawn_from_numpys_global_generator() -> None:
    def rays_brackets(numpy_seed: int) -> list[int]:
        np.random.seed(numpy_seed)  # noqa: NPY002
        ray = rays(max_epochs=27, brackets=3)
        for number in range(30):
            ray.on_trial_add(None, SimpleNamespace(trial_id=f"t{number}"))
        return [ray._brackets.index(ray._trial_info[f"t{number}"]) for number in range(30)]

    def our_brackets(numpy_seed: int, seed: int) -> list[int]:
        np.random.seed(numpy_seed)  # noqa: NPY002
        ours = Hyperband(options(max_epochs=27, seed=seed))
        return [ours.brackets.index(ours.bracket_of(f"t{number}")) for number in range(30)]

    assert rays_brackets(1) != rays_brackets(2)
    assert our_brackets(1, seed=5) == our_brackets(2, seed=5)
    assert our_brackets(1, seed=5) != our_brackets(1, seed=6)


REPORTS = [(f"t{number}", epoch, number / 10 + epoch / 100) for number in range(9, 3, -1) for epoch in (1, 2, 3)]


def test_a_restore_loses_the_rungs() -> None:
    """Tune pickles the scheduler before the first trial, and calls neither its `save` nor its `restore`."""
    ray = rays()
    as_tune_restores_it = pickle.dumps(ray)
    for report in REPORTS:
        tell_ray(ray, *report)
    restored = pickle.loads(as_tune_restores_it)
    called = set(re.findall(r"_scheduler_alg\.(\w+)\(", inspect.getsource(tune_controller)))
    assert "on_trial_result" in called
    assert not {"save", "restore"} & called
    assert rays_rungs(restored) == {1: {}, 3: {}, 9: {}}
    assert (tell_ray(ray, "bad", 1, 0.0), tell_ray(restored, "bad", 1, 0.0)) == ("STOP", "CONTINUE")


@pytest.mark.parametrize("build", OURS)
def test_the_ledgers_reports_bring_ours_back(build: Any) -> None:
    before, after = build(options()), build(options())
    decisions = [before.on_report(*report) for report in REPORTS]

    assert [after.on_report(*report) for report in REPORTS] == decisions
    assert len(set(decisions)) == 2
    assert our_rungs(after) == our_rungs(before)
    assert after.on_report("bad", 1, 0.0) is before.on_report("bad", 1, 0.0) is not Decision.CONTINUE


def test_training_iteration_begins_again_at_1() -> None:
    """Tune counts a restored trial's iterations from 1, which is the time that Ray's scheduler goes by unless told."""
    ray = rays(time_attr="training_iteration")
    tell_ray(ray, "a", epoch=7, value=0.9, training_iteration=1)
    assert rays_rungs(ray) == {1: {"a": 0.9}, 3: {}, 9: {}}

    for build in OURS:
        ours = build(options())
        for epoch, value in ((1, 0.1), (2, 0.2), (3, 0.3), (7, 0.9)):
            ours.on_report("a", epoch, value)
        assert our_rungs(ours) == {1: {"a": 0.1}, 3: {"a": 0.3}}
