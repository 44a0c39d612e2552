"""The best value so far."""

import math

import pandas as pd

from analysis.figures.common import chance_mark, report_hover, spreads
from analysis.hyperparameters import words
from analysis.plot import Axis, Plot, Series
from analysis.summary import best_so_far

REPORTS = 12_000
"""Most reports that the plot shows."""


def progress(
    reports: pd.DataFrame, *, metric: str = "val_accuracy", mode: str = "max", chance: float | None = None
) -> Plot:
    """The best value so far against time, over a faint point for every report."""
    best = best_so_far(reports, metric, mode)
    usable = reports.dropna(subset=[metric]) if metric in reports else reports.iloc[:0]
    shown, note = usable, []
    if len(usable) > REPORTS:
        shown = usable.iloc[:: math.ceil(len(usable) / REPORTS)]
        note = [f"Shows {len(shown):,} of {len(usable):,} reports."]
    end = float(usable["elapsed_seconds"].max()) if len(usable) else 0.0
    unit, seconds = next((u for u in (("hours", 3600), ("minutes", 60)) if end >= 3 * u[1]), ("seconds", 1))
    series = (
        Series(
            name="every report",
            style="points",
            x=(shown["elapsed_seconds"] / seconds).tolist(),
            y=shown[metric].tolist() if len(shown) else [],
            hover=report_hover(shown, metric),
        ),
        Series(
            name="best so far",
            style="steps",
            role="best",
            x=[*(best["elapsed_seconds"] / seconds), end / seconds] if len(best) else [],
            y=[*best["value"], best["value"].iloc[-1]] if len(best) else [],
            hover=[*report_hover(best, "value"), "now"] if len(best) else [],
        ),
    )
    return Plot(
        name="best_so_far",
        title=f"Best {words(metric)} so far",
        caption=" ".join(note),
        x=Axis(label=f"time ({unit})"),
        y=Axis(label=words(metric), log=spreads(usable[metric]) if len(usable) else False),
        series=tuple(entry for entry in series if len(entry.x)),
        marks=chance_mark(metric, chance),
    )
