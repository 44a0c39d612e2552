"""What the frames say: pure functions from frames to small tables."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.frames import CONFIG
from analysis.hyperparameters import Hyperparameter, is_missing
from search.trials import STATES

EDGE = 0.1
"""A best value within this share of a range's end, on the range's own scale, is called at the edge."""

_EDGED_VALUES = 4

STATE_WORDS = {
    "PENDING": "waiting",
    "RUNNING": "unfinished",
    "PAUSED": "paused at a rung",
    "FINISHED": "trained to the end",
    "STOPPED": "stopped early",
    "FAILED": "failed",
}


@dataclass(frozen=True)
class Edge:
    """A hyperparameter whose best value lies at an end of its range."""

    name: str
    side: str
    """`lower` or `upper`."""
    value: Any
    bound: Any


def count_states(trials: pd.DataFrame) -> dict[str, int]:
    """How many trials are in each state, every state named, in the order of a trial's life."""
    counts = trials["state"].value_counts()
    return {state: int(counts.get(state, 0)) for state in STATES}


def best_trial(trials: pd.DataFrame) -> pd.Series | None:
    """The row of the trial ranked first; None where no trial has a value yet."""
    first = trials[trials["rank"] == 1]
    return None if first.empty else first.iloc[0]


def config_of(trial: pd.Series) -> dict[str, Any]:
    """A trial's hyperparameters as plain Python values, in the order of their columns."""
    return {
        str(name).removeprefix(CONFIG): value.item() if hasattr(value, "item") else value
        for name, value in trial.items()
        if str(name).startswith(CONFIG) and not is_missing(value)
    }


def best_so_far(reports: pd.DataFrame, metric: str = "val_accuracy", mode: str = "max") -> pd.DataFrame:
    """Every report that was better than all before it, in the order of time; failed trials are left out.

    Columns `elapsed_seconds`, `number` (the trial's), `epoch` and `value`.
    """
    columns = ["elapsed_seconds", "number", "epoch", "value"]
    if metric not in reports:
        return pd.DataFrame(columns=columns)
    usable = reports[(reports["state"] != "FAILED") & reports[metric].notna()]
    ordered = usable.sort_values("elapsed_seconds", kind="stable").rename(columns={metric: "value"})
    values = ordered["value"] if mode == "max" else -ordered["value"]
    return ordered.loc[values > values.cummax().shift(fill_value=-math.inf), columns].reset_index(drop=True)


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """Failed trials by cause, the most frequent first.

    Trials with the same kind of error, in the same place and with the same traceback file failed alike: the search
    writes one such file per cause. Columns `kind`, `where`, `message` (the first one's), `traceback_file`, `count` and
    `numbers` (the trials').
    """
    columns = ["kind", "where", "message", "traceback_file", "count", "numbers"]
    failed = trials[trials["state"] == "FAILED"].rename(columns=lambda name: str(name).removeprefix("failure/"))
    failed = failed.fillna({"kind": "unknown error", "where": "", "traceback_file": ""})
    rows = [
        [kind, where, _first_message(group), file, len(group), group["number"].tolist()]
        for (kind, where, file), group in failed.groupby(["kind", "where", "traceback_file"], sort=False)
    ]
    return pd.DataFrame(rows, columns=columns).sort_values("count", ascending=False, kind="stable", ignore_index=True)


def edges(trial: pd.Series, hyperparameters: dict[str, Hyperparameter]) -> list[Edge]:
    """The hyperparameters of a trial that lie at the lower or upper end of the range they were searched over.

    A choice among few values has no edges: most of its values would lie there.
    """
    found = []
    for name, domain in hyperparameters.items():
        value = config_of(trial).get(name)
        position = domain.position(value) if has_edges(domain) else math.nan
        low, high = (domain.values[0], domain.values[-1]) if domain.values else (domain.low, domain.high)
        if position <= EDGE:
            found.append(Edge(name, "lower", value, low))
        elif position >= 1 - EDGE:
            found.append(Edge(name, "upper", value, high))
    return found


def duration(seconds: float) -> str:
    """A time in the two largest units that fit: `4 min 12 s`."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"


def number(value: Any) -> str:
    """A hyperparameter or metric as text: four significant digits, no trailing zeros."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"


def plural(count: int, noun: str, several: str = "") -> str:
    """A count with its noun: `1 trial`, `2 trials`; `several` is a plural that takes more than an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {several or noun + 's'}"


def has_edges(domain: Hyperparameter) -> bool:
    """Whether it has ends to come near: it varied, over numbers, and over more than a few of them."""
    return domain.varied and domain.ordered and (not domain.values or len(domain.values) >= _EDGED_VALUES)


def _first_message(group: pd.DataFrame) -> str:
    messages = group["message"].dropna()
    return "" if messages.empty else str(messages.iloc[0])


def listed(parts: list[str]) -> str:
    """Parts of a sentence: `a, b and c`."""
    return "".join(parts) if len(parts) < 2 else f"{', '.join(parts[:-1])} and {parts[-1]}"
