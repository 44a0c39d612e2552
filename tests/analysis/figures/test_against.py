import math

import numpy as np
import pytest

from analysis.figures import against
from analysis.frames import load_experiment
from analysis.hyperparameters import Hyperparameter
from tests.analysis.figures.conftest import named


def test_draws_each_trial_once_by_its_state(experiment):
    plot = against(experiment.trials, "learning_rate", experiment.hyperparameters["learning_rate"])
    for state, name in (("STOPPED", "stopped early"), ("FINISHED", "to the end")):
        group = experiment.trials[experiment.trials["state"] == state]
        series = named(plot, name)
        assert list(series.x) == group["config/learning_rate"].tolist()
        assert list(series.y) == group["best/val_accuracy"].tolist()
        assert list(series.values) == group["epochs"].tolist()
    assert (named(plot, "stopped early").symbol, named(plot, "to the end").symbol) == ("ring", "disc")


def test_the_learning_rate_has_a_log_axis_over_its_whole_range(experiment):
    plot = against(experiment.trials, "learning_rate", experiment.hyperparameters["learning_rate"])
    low, high = plot.x.bounds
    assert plot.x.log
    assert low < 1e-4 < 1e-2 < high
    assert not against(experiment.trials, "logit_scale", experiment.hyperparameters["logit_scale"]).x.log


def test_failed_trials_without_a_value_stand_below_all_others(experiment):
    plot = against(experiment.trials, "learning_rate", chance=experiment.chance)
    failed = named(plot, "failed")
    others = [y for series in plot.series if series is not failed for y in series.y]
    numbers = experiment.trials.loc[experiment.trials["state"] == "FAILED", "best_value"]
    at_foot = [y for y, value in zip(failed.y, numbers, strict=True) if math.isnan(value)]
    assert len(at_foot) == 2
    assert max(at_foot) < min(*others, experiment.chance)
    assert failed.y[1] == numbers.iloc[1]


def test_the_best_trial_is_a_star(experiment):
    star = named(against(experiment.trials, "logit_scale"), "best")
    best = experiment.trials[experiment.trials["rank"] == 1].iloc[0]
    assert (star.symbol, star.x, star.y) == ("star", [best["config/logit_scale"]], [best["best_value"]])


def test_categories_stand_near_their_place(experiment):
    domain = experiment.hyperparameters["embedding_dim"]
    plot = against(experiment.trials, "embedding_dim", domain)
    series = named(plot, "stopped early")
    group = experiment.trials[experiment.trials["state"] == "STOPPED"]
    assert plot.x.categories == ("2", "4", "8", "16", "32", "64", "128")
    assert [domain.values[round(x)] for x in series.x] == group["config/embedding_dim"].tolist()
    assert all(abs(x - round(x)) <= 0.25 for x in series.x)


def test_hover_tells_a_trials_config(experiment):
    best = named(against(experiment.trials, "learning_rate"), "best").hover[0]
    assert best.splitlines() == [
        "trial 7, trained to the end after 8 epochs",
        "validation accuracy 0.8105 at epoch 8",
        "learning rate: 0.001719",
        "initial logit scale (log space): 1.476",
        "embedding dim: 128",
        "weight initialisation: xavier",
    ]


def test_a_constant_hyperparameter_says_so(make):
    def fix(number, config, reports):
        config["embedding_dim"] = 64

    experiment = load_experiment(make(space={"learning_rate": "loguniform(0.0001,0.01)"}, edit=fix))
    plot = against(experiment.trials, "embedding_dim", experiment.hyperparameters["embedding_dim"])
    assert (plot.x.categories, plot.caption) == (("64",), "Held at 64 in this experiment.")


def test_a_hyperparameter_that_no_trial_has_draws_nothing(experiment):
    assert against(experiment.trials, "momentum").series == ()


def test_a_long_category_loses_its_middle(experiment):
    domain = Hyperparameter(name="weight_init", values=("a" * 30 + "z", "xavier", "kaiming", "orthogonal"))
    plot = against(experiment.trials[experiment.trials["config/weight_init"] != "trunc_normal"], "weight_init", domain)
    assert plot.x.categories[0] == "aaaaaaaa…aaaaaaz"


def test_the_trend_rests_on_trials_trained_to_the_end(random_search):
    trials = random_search.trials
    finished = trials[trials["state"] == "FINISHED"]
    plot = against(trials, "learning_rate", random_search.hyperparameters["learning_rate"])
    band, trend = plot.series[0], plot.series[-2]
    assert (band.style, trend.style, trend.name) == ("area", "curve", "trend")
    assert trend.x[0] == pytest.approx(finished["config/learning_rate"].min())
    assert trend.x[-1] == pytest.approx(finished["config/learning_rate"].max())
    assert np.diff(np.log(trend.x)) == pytest.approx(np.log(trend.x[1] / trend.x[0]))
    upper, lower = np.split(np.asarray(band.y), 2)
    assert (lower[::-1] < trend.y).all()
    assert (trend.y < upper).all()
    assert plot.caption == (
        f"Trend of {len(finished)} of 40 trials, those trained to the end; "
        "band: where the mean lies with 95 % (Gaussian process)."
    )


def test_the_trend_of_a_choice_is_the_mean_of_each_value(random_search):
    trials = random_search.trials
    plot = against(trials, "weight_init", random_search.hyperparameters["weight_init"])
    means = trials[trials["state"] == "FINISHED"].groupby("config/weight_init")["best/val_accuracy"].mean()
    trend = named(plot, "trend")
    drawn = {plot.x.categories[round(x + 0.36)]: y for x, y in zip(trend.x[::3], trend.y[::3], strict=True)}
    assert drawn == pytest.approx(means.to_dict())
    assert "Student's t" in plot.caption


def test_few_trials_have_no_trend_and_the_caption_says_so(experiment):
    plot = against(experiment.trials, "learning_rate", experiment.hyperparameters["learning_rate"])
    assert "trend" not in [series.name for series in plot.series]
    assert plot.caption == "No trend: too few trials were trained as far as each other."
