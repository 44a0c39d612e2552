import math

import pandas as pd

from analysis.figures import pair, pairs
from analysis.hyperparameters import Hyperparameter


def test_pairs_hold_the_best_value_and_the_count_of_each_cell(experiment):
    trials, domains = experiment.trials, experiment.hyperparameters
    found = pair(trials, domains["weight_init"], domains["embedding_dim"])
    usable = trials[(trials["state"] != "FAILED") & trials["best/val_accuracy"].notna()]
    groups = usable.groupby(["config/embedding_dim", "config/weight_init"])["best/val_accuracy"]
    expected = {place: (best, f"{best:.3g}\n×{count}") for place, best, count in zip(
        groups.max().index, groups.max(), groups.size(), strict=True
    )}  # fmt: skip
    cells = {
        (int(row), column): (value, found.texts[r][c])
        for r, row in enumerate(found.rows)
        for c, column in enumerate(found.columns)
        if not math.isnan(value := found.values[r][c])
    }
    assert cells == expected
    assert found.upward


def test_a_range_is_cut_on_its_own_scale():
    trials = pd.DataFrame(
        {
            "state": "FINISHED",
            "config/a": [1e-4, 2e-4, 9e-3, 1e-2],
            "config/b": [0, 0.1, 5, 6],
            "best/acc": [1, 2, 4, 3],
        }
    )
    a, b = Hyperparameter(name="a", log=True, low=1e-4, high=1e-2), Hyperparameter(name="b", low=0, high=6)
    found = pair(trials, a, b, "acc")
    assert (found.columns[0], found.columns[-1]) == ("0.0001–0.00022", "0.0046–0.01")
    assert (found.values[0][0], found.values[-1][-1]) == (2, 4)
    assert pair(trials, a, b, "acc", "min").values[-1][-1] == 3
    assert found.hover[0][0] == "a 0.0001–0.00022\nb 0–1\nbest acc 2.0000 of 2 trials"


def test_the_most_important_hyperparameters_make_the_pairs(experiment):
    names = [
        found.name for found in pairs(experiment.trials, list(experiment.hyperparameters.values()), "val_accuracy")
    ]
    assert names == [
        "val_accuracy_by_learning_rate_and_logit_scale",
        "val_accuracy_by_learning_rate_and_embedding_dim",
        "val_accuracy_by_logit_scale_and_embedding_dim",
    ]
