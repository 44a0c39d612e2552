"""How far trials came."""

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from analysis.plot import Axis, Plot, Role, Series
from analysis.summary import plural

LEVELS = 12
"""Most epochs at which trials are counted where there are no rungs."""

_FATES: tuple[tuple[str, str, Role], ...] = (
    ("FINISHED", "trained to the end", "finished"),
    ("STOPPED", "stopped here", "stopped"),
    ("PAUSED", "paused here", "paused"),
    ("RUNNING", "running", "running"),
    ("FAILED", "failed here", "failed"),
)


def survivors(trials: pd.DataFrame, max_epochs: int, rungs: Sequence[int] = ()) -> Plot:
    """How many trials reached each rung, and of those how many went on, and what became of the others before the next.

    Without rungs epochs at equal distances stand in their place. The first row counts every trial that was started. No
    series where all trials were trained to the end.
    """
    started = trials[(trials["attempts"] > 0) & (trials["state"] != "PENDING")]
    levels = [0, *(rungs or _levels(max_epochs)), max_epochs] if max_epochs else [0]
    levels = sorted(set(levels))
    epochs, states = started["epochs"].to_numpy(), started["state"].to_numpy()
    reached = [int((epochs >= level).sum()) for level in levels]
    places = list(range(len(levels)))[::-1]
    series = [_bars("went on", "best", [*reached[1:], 0], [0] * len(levels), places)]
    base = [*reached[1:], 0]
    ends = [*levels[1:], max(max_epochs, int(epochs.max(initial=0))) + 1]
    for state, name, role in _FATES:
        counts = [
            int(((states == state) & (epochs >= low) & (epochs < high)).sum())
            for low, high in zip(levels, ends, strict=True)
        ]
        series.append(_bars(name, role, counts, base, places))
        base = [a + b for a, b in zip(base, counts, strict=True)]
    told = bool(len(started)) and bool((started["state"] != "FINISHED").any())
    return Plot(
        name="survivors",
        title="How far trials came",
        caption=_caption(levels, reached, bool(rungs)) if told else "",
        x=Axis(label="trials"),
        y=Axis(label="", categories=tuple(_label(level, max_epochs) for level in levels[::-1])),
        series=tuple(one for one in series if any(one.x)) if told else (),
    )


def _bars(name: str, role: Role, counts: Sequence[int], base: Sequence[int], places: Sequence[int]) -> Series:
    hover = [f"{name}: {plural(count, 'trial')}" for count in counts]
    return Series(name=name, style="bars", role=role, x=counts, y=places, base=base, hover=hover)


def _levels(max_epochs: int) -> list[int]:
    step = max(1, -(-max_epochs // LEVELS))
    return list(range(step, max_epochs, step))


def _label(level: int, max_epochs: int) -> str:
    return "started" if level == 0 else f"epoch {level}, the last" if level == max_epochs else f"epoch {level}"


def _caption(levels: Sequence[int], reached: Sequence[int], rungs: bool) -> str:
    steps = [
        f"{after:,} of {before:,} reached epoch {level}"
        for (before, after), level in zip(pairwise(reached), levels[1:], strict=True)
        if before
    ]
    shown = steps if rungs else steps[-1:]
    return f"{'; '.join(shown)}." if shown else ""
