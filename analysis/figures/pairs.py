"""Two hyperparameters at once."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import pandas as pd

from analysis.figures.common import LABELLED, sentence, short
from analysis.frames import CONFIG
from analysis.hyperparameters import Hyperparameter, is_missing, words
from analysis.plot import HeatMap
from analysis.summary import number, plural

BINS = 6
"""Into so many parts of equal length, on its own scale, a range is cut."""
TAKEN = 3
"""Of so many hyperparameters, the most important ones, every pair is shown."""


def pairs(trials: pd.DataFrame, domains: Sequence[Hyperparameter], metric: str, mode: str = "max") -> list[HeatMap]:
    """A map for every pair of the first few varied hyperparameters, which stand in the order of importance."""
    varied = [domain for domain in domains if domain.varied][:TAKEN]
    return [pair(trials, one, other, metric, mode) for one, other in combinations(varied, 2)]


def pair(
    trials: pd.DataFrame, x: Hyperparameter, y: Hyperparameter, metric: str = "val_accuracy", mode: str = "max"
) -> HeatMap:
    """The best value that any trial had in each cell of two hyperparameters, and how many trials lie there.

    Failed trials are left out. A trial stopped early counts by what it reached, which matters only in a cell where
    none that was trained further did better.
    """
    cells = _cells(trials, x, y, metric)
    columns, rows = _labels(x), _labels(y)
    best = {place: min(found) if mode == "min" else max(found) for place, found in cells.items()}
    grid = [[(row, column) for column in range(len(columns))] for row in range(len(rows))]
    return HeatMap(
        name=f"{metric}_by_{x.name}_and_{y.name}",
        title=sentence(f"{words(x.name)} and {words(y.name)}"),
        caption=f"Best {words(metric)} in each cell, of the number of trials below it, also of those stopped early.",
        columns=columns,
        rows=rows,
        column_label=words(x.name),
        row_label=words(y.name),
        upward=True,
        values=[[best.get(place, math.nan) for place in line] for line in grid],
        scale=f"best {words(metric)}",
        texts=[[_text(best.get(place), cells.get(place, ())) for place in line] for line in grid],
        hover=[
            [
                f"{words(x.name)} {columns[column]}\n{words(y.name)} {rows[row]}\n"
                f"{_sentence(best.get((row, column)), cells.get((row, column), ()), metric)}"
                for row, column in line
            ]
            for line in grid
        ],
    )


def _cells(
    trials: pd.DataFrame, x: Hyperparameter, y: Hyperparameter, metric: str
) -> Mapping[tuple[int, int], list[float]]:
    """The values by row and column."""
    names = [CONFIG + x.name, CONFIG + y.name, f"best/{metric}"]
    if not set(names) <= set(trials):
        return {}
    found: dict[tuple[int, int], list[float]] = {}
    usable = trials[(trials["state"] != "FAILED") & trials[names[2]].notna()]
    for one, other, value in zip(*(usable[name].tolist() for name in names), strict=True):
        if not (is_missing(one) or is_missing(other)):
            found.setdefault((_bin(y, other), _bin(x, one)), []).append(float(value))
    return found


def _bin(domain: Hyperparameter, value: object) -> int:
    """The part of the range, or of a long list of values, that a value lies in."""
    if domain.values and len(domain.values) <= LABELLED:
        return domain.values.index(value)
    return min(BINS - 1, max(0, int(domain.position(value) * BINS)))


def _labels(domain: Hyperparameter) -> list[str]:
    if domain.values and len(domain.values) <= LABELLED:
        return [short(number(value)) for value in domain.values]
    if domain.values:
        parts = [[value for value in domain.values if _bin(domain, value) == part] for part in range(BINS)]
        return [f"{short(number(part[0]))} … {short(number(part[-1]))}" if part else "–" for part in parts]
    edges = [domain.value_at(part / BINS) for part in range(BINS + 1)]
    return [f"{low:.2g}–{high:.2g}" for low, high in pairwise(edges)]


def _text(best: float | None, found: Sequence[float]) -> str:
    return "" if best is None else f"{best:.3g}\n×{len(found)}"


def _sentence(best: float | None, found: Sequence[float], metric: str) -> str:
    return "no trial" if best is None else f"best {words(metric)} {best:.4f} of {plural(len(found), 'trial')}"
