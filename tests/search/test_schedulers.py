from types import SimpleNamespace
from typing import Any

import pytest

from search.schedulers import SchedulerOptions, build_scheduler
from trainable.errors import ConfigError


def options(mode: str = "max") -> SchedulerOptions:
    return SchedulerOptions(metric="val_accuracy", mode=mode, max_epochs=9, grace_epochs=1, reduction_factor=3)


def decide(scheduler: Any, curves: dict[str, list[float]]) -> dict[str, int]:
    """Run each trial to its end, one after another; returns the epoch at which each was told to stop."""
    stopped = {}
    for trial_id, curve in curves.items():
        trial = SimpleNamespace(trial_id=trial_id)
        scheduler.on_trial_add(None, trial)
        for epoch, value in enumerate(curve, start=1):
            result = {"epoch": epoch, "training_iteration": 1, "val_accuracy": value}
            if scheduler.on_trial_result(None, trial, result) == "STOP":
                stopped[trial_id] = epoch
                break
    return stopped


CURVES = {name: [level] * 8 for name, level in {"a": 0.5, "b": 0.4, "c": 0.6, "d": 0.1}.items()}


def test_asha_stops_a_trial_that_is_below_the_cutoff_of_its_rung() -> None:
    assert decide(build_scheduler("asha", options()), CURVES) == {"b": 1, "d": 1}


def test_asha_can_minimise() -> None:
    assert decide(build_scheduler("asha", options("min")), CURVES) == {"c": 1}


def test_asha_counts_epochs_not_tunes_iterations() -> None:
    scheduler = build_scheduler("asha", options())
    restarted = {"a": [0.9, 0.9, 0.9], "b": [0.95, 0.1, 0.1]}

    assert decide(scheduler, restarted) == {"b": 3}


def test_none_stops_no_trial() -> None:
    assert decide(build_scheduler("none", options()), CURVES) == {}


def test_an_unknown_scheduler_gets_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'asha'"):
        build_scheduler("aha", options())
