"""The metric against one hyperparameter."""

import math
from collections.abc import Sequence

import pandas as pd

from analysis.figures.common import LEGEND, ROLES, axis_of, chance_mark, sentence, thin, trial_hover
from analysis.frames import CONFIG
from analysis.hyperparameters import Hyperparameter, infer, words
from analysis.plot import Axis, Plot, Series, Symbol
from analysis.summary import number

POINTS = 2_000
"""Most trials that one scatter plot shows."""

_SYMBOLS: dict[str, Symbol] = {
    "STOPPED": "ring",
    "PAUSED": "ring",
    "RUNNING": "triangle",
    "FINISHED": "disc",
    "FAILED": "cross",
}


def against(
    trials: pd.DataFrame,
    name: str,
    domain: Hyperparameter | None = None,
    *,
    metric: str = "val_accuracy",
    chance: float | None = None,
) -> Plot:
    """Each trial's `metric` at its best epoch against one hyperparameter.

    Colour is the number of epochs trained and the symbol the state: a trial stopped after one epoch says little.
    Failed trials are crosses, at the foot of the plot when they never had a value. `domain` gives the axis; without it
    the axis is inferred from the values drawn.
    """
    known = trials.dropna(subset=[CONFIG + name]) if CONFIG + name in trials else trials.iloc[:0]
    shown, note = thin(known, POINTS)
    domain = domain or infer(name, known[CONFIG + name].tolist() if len(known) else [])
    values = shown.get(f"best/{metric}", math.nan)
    shown = shown.assign(x=_positions(shown, domain), y=values, hover=trial_hover(shown, metric))
    return Plot(
        name=f"{metric}_against_{name}",
        title=sentence(f"{words(metric)} against {words(name)}"),
        caption=" ".join([*_held(domain), *note, *(["No trial has a value."] if shown["y"].isna().all() else [])]),
        x=axis_of(domain),
        y=Axis(label=words(metric)),
        series=_by_state(shown, chance if metric.endswith("accuracy") else None),
        scale="epochs trained",
        marks=chance_mark(metric, chance),
    )


def _by_state(shown: pd.DataFrame, chance: float | None) -> tuple[Series, ...]:
    """One series per state, then the best trial once more as a star. `shown` has columns `x`, `y` and `hover`."""
    valued = shown[shown["y"].notna()]
    foot = _foot([*valued["y"], *([] if chance is None else [chance])])
    series = [
        _points(state, valued[valued["state"] == state], scaled=True)
        for state in ("STOPPED", "PAUSED", "RUNNING", "FINISHED")
    ]
    failed = shown[shown["state"] == "FAILED"]
    series.append(_points("FAILED", failed.assign(y=failed["y"].fillna(foot)), scaled=False))
    best = valued[valued["rank"] == 1]
    star = Series(
        name="best",
        style="points",
        role="best",
        symbol="star",
        x=best["x"].tolist(),
        y=best["y"].tolist(),
        hover=best["hover"].tolist(),
    )
    return tuple(entry for entry in (*series, star) if len(entry.x))


def _points(state: str, group: pd.DataFrame, *, scaled: bool) -> Series:
    return Series(
        name=LEGEND[state],
        style="points",
        role=ROLES[state],
        symbol=_SYMBOLS[state],
        x=group["x"].tolist(),
        y=group["y"].tolist(),
        values=group["epochs"].tolist() if scaled else (),
        hover=group["hover"].tolist(),
    )


def _foot(shown: Sequence[float]) -> float:
    """Where trials without a value are drawn: a little below everything else."""
    return min(shown) - 0.07 * ((max(shown) - min(shown)) or 1.0) if shown else 0.0


def _positions(shown: pd.DataFrame, domain: Hyperparameter) -> list[float]:
    """Where each trial stands on the x axis; on a category's axis spread a little, so that equal ones stay apart."""
    values = shown[CONFIG + domain.name].tolist() if CONFIG + domain.name in shown else []
    if not domain.values:
        return [float(value) for value in values]
    spread = [(0.618034 * n % 1 - 0.5) * 0.5 for n in shown["number"]]
    return [domain.values.index(value) + aside for value, aside in zip(values, spread, strict=True)]


def _held(domain: Hyperparameter) -> list[str]:
    return [] if domain.varied or not domain.values else [f"Held at {number(domain.values[0])} in this experiment."]
