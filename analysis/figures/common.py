"""What several figures share: words, marks, axes, hover texts, and thinning."""

import math
from collections.abc import Iterable

import pandas as pd

from analysis.frames import CONFIG
from analysis.hyperparameters import Hyperparameter, words
from analysis.plot import Axis, Mark, Role
from analysis.summary import STATE_WORDS, number, plural

LEGEND = {**STATE_WORDS, "FINISHED": "to the end"}
"""State of a trial -> its entry in a legend."""
ROLES: dict[str, Role] = {
    "STOPPED": "stopped",
    "PAUSED": "paused",
    "RUNNING": "running",
    "FINISHED": "finished",
    "FAILED": "failed",
}
"""State of a trial -> its colour."""

LABELLED = 8
"""Most values of a choice that each get a place of their own where room is scarce."""
_LABEL_LETTERS = 16


def thin(trials: pd.DataFrame, limit: int) -> tuple[pd.DataFrame, list[str]]:
    """At most `limit` trials, the best by rank and others evenly spaced, and the note that says so."""
    if len(trials) <= limit:
        return trials, []
    best = trials.nsmallest(limit // 4, "rank")
    rest = trials.drop(best.index)
    room = max(1, limit - len(best))
    even = rest.iloc[[i * len(rest) // room for i in range(min(room, len(rest)))]]
    shown = pd.concat([best, even]).sort_values("number")
    return shown, [
        f"Shows {len(shown):,} of {len(trials):,} trials: the best {len(best):,} and an even sample of the rest."
    ]


def axis_of(domain: Hyperparameter) -> Axis:
    """The axis of a hyperparameter: its values in a row, or its range on its own scale with a little room."""
    if domain.values:
        ends = (-0.5, max(1, len(domain.values)) - 0.5)
        return Axis(
            label=words(domain.name), categories=tuple(short(number(value)) for value in domain.values), bounds=ends
        )
    return Axis(label=words(domain.name), log=domain.log, bounds=padded(domain.low, domain.high, log=domain.log))


def padded(low: float, high: float, *, log: bool = False) -> tuple[float, float] | None:
    """The bounds of an axis that shows a range with a little room; None for one without length."""
    if not low < high:
        return None
    if log:
        pad = (high / low) ** 0.03
        return low / pad, high * pad
    pad = 0.03 * (high - low)
    return low - pad, high + pad


def trial_hover(trials: pd.DataFrame, metric: str) -> list[str]:
    """One text per trial: its number, fate and result, and every hyperparameter that differs between trials."""
    varied = [name for name in trials if str(name).startswith(CONFIG) and trials[name].nunique() > 1]
    values = trials[f"best/{metric}"].tolist() if f"best/{metric}" in trials else [math.nan] * len(trials)
    columns = [trials[name].tolist() for name in varied]
    heads = zip(trials["number"], trials["state"], trials["epochs"], trials["best_epoch"], values, strict=True)
    texts = []
    for row, (trial, state, epochs, best_epoch, value) in enumerate(heads):
        fate = f"trial {trial}, {STATE_WORDS[state]} after {plural(int(epochs), 'epoch')}"
        result = f"{words(metric)} {value:.4f} at epoch {best_epoch:.0f}" if math.isfinite(value) else "no value"
        config = (
            f"{words(str(name).removeprefix(CONFIG))}: {number(column[row])}"
            for name, column in zip(varied, columns, strict=True)
        )
        texts.append("\n".join([fate, result, *config]))
    return texts


def report_hover(reports: pd.DataFrame, column: str) -> list[str]:
    """One text per report: whose it is, and the value of a column."""
    if reports.empty:
        return []
    rows = zip(reports["number"], reports["epoch"], reports[column], strict=True)
    return [f"trial {trial}, epoch {epoch}: {value:.4f}" for trial, epoch, value in rows]


def chance_mark(metric: str, chance: float | None) -> tuple[Mark, ...]:
    """What guessing gives, where it is known and the metric an accuracy."""
    return (Mark(chance, f"chance {chance:.3f}"),) if chance is not None and metric.endswith("accuracy") else ()


def spreads(values: Iterable[float]) -> bool:
    """Whether a few values are so large that a linear axis would flatten the rest."""
    positive = pd.Series(values, dtype=float).dropna()
    return bool(len(positive) and positive.min() > 0 and positive.max() > 20 * positive.median())


def short(name: str) -> str:
    """A category's label: a long name loses its middle."""
    return name if len(name) <= _LABEL_LETTERS else f"{name[: _LABEL_LETTERS // 2]}…{name[1 - _LABEL_LETTERS // 2 :]}"


def sentence(text: str) -> str:
    """A text with a capital at its start."""
    return text[:1].upper() + text[1:]
