import math

import pandas as pd

from analysis.comparable import comparable_of
from analysis.figures import importance, parallel
from analysis.importance import Importances
from tests.analysis.figures.conftest import named


def test_importance_draws_both_evaluators_from_the_top():
    shares = pd.DataFrame({"fANOVA": [0.7, 0.3], "PED-ANOVA": [0.6, 0.4]}, index=["learning_rate", "weight_init"])
    plot = importance(Importances(shares, "How."))
    assert plot.y.categories == ("weight init", "learning rate")
    assert [(series.name, series.x) for series in plot.series] == [("fANOVA", [0.3, 0.7]), ("PED-ANOVA", [0.4, 0.6])]
    assert plot.series[0].hover[1] == "learning rate: 70.0% by fANOVA"


def test_parallel_lines_run_through_every_hyperparameter_to_the_value(random_search):
    measured = comparable_of(random_search)
    domains = list(random_search.hyperparameters.values())
    plot = parallel(measured, domains, "val_accuracy")
    assert plot.x.categories == ("learning rate", "logit scale", "embedding dim", "weight init", "val accuracy")
    best = named(plot, "best tenth")
    row = measured.trials.sort_values("value").iloc[-1]
    assert best.y[:5] == [*(d.position(row[f"config/{d.name}"]) for d in domains), 1.0]
    lines = sum(sum(math.isnan(y) for y in series.y) + 1 for series in plot.series)
    assert lines == len(measured.trials)
    assert {"0.0001", "0.01", "trunc_normal"} <= {note.text for note in plot.notes}
