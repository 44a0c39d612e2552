"""Learning curves of all trials."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis.figures.common import LEGEND, ROLES, chance_mark, padded, report_hover, sentence, spreads, thin
from analysis.hyperparameters import words
from analysis.plot import Axis, Mark, Plot, Role, Series

CURVE_POINTS = 12_000
"""Most reports that one plot of curves shows."""
NAMED = 3
"""How many of the best trials stand out by name."""

_PODIUM: tuple[Role, ...] = ("best", "second", "third")


def curves(
    reports: pd.DataFrame,
    trials: pd.DataFrame,
    column: str,
    *,
    rungs: Sequence[int] = (),
    chance: float | None = None,
    beside: str = "",
) -> Plot:
    """`column` (`val_accuracy`, `train_loss` …) by epoch for every trial, the best trials named, the rungs marked.

    With `beside`, a column of the same quantity whose curves stand beside these, both are drawn over one range: unless
    one of the two has values so large that they would flatten the other's curves.
    """
    usable = reports[["number", "epoch", column]].dropna() if column in reports else reports.iloc[:0]
    marks = chance_mark(column, chance)
    reported = trials[trials["number"].isin(usable["number"])]
    per_trial = max(1.0, len(usable) / max(1, len(reported)))
    shown, note = thin(reported, int(CURVE_POINTS / per_trial))
    named = shown[shown["rank"] <= NAMED].sort_values("rank", ascending=False)
    crowd = shown[~shown["number"].isin(named["number"])]
    series = [
        _lines(LEGEND[state], usable, crowd[crowd["state"] == state], column, ROLES[state])
        for state in ("STOPPED", "PAUSED", "FINISHED", "RUNNING", "FAILED")
    ]
    series += [
        _lines(
            f"trial {trial['number']}{' (best)' if trial['rank'] == 1 else ''}",
            usable,
            named.loc[[index]],
            column,
            _PODIUM[int(trial["rank"]) - 1],
        )
        for index, trial in named.iterrows()
    ]
    return Plot(
        name=f"curves_{column}",
        title=sentence(f"{words(column)} by epoch"),
        caption=" ".join(note),
        x=Axis(label="epoch"),
        y=_axis(reports, column, beside, marks),
        series=tuple(entry for entry in series if len(entry.x)),
        marks=(*(Mark(rung, "rung", vertical=True) for rung in rungs), *marks),
    )


def _axis(reports: pd.DataFrame, column: str, beside: str, marks: Sequence[Mark]) -> Axis:
    own, other = (reports[name].dropna() if name in reports else pd.Series(dtype=float) for name in (column, beside))
    axis = Axis(label=words(column), log=spreads(own))
    if own.empty or other.empty or spreads(other) != axis.log:
        return axis
    ends = [own.min(), own.max(), other.min(), other.max(), *(mark.value for mark in marks)]
    return replace(axis, bounds=padded(min(ends), max(ends), log=axis.log))


def _lines(name: str, reports: pd.DataFrame, trials: pd.DataFrame, column: str, role: Role) -> Series:
    """Curves of several trials as one series, with a gap after each."""
    x: list[float] = []
    y: list[float] = []
    hover: list[str] = []
    for _, group in reports[reports["number"].isin(trials["number"])].groupby("number"):
        x += [*group["epoch"].astype(float), math.nan]
        y += [*group[column], math.nan]
        hover += [*report_hover(group, column), ""]
    return Series(name=name, style="lines", role=role, x=x[:-1], y=y[:-1], hover=hover[:-1])
