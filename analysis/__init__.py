"""What a search found: tidy tables, summaries, figures, comparisons and the report.

    from analysis import load, against
    reports, trials = load("results/demo")
    against(trials, "learning_rate").plotly().show()

docs/analysis.md shows the rest. Importing this package is quick: pandas, plotly and matplotlib are imported where they
are used, torch and ray never.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from analysis.comparison import Comparison
    from analysis.figures import against as against
    from analysis.figures import curves as curves
    from analysis.figures import failure_counts as failure_counts
    from analysis.figures import pair as pair
    from analysis.figures import progress as progress
    from analysis.figures import survivors as survivors
    from analysis.figures import timeline as timeline

FIGURES = ("against", "curves", "failure_counts", "pair", "progress", "survivors", "timeline")
"""Figure functions of `analysis.figures` that are imported when they are first asked for."""


def load(experiment: str | Path) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The reports and the trials of an experiment, finished or still running, by its folder or address (s3://…).

    `reports` has one row per report, that is per epoch of a trial, in the order of trial and epoch; `trials` one row
    per trial, in the order of creation. Both also carry every hyperparameter as a column `config/<name>`
    (`config/learning_rate` …). `analysis.columns` says what each column means, in which unit. A value that was not
    finite is NaN.

    Raises `ExperimentError` where there is no experiment, or its ledger cannot be read, and `StorageError` where the
    address cannot be reached.
    """
    from analysis.sources import opened

    with opened(experiment) as found:
        return found.with_configs(found.reports), found.trials


def compare(*experiments: str | Path) -> "Comparison":
    """Two or more experiments side by side, by folder or address; see `analysis.comparison`.

    Raises as `load` does, and `ExperimentError` where they searched by different metrics.
    """
    from contextlib import ExitStack

    from analysis import comparison
    from analysis.sources import opened

    with ExitStack() as stack:
        return comparison.compare([stack.enter_context(opened(one)) for one in experiments])


def to_optuna_study(experiment: str | Path) -> "optuna.Study":
    """Every trial of an experiment as a study of Optuna in memory, by folder or address.

    A trial that came to its end is COMPLETE, one that the scheduler stopped PRUNED with its curve, a failed one FAIL,
    and one that still runs RUNNING. So Optuna's plots, importances and samplers work on it. Raises as `load` does.
    """
    from analysis.sources import opened
    from analysis.study import study_of

    with opened(experiment) as found:
        return study_of(found)


def __getattr__(name: str) -> Any:
    if name not in FIGURES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("analysis.figures"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FIGURES})
