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
    import pandas as pd

    from analysis.comparison import Comparison as Comparison
    from analysis.figures import against as against
    from analysis.figures import curves as curves
    from analysis.figures import failure_counts as failure_counts
    from analysis.figures import progress as progress

_MODULES = {
    "against": "analysis.figures",
    "curves": "analysis.figures",
    "failure_counts": "analysis.figures",
    "progress": "analysis.figures",
}
"""What is imported when it is first asked for."""


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
        return found.reports, found.trials


def compare(*experiments: str | Path) -> "Comparison":
    """Two or more experiments side by side, by folder or address; see `analysis.comparison`.

    Raises as `load` does, and `ExperimentError` where they searched by different metrics.
    """
    from contextlib import ExitStack

    from analysis import comparison
    from analysis.sources import opened

    with ExitStack() as stack:
        return comparison.compare([stack.enter_context(opened(one)) for one in experiments])


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
