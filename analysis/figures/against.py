"""The metric against one hyperparameter."""

import math
from collections.abc import Sequence

import pandas as pd

from analysis.comparable import Comparable, comparable
from analysis.figures.common import LEGEND, ROLES, axis_of, chance_mark, sentence, thin, trial_hover
from analysis.frames import CONFIG
from analysis.hyperparameters import Hyperparameter, infer, words
from analysis.plot import Axis, Plot, Series, Symbol
from analysis.summary import number
from analysis.trend import means, smooth

POINTS = 2_000
"""Most trials that one scatter plot shows."""

_HALF_BOX = 0.36
"""Half the width of a mean's box, of the distance between two values."""

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
    measured: Comparable | None = None,
) -> Plot:
    """Each trial's `metric` at its best epoch against one hyperparameter, and the trend of those that compare.

    Colour is the number of epochs trained and the symbol the state: a trial stopped after one epoch says little.
    Failed trials are crosses, at the foot of the plot when they never had a value. `domain` gives the axis; without it
    the axis is inferred from the values drawn. The trend is that of the trials `measured`, which are those trained to
    the end unless given: a trial that was stopped early says what it reached early.
    """
    known = trials.dropna(subset=[CONFIG + name]) if CONFIG + name in trials else trials.iloc[:0]
    shown, note = thin(known, POINTS)
    domain = domain or infer(name, known[CONFIG + name].tolist() if len(known) else [])
    values = shown.get(f"best/{metric}", math.nan)
    shown = shown.assign(x=_positions(shown, domain), y=values, hover=trial_hover(shown, metric))
    valueless = ["No trial has a value."] if shown["y"].isna().all() else []
    trend, told = _trend(domain, measured or comparable(trials, metric))
    return Plot(
        name=f"{metric}_against_{name}",
        title=sentence(f"{words(metric)} against {words(name)}"),
        caption=" ".join([*_held(domain), *note, *(valueless or told)]),
        x=axis_of(domain),
        y=Axis(label=words(metric)),
        series=_under_and_over(trend, _by_state(shown, chance if metric.endswith("accuracy") else None)),
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


def _under_and_over(trend: tuple[Series, ...], trials: tuple[Series, ...]) -> tuple[Series, ...]:
    """The band under the trials, the curve over them, the best trial over all."""
    best = tuple(series for series in trials if series.role == "best")
    return (*trend[:1], *(series for series in trials if series.role != "best"), *trend[1:], *best)


def _trend(domain: Hyperparameter, measured: Comparable | None) -> tuple[tuple[Series, ...], list[str]]:
    """The trend with its uncertainty, and the sentence that says what it rests on."""
    if not domain.varied:
        return (), []
    if measured is None:
        return (), ["No trend: too few trials were trained as far as each other."]
    known = measured.trials.dropna(subset=[CONFIG + domain.name])
    drawn = _means(domain, known) if domain.values else _smooth(domain, known)
    way = "bar: the mean, box: where it lies" if domain.values else "band: where the mean lies"
    method = "Student's t" if domain.values else "Gaussian process"
    told = f"Trend of {measured.share}, those {measured.words}; {way} with 95 % ({method})."
    return drawn, [told] if drawn else []


def _smooth(domain: Hyperparameter, known: pd.DataFrame) -> tuple[Series, ...]:
    """A curve with its band over a range; nothing where all trials have one value."""
    places = [domain.position(value) for value in known[CONFIG + domain.name]]
    if len(set(places)) < 2:
        return ()
    trend = smooth(places, known["value"].tolist())
    x = [domain.value_at(place) for place in trend.x]
    return _trend_series([*x, *x[::-1]], [*trend.high, *trend.low[::-1]], x, trend.mean.tolist())


def _means(domain: Hyperparameter, known: pd.DataFrame) -> tuple[Series, ...]:
    """A bar in a box for each value that enough trials have."""
    groups = [domain.values.index(value) for value in known[CONFIG + domain.name]]
    trend = means(groups, known["value"].tolist())
    band_x: list[float] = []
    band_y: list[float] = []
    x: list[float] = []
    y: list[float] = []
    for at, mean, low, high in zip(trend.x, trend.mean, trend.low, trend.high, strict=True):
        left, right = at - _HALF_BOX, at + _HALF_BOX
        band_x += [left, right, right, left, math.nan]
        band_y += [low, low, high, high, math.nan]
        x += [left, right, math.nan]
        y += [mean, mean, math.nan]
    return _trend_series(band_x[:-1], band_y[:-1], x[:-1], y[:-1]) if x else ()


def _trend_series(
    band_x: Sequence[float], band_y: Sequence[float], x: Sequence[float], y: Sequence[float]
) -> tuple[Series, ...]:
    return (
        Series(name="95 % of the trend", style="area", role="second", x=band_x, y=band_y, in_legend=False),
        Series(name="trend", style="curve", role="second", x=x, y=y),
    )
