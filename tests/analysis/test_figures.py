import math

import pandas as pd
import pytest

from analysis.figures import against, curves, failure_counts, plots_of, progress, rungs_of, thin
from analysis.frames import load_experiment
from analysis.hyperparameters import Hyperparameter


def named(plot, name):
    return next(series for series in plot.series if series.name == name)


@pytest.fixture(scope="module")
def experiment(demo):
    return load_experiment(demo)


def test_the_four_plots_of_every_report(experiment):
    names = [plot.name for plot in plots_of(experiment)["hyperparameters"]]
    four = ("learning_rate", "logit_scale", "embedding_dim", "weight_init")
    assert names == [f"val_accuracy_against_{name}" for name in four]


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


def test_all_failed_still_shows_where(make):
    def diverge(number, config, reports):
        config["learning_rate"] = 9e-3

    plots = plots_of(load_experiment(make(edit=diverge)))
    assert [len(plot.series[0].x) for plot in plots["hyperparameters"]] == [16] * 4
    assert all("No trial has a value." in plot.caption for plot in plots["hyperparameters"])
    assert (plots["curves"], plots["progress"]) == ([], [])


def test_no_trial_no_plot(make):
    assert not any(plots_of(load_experiment(make(trials=0))).values())


def test_curves_hold_every_report_with_gaps_between_trials(experiment):
    plot = curves(experiment.reports, experiment.trials, "val_accuracy")
    drawn = [y for series in plot.series for y in series.y if not math.isnan(y)]
    assert sorted(drawn) == sorted(experiment.reports["val_accuracy"])
    stopped = named(plot, "stopped early")
    starts = [x for before, x in zip([math.nan, *stopped.x], stopped.x, strict=False) if math.isnan(before)]
    assert starts == [1.0] * 8


def test_curves_name_the_best_three_and_draw_them_last(experiment):
    plot = curves(experiment.reports, experiment.trials, "train_loss")
    assert [series.name for series in plot.series[-3:]] == ["trial 15", "trial 9", "trial 7 (best)"]
    best = experiment.reports[experiment.reports["number"] == 7]
    assert list(plot.series[-1].y) == best["train_loss"].tolist()
    assert list(plot.series[-1].x) == best["epoch"].tolist()


def test_curves_leave_out_nan(make):
    def lost(number, config, reports):
        reports[1]["val_loss"] = math.nan

    experiment = load_experiment(make(trials=1, max_epochs=3, scheduler="none", edit=lost))
    (series,) = curves(experiment.reports, experiment.trials, "val_loss").series
    assert list(series.x) == [1.0, 3.0]


def test_a_loss_that_exploded_gets_a_log_axis(make):
    def explode(number, config, reports):
        reports[0]["train_loss"] = 1e6 if number == 0 else reports[0]["train_loss"]

    experiment = load_experiment(make(edit=explode))
    assert curves(experiment.reports, experiment.trials, "train_loss").y.log
    assert not curves(experiment.reports, experiment.trials, "val_loss").y.log


@pytest.mark.parametrize(
    ("grace", "factor", "last", "scheduler", "rungs"),
    [
        (1, 3, 27, "asha", [1, 3, 9]),
        (1, 3, 8, "asha", [1, 3]),
        (2, 4, 2, "asha", []),
        (1, 3, 27, "none", []),
        (None, 3, 27, "asha", []),
    ],
)
def test_rungs(grace, factor, last, scheduler, rungs):
    manifest = {"grace_epochs": grace, "reduction_factor": factor, "max_epochs": last, "scheduler": scheduler}
    assert rungs_of(manifest) == rungs


def test_progress_steps_through_the_best_values_to_the_end(experiment):
    plot = progress(experiment.reports)
    steps = named(plot, "best so far")
    assert steps.y[-1] == steps.y[-2] == experiment.trials["best_value"].max()
    assert steps.x[-1] == pytest.approx(experiment.reports["elapsed_seconds"].max())
    assert len(named(plot, "every report").x) == len(experiment.reports)


@pytest.mark.parametrize(("end", "label"), [(100.0, "seconds"), (1000.0, "minutes"), (20_000.0, "hours")])
def test_progress_chooses_a_unit(end, label):
    reports = pd.DataFrame(
        {"state": "FINISHED", "number": 0, "epoch": [1, 2], "elapsed_seconds": [0.0, end], "val_accuracy": [0.1, 0.2]}
    )
    plot = progress(reports)
    seconds = {"seconds": 1, "minutes": 60, "hours": 3600}[label]
    assert plot.x.label == f"time ({label})"
    assert named(plot, "best so far").x[-1] == pytest.approx(end / seconds)


def test_failures_by_cause(make):
    out_of_memory = {"kind": "OutOfMemoryError", "message": "no memory", "where": "a/b.py:7", "traceback_file": None}

    def fail(number, config, reports):
        reports[0] |= {"failure": out_of_memory} if number < 5 else {}

    trials = load_experiment(make(edit=fail)).trials
    plot = failure_counts(trials)
    assert dict(zip(plot.y.categories, plot.series[0].x, strict=True)) == {
        "OutOfMemoryError (b.py:7)": 5,
        "DivergedError (trainer.py:123)": 2,
    }
    assert failure_counts(trials[trials["state"] != "FAILED"]).series == ()


def test_thin_keeps_the_best_and_says_so(experiment):
    shown, note = thin(experiment.trials, 8)
    assert len(shown) == 8
    assert {1.0, 2.0} <= set(shown["rank"])
    assert note == ["Shows 8 of 16 trials: the best 2 and an even sample of the rest."]
    assert thin(experiment.trials, 16)[1] == []


def test_heavy_plots_are_thinned(experiment, monkeypatch):
    monkeypatch.setitem(against.__globals__, "POINTS", 8)
    monkeypatch.setitem(curves.__globals__, "CURVE_POINTS", 20)
    monkeypatch.setitem(progress.__globals__, "REPORTS", 20)
    plots = plots_of(experiment)
    assert plots["hyperparameters"][0].caption.startswith("Shows 8 of 16 trials")
    assert plots["curves"][0].caption.startswith("Shows ")
    assert plots["progress"][0].caption == "Shows 18 of 53 reports."


def test_a_long_category_loses_its_middle(experiment):
    domain = Hyperparameter(name="weight_init", values=("a" * 30 + "z", "xavier", "kaiming", "orthogonal"))
    plot = against(experiment.trials[experiment.trials["config/weight_init"] != "trunc_normal"], "weight_init", domain)
    assert plot.x.categories[0] == "aaaaaaaa…aaaaaaz"
