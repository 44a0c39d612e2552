"""Which trial ran where and when."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.frames import Experiment
from analysis.plot import Axis, Drawable, HeatMap, Plot, Role, Series
from analysis.stints import busy_share, slot_names
from analysis.summary import duration, plural

BARS = 3_000
"""More stays in slots are shown as the share of time that each slot was taken."""
ROWS = 40
"""More slots likewise, several in a row."""
STRETCHES = 48

_FATES: tuple[tuple[str, str, Role], ...] = (
    ("FINISHED", "to the end", "finished"),
    ("STOPPED", "stopped early", "stopped"),
    ("PAUSED", "until it paused", "paused"),
    ("FAILED", "failed", "failed"),
    ("LOST", "cut off", "lost"),
    ("RUNNING", "running", "running"),
)
_UNITS = (("hours", 3600.0), ("minutes", 60.0))


def timeline(stints: pd.DataFrame, seconds: float) -> Plot | HeatMap:
    """Each slot as a row, each stay of a trial there as a bar; what is empty was idle.

    `stints` are as `analysis.stints` gives them, `seconds` how long the search took. A search with very many stays
    gives the share of time that slots were taken instead, as a `HeatMap`.
    """
    names = slot_names(stints)
    unit, size = next((one for one in _UNITS if seconds >= 3 * one[1]), ("seconds", 1.0))
    caption = _idle(stints, seconds, len(names))
    if len(stints) > BARS or len(names) > ROWS:
        return _shares(stints, seconds, list(names.values()), f"time ({unit})", size, caption)
    places = {place: len(names) - 1 - row for row, place in enumerate(names)}
    series = [_bars(stints[stints["fate"] == fate], name, role, places, size) for fate, name, role in _FATES]
    return Plot(
        name="timeline",
        title="Slots over time",
        caption=caption,
        x=Axis(label=f"time ({unit})", bounds=(0.0, max(seconds, 1e-9) / size)),
        y=Axis(label="", categories=tuple(names.values())[::-1]),
        series=tuple(one for one in series if len(one.x)),
    )


def timeline_of(experiment: Experiment) -> list[Drawable]:
    """The timeline of an experiment; none where no trial was ever started."""
    return [timeline(experiment.stints, experiment.seconds)] if len(experiment.stints) else []


def _bars(group: pd.DataFrame, name: str, role: Role, places: dict[tuple[str, int], int], size: float) -> Series:
    rows = group.to_dict("records")
    return Series(
        name=name,
        style="bars",
        role=role,
        x=[(row["ended"] - row["began"]) / size for row in rows],
        y=[places[row["node"], row["slot"]] for row in rows],
        base=[row["began"] / size for row in rows],
        thickness=0.72,
        hover=[f"{_named(row)}, {name}\n{duration(row['ended'] - row['began'])} on {row['node']}" for row in rows],
    )


def _named(row: Mapping[Any, Any]) -> str:
    again = f", start {row['attempt']}" if row["attempt"] > 1 else ""
    return f"trial {row['number']}{again}"


def _shares(stints: pd.DataFrame, seconds: float, names: list[str], label: str, size: float, caption: str) -> HeatMap:
    shares = busy_share(stints, seconds, STRETCHES)
    together = -(-len(names) // ROWS)
    groups = [range(first, min(first + together, len(names))) for first in range(0, len(names), together)]
    edges = [seconds * at / STRETCHES / size for at in range(STRETCHES + 1)]
    several = f" A row is {plural(together, 'slot')}." if together > 1 else ""
    return HeatMap(
        name="timeline",
        title="Slots over time",
        caption=f"{caption} {plural(len(stints), 'stay')} of trials are too many to show one by one.{several}",
        columns=[f"{edge:.3g}" if at % 8 == 0 else "" for at, edge in enumerate(edges[:-1])],
        rows=[names[group[0]] if len(group) == 1 else f"{names[group[0]]} …" for group in groups],
        column_label=label,
        values=[shares[list(group)].mean(axis=0).tolist() for group in groups],
        scale="share of time taken",
        bounds=(0.0, 1.0),
        hover=[
            [
                f"{names[group[0]]}{f' to {names[group[-1]]}' if len(group) > 1 else ''}\n"
                f"{edges[at]:.3g} to {edges[at + 1]:.3g}: taken {share:.0%}"
                for at, share in enumerate(shares[list(group)].mean(axis=0))
            ]
            for group in groups
        ],
    )


def _idle(stints: pd.DataFrame, seconds: float, slots: int) -> str:
    taken = float((stints["ended"] - stints["began"]).sum())
    whole = slots * seconds
    idle = max(0.0, 1 - taken / whole) if whole else 0.0
    return f"{plural(slots, 'slot')} over {duration(seconds)}: idle {idle:.1%} of the time."
