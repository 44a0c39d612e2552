"""Learning curves of all trials."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.figures.common import LEGEND, ROLES, chance_mark, padded, report_hover, sentence, spreads, thin
from analysis.hyperparameters import words
from analysis.plot import Axis, Mark, Plot, Role, Series

CURVE_POINTS = 3_000
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
    usable = reports.reindex(columns=["number", "epoch", column]).dropna()
    marks = chance_mark(column, chance)
    reported = trials[trials["number"].isin(usable["number"])]
    per_trial = max(1.0, len(usable) / max(1, len(reported)))
    shown, note = thin(reported, int(CURVE_POINTS / per_trial))
    usable = usable[usable["number"].isin(shown["number"])]
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
    own = reports[reports["number"].isin(trials["number"])].sort_values("number", kind="stable")
    gaps = np.flatnonzero(np.diff(own["number"])) + 1
    return Series(
        name=name,
        style="lines",
        role=role,
        x=np.insert(own["epoch"].to_numpy(float), gaps, np.nan).tolist(),
        y=np.insert(own[column].to_numpy(float), gaps, np.nan).tolist(),
        hover=np.insert(np.array(report_hover(own, column), dtype=object), gaps, "").tolist(),
    )
