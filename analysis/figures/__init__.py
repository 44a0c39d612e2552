"""The report's plots: each function takes frames as `analysis.load` gives them and returns a `Drawable`.

`plot.plotly()` and `plot.matplotlib()` draw it.
"""

from collections.abc import Callable, Mapping, Sequence

from analysis.best_model import best_model_plots
from analysis.comparable import comparable_of
from analysis.comparable import rungs_of as rungs_of
from analysis.figures.against import against as against
from analysis.figures.common import thin as thin
from analysis.figures.curves import curves as curves
from analysis.figures.failures import failure_counts as failure_counts
from analysis.figures.importance import importance as importance
from analysis.figures.importance import parallel as parallel
from analysis.figures.pairs import pair as pair
from analysis.figures.pairs import pairs as pairs
from analysis.figures.progress import SPENT
from analysis.figures.progress import progress as progress
from analysis.figures.rungs import survivors as survivors
from analysis.figures.timeline import timeline as timeline
from analysis.figures.timeline import timeline_of
from analysis.frames import Experiment
from analysis.importance import importances
from analysis.plot import Drawable, HeatMap, Plot
from analysis.summary import failures
from analysis.trade_off import trade_offs

CURVES = {
    "val_accuracy": "train_accuracy",
    "train_accuracy": "val_accuracy",
    "val_loss": "train_loss",
    "train_loss": "val_loss",
}
"""What every report shows by epoch, and what stands beside it: training beside validation."""


def plots_of(
    experiment: Experiment, begin: Callable[[Sequence[Drawable]], object] = lambda plots: None
) -> dict[str, list[Drawable]]:
    """Every plot of the report by section.

    `hyperparameters`, `importance`, `trade_off`, `curves`, `rungs`, `progress`, `slots`, `failures`, `best_model`.
    Empty plots are left out, and that of the failures where all failed alike. `begin` gets some plots as soon as there
    are any, then others, then the rest.
    """

    def known(sections: Mapping[str, Sequence[Drawable]]) -> dict[str, list[Drawable]]:
        shown = {name: [plot for plot in plots if _shows(plot)] for name, plots in sections.items()}
        begin([plot for plots in shown.values() for plot in plots])
        return shown

    by_epoch = known({"trade_off": trade_offs(experiment), "curves": _of_curves(experiment)})
    by_course = known(_of_course(experiment))
    return {**known(_of_hyperparameters(experiment)), **by_epoch, **by_course}


def _of_course(experiment: Experiment) -> dict[str, Sequence[Drawable]]:
    """How the search went, and the model that it found."""
    trials = experiment.trials
    return {
        "rungs": [survivors(trials, _max_epochs(experiment), rungs_of(experiment.manifest))],
        "progress": _of_progress(experiment),
        "slots": timeline_of(experiment),
        "failures": [failure_counts(trials)] if len(failures(trials)) > 1 else [],
        "best_model": best_model_plots(experiment),
    }


def _of_hyperparameters(experiment: Experiment) -> dict[str, Sequence[Drawable]]:
    """Each hyperparameter by itself, then which of them matter, and how they act together: this takes fits."""
    trials, metric, mode = experiment.trials, experiment.metric, experiment.mode
    measured = comparable_of(experiment)
    found = importances(experiment, measured)
    domains = experiment.hyperparameters
    ordered = [domains[str(name)] for name in found.shares.index] if found else list(domains.values())
    together: list[Drawable] = [] if found is None else [importance(found)]
    if measured is not None:
        together.append(parallel(measured, ordered, metric, mode))
    return {
        "hyperparameters": [
            against(trials, name, domain, metric=metric, chance=experiment.chance, measured=measured)
            for name, domain in domains.items()
        ],
        "importance": [*together, *pairs(trials, ordered, metric, mode)],
    }


def _of_curves(experiment: Experiment) -> list[Drawable]:
    rungs = rungs_of(experiment.manifest)
    return [
        curves(
            experiment.reports,
            experiment.trials,
            column,
            rungs=rungs,
            chance=experiment.chance_of(column),
            beside=CURVES.get(column, ""),
        )
        for column in dict.fromkeys((experiment.metric, *CURVES))
    ]


def _of_progress(experiment: Experiment) -> list[Drawable]:
    resources = experiment.manifest.get("resources") or {}
    unit = "GPU" if resources.get("gpus_per_worker") else "CPU"
    metric, mode, chance = experiment.metric, experiment.mode, experiment.chance
    return [
        progress(experiment.reports, metric=metric, mode=mode, chance=chance, against=spent, unit=unit)
        for spent in SPENT
    ]


def _max_epochs(experiment: Experiment) -> int:
    asked = experiment.manifest.get("max_epochs")
    return asked if isinstance(asked, int) else int(experiment.trials["epochs"].max()) if len(experiment.trials) else 0


def _shows(plot: Drawable) -> bool:
    """Whether there is anything to see in it."""
    if isinstance(plot, HeatMap):
        return any(value == value for row in plot.values for value in row)
    return not isinstance(plot, Plot) or bool(plot.series)
