"""The best value so far."""

import math
from collections.abc import Sequence
from typing import Literal

import pandas as pd

from analysis.figures.common import chance_mark, report_hover, spreads
from analysis.hyperparameters import words
from analysis.plot import Axis, Plot, Series
from analysis.summary import best_so_far

REPORTS = 3_000
"""Most reports that the plot shows."""

Spent = Literal["time", "trials", "epochs", "hours"]
"""Against what progress is shown."""
_READ = ("number", "state", "epoch", "elapsed_seconds", "search_slot_seconds")
SPENT: tuple[Spent, ...] = ("trials", "epochs", "time", "hours")


def progress(
    reports: pd.DataFrame,
    *,
    metric: str = "val_accuracy",
    mode: str = "max",
    chance: float | None = None,
    against: Spent = "time",
    unit: str = "GPU",
) -> Plot:
    """The best value so far against what was spent, over a faint point for every report.

    `against` is the `time` since the search began, the `trials` that had reported by then, the `epochs` that all trials
    had trained, or the `hours` for which they had held slots, times what a slot holds of `unit`.
    """
    usable = reports[[*filter(reports.__contains__, _READ), metric]].dropna() if metric in reports else reports.iloc[:0]
    ordered = usable.sort_values("elapsed_seconds", kind="stable")
    label, places = _spent(ordered, against, unit)
    ordered = ordered.assign(x=places)
    best = best_so_far(ordered, metric, mode).merge(ordered[["number", "epoch", "x"]], on=["number", "epoch"])
    shown, note = ordered, []
    if len(ordered) > REPORTS:
        shown = ordered.iloc[:: math.ceil(len(ordered) / REPORTS)]
        note = [f"Shows {len(shown):,} of {len(ordered):,} reports."]
    series = (
        Series(
            name="every report",
            style="points",
            x=shown["x"].tolist(),
            y=shown[metric].tolist() if len(shown) else [],
            hover=report_hover(shown, metric),
        ),
        Series(
            name="best so far",
            style="steps",
            role="best",
            x=[*best["x"], ordered["x"].max()] if len(best) else [],
            y=[*best["value"], best["value"].iloc[-1]] if len(best) else [],
            hover=[*report_hover(best, "value"), "now"] if len(best) else [],
        ),
    )
    return Plot(
        name="best_so_far" if against == "time" else f"best_so_far_by_{against}",
        title=f"Best {words(metric)} so far, by {f'{unit}-hours' if against == 'hours' else against}",
        caption=" ".join(note),
        x=Axis(label=label),
        y=Axis(label=words(metric), log=spreads(usable[metric]) if len(usable) else False),
        series=tuple(entry for entry in series if len(entry.x)),
        marks=chance_mark(metric, chance),
    )


def _spent(ordered: pd.DataFrame, against: Spent, unit: str) -> tuple[str, Sequence[float]]:
    """The axis' label, and what had been spent at each report; `ordered` is in the order of time."""
    if against == "trials":
        return "trials that had reported", (~ordered["number"].duplicated()).cumsum().tolist()
    if against == "epochs":
        return "epochs trained by all trials", range(1, len(ordered) + 1)
    if against == "hours":
        spent = ordered["search_slot_seconds"] if "search_slot_seconds" in ordered else ordered["elapsed_seconds"] * 0.0
        return f"{unit}-hours in slots", (spent / 3600).tolist()
    end = float(ordered["elapsed_seconds"].max()) if len(ordered) else 0.0
    name, seconds = next((u for u in (("hours", 3600), ("minutes", 60)) if end >= 3 * u[1]), ("seconds", 1))
    return f"time ({name})", (ordered["elapsed_seconds"] / seconds).tolist()
