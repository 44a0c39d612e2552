"""Which trials may be compared by what they reached: those that were trained as far as each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.frames import Experiment

FEWEST = 8
"""Fewer trials tell nothing."""

HALVING = ("asha", "asha-promote", "hyperband")
"""Schedulers that compare trials at rungs."""


@dataclass(frozen=True)
class Comparable:
    """Trials that were trained as far as each other."""

    trials: pd.DataFrame
    """Their rows, with what they reached in the column `value`."""
    words: str
    """What is said of them: `trained to the end`."""
    share: str
    """How many they are: `12 of 40 trials`."""


def comparable(
    trials: pd.DataFrame,
    metric: str,
    mode: str = "max",
    *,
    reports: pd.DataFrame | None = None,
    rungs: Sequence[int] = (),
) -> Comparable | None:
    """The trials trained to the end, by their best value; where they are too few, those that reached the last rung.

    The latter count by their best value up to that rung. Failed trials are left out; None where fewer than `FEWEST`
    are left.
    """
    column = f"best/{metric}"
    if column not in trials:
        return None
    finished = trials[(trials["state"] == "FINISHED") & trials[column].notna()]
    if len(finished) >= FEWEST:
        return _of(finished.assign(value=finished[column]), "trained to the end", len(trials))
    if reports is None or not rungs:
        return None
    reached = trials[(trials["state"] != "FAILED") & (trials["epochs"] >= rungs[-1])]
    until = reports[reports["number"].isin(reached["number"]) & (reports["epoch"] <= rungs[-1])].groupby("number")
    values = reached["number"].map(until[metric].min() if mode == "min" else until[metric].max())
    valued = reached.assign(value=values).dropna(subset=["value"])
    words = f"that reached epoch {rungs[-1]}, by their best until then"
    return _of(valued, words, len(trials)) if len(valued) >= FEWEST else None


def comparable_of(experiment: Experiment) -> Comparable | None:
    """The trials of an experiment that may be compared."""
    return comparable(
        experiment.trials,
        experiment.metric,
        experiment.mode,
        reports=experiment.reports,
        rungs=rungs_of(experiment.manifest),
    )


def rungs_of(manifest: dict[str, Any]) -> list[int]:
    """The epochs at which successive halving decides, before the last one; none without a halving scheduler."""
    keys = ("grace_epochs", "reduction_factor", "max_epochs")
    if manifest.get("scheduler") not in HALVING or not all(isinstance(manifest.get(key), int) for key in keys):
        return []
    rung, factor, last = (int(manifest[key]) for key in keys)
    rungs = []
    while 0 < rung < last and factor > 1:
        rungs.append(rung)
        rung *= factor
    return rungs


def _of(trials: pd.DataFrame, words: str, total: int) -> Comparable:
    return Comparable(trials, words, f"{len(trials):,} of {total:,} trials")
