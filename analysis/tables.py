"""The report's table of trials, as text with the numbers to sort it by."""

import math
from typing import Any

from analysis.frames import CONFIG, Experiment
from analysis.hyperparameters import words
from analysis.summary import STATE_WORDS, duration, number

ROWS = 1_000
"""Most trials in the table."""


def trials_table(experiment: Experiment) -> dict[str, Any]:
    """Trials by rank, the failed ones last, with the hyperparameters that the plots show."""
    trials = experiment.trials.sort_values(["rank", "number"], na_position="last")
    columns = {
        "rank": "rank",
        "number": "trial",
        "state": "state",
        "best_value": words(experiment.metric),
        "best_epoch": "best epoch",
        "epochs": "epochs",
        "train_seconds": "training time",
        **{CONFIG + name: name.replace("_", " ") for name in experiment.hyperparameters},
    }
    shown = trials.head(ROWS)
    states = shown["state"].tolist()
    cells = zip(*([_cell(name, value) for value in shown[name].tolist()] for name in columns), strict=True)
    note = "" if len(shown) == len(trials) else f"The best {len(shown):,} of {len(trials):,}."
    rows = [{"state": state, "cells": row} for state, row in zip(states, cells, strict=True)]
    found = [(state, text) for state, text in STATE_WORDS.items() if state in set(states)]
    return {"headings": list(columns.values()), "rows": rows, "note": note, "states": found}


def _cell(column: str, value: Any) -> dict[str, Any]:
    """A cell's text, and the number to sort it by."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if column == "state":
        return {"text": STATE_WORDS[value], "key": None}
    if not numeric:
        return {"text": "–" if value is None or isinstance(value, float) else str(value), "key": None}
    if column == "train_seconds":
        return {"text": duration(value), "key": value}
    if column in ("rank", "best_epoch"):
        return {"text": f"{value:.0f}", "key": value}
    return {"text": f"{value:.4f}" if column == "best_value" else number(value), "key": value}
