"""The report's plots: each function takes frames as `analysis.load` gives them and returns a `Drawable`.

`plot.plotly()` and `plot.matplotlib()` draw it.
"""

from analysis.best_model import best_model_plots
from analysis.figures.against import against as against
from analysis.figures.common import thin as thin
from analysis.figures.curves import curves as curves
from analysis.figures.failures import failure_counts as failure_counts
from analysis.figures.progress import progress as progress
from analysis.figures.rungs import rungs_of as rungs_of
from analysis.frames import Experiment
from analysis.plot import Drawable
from analysis.summary import failures
from analysis.trade_off import trade_offs


def plots_of(experiment: Experiment) -> dict[str, list[Drawable]]:
    """Every plot of the report by section: `hyperparameters`, `trade_off`, `curves`, `progress`, `failures`,
    `best_model`.

    Empty plots are left out, and that of the failures where all failed alike.
    """
    reports, trials, metric, mode = experiment.reports, experiment.trials, experiment.metric, experiment.mode
    sections = {
        "hyperparameters": [
            against(trials, name, domain, metric=metric, chance=experiment.chance)
            for name, domain in experiment.hyperparameters.items()
        ],
        "trade_off": trade_offs(experiment),
        "curves": [
            curves(reports, trials, column, rungs=rungs_of(experiment.manifest), chance=experiment.chance_of(column))
            for column in dict.fromkeys((metric, "val_accuracy", "train_accuracy", "val_loss", "train_loss"))
        ],
        "progress": [progress(reports, metric=metric, mode=mode, chance=experiment.chance)],
        "failures": [failure_counts(trials)] if len(failures(trials)) > 1 else [],
    }
    drawn: dict[str, list[Drawable]] = {name: [p for p in plots if p.series] for name, plots in sections.items()}
    return {**drawn, "best_model": [*best_model_plots(experiment)]}
