import math

import numpy as np
import pandas as pd
import pytest

from analysis.comparable import comparable_of
from analysis.figures import (
    against,
    curves,
    failure_counts,
    importance,
    pair,
    pairs,
    parallel,
    plots_of,
    progress,
    survivors,
    thin,
    timeline,
)
from analysis.figures.progress import SPENT
from analysis.frames import load_experiment
from analysis.hyperparameters import Hyperparameter
from analysis.importance import Importances
from analysis.plot import HeatMap
from tests.analysis.conftest import make_experiment


def named(plot, name):
    return next(series for series in plot.series if series.name == name)


@pytest.fixture(scope="module")
def experiment(demo):
    return load_experiment(demo)


def test_the_four_plots_of_every_report(experiment):
    names = [plot.name for plot in plots_of(experiment)["hyperparameters"]]
    four = ("learning_rate", "logit_scale", "embedding_dim", "weight_init")
    assert names == [f"val_accuracy_against_{name}" for name in four]


def test_each_plot_is_told_once_before_the_last_is_known(random_search):
    told = []
    plots = [plot for section in plots_of(random_search, told.append).values() for plot in section]
    assert len(told) > 1
    assert all(told)
    assert sorted(plot.name for some in told for plot in some) == sorted(plot.name for plot in plots)


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


def test_curves_of_one_quantity_share_a_range_that_holds_all_of_both(experiment):
    def bounds_of(column, beside):
        return curves(experiment.reports, experiment.trials, column, beside=beside, chance=0.05).y.bounds

    for measure in ("accuracy", "loss"):
        low, high = bounds_of(f"val_{measure}", f"train_{measure}")
        assert (low, high) == bounds_of(f"train_{measure}", f"val_{measure}")
        both = experiment.reports[[f"val_{measure}", f"train_{measure}"]]
        assert low < min(both.min())
        assert high > max(both.max())
        assert (low < 0.05) == (measure == "accuracy")
    assert bounds_of("val_accuracy", "") is None
    assert bounds_of("val_accuracy", "train_unseen_accuracy") is None
    assert bounds_of("val_unseen_accuracy", "val_accuracy") is None


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
    assert curves(experiment.reports, experiment.trials, "val_loss", beside="train_loss").y.bounds is None


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


@pytest.fixture(scope="module")
def random_search(tmp_path_factory):
    """Forty trials of one epoch, of which none is stopped; some diverged."""
    path = tmp_path_factory.mktemp("random") / "random"
    return load_experiment(make_experiment(path, trials=40, max_epochs=1, slots=4, seed=5, scheduler="none"))


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


def test_progress_by_trials_epochs_and_hours(experiment):
    reports = experiment.reports
    by = {spent: named(progress(reports, against=spent, unit="CPU"), "best so far") for spent in SPENT}
    assert {tuple(steps.y) for steps in by.values()} == {tuple(by["time"].y)}
    first_best = reports.sort_values("elapsed_seconds").reset_index(drop=True)
    at = first_best["val_accuracy"].idxmax()
    assert by["epochs"].x[-2:] == [at + 1, len(reports)]
    assert by["trials"].x[-2:] == [first_best["number"][: at + 1].nunique(), reports["number"].nunique()]
    assert by["hours"].x[-1] == pytest.approx(reports["search_slot_seconds"].max() / 3600)
    assert progress(reports, against="hours", unit="CPU").x.label == "CPU-hours in slots"


def test_survivors_add_up_to_the_trials(experiment):
    trials = experiment.trials
    plot = survivors(trials, 8, [1, 3])
    assert plot.y.categories == ("epoch 8, the last", "epoch 3", "epoch 1", "started")
    rows = {}
    for series in plot.series:
        for row, count, base in zip(series.y, series.x, series.base, strict=True):
            assert base == rows.get(row, 0)
            rows[row] = base + count
    assert [rows[row] for row in (3, 2, 1, 0)] == [len(trials), *((trials["epochs"] >= e).sum() for e in (1, 3, 8))]
    stopped = named(plot, "stopped here")
    assert sum(stopped.x) == (trials["state"] == "STOPPED").sum()
    assert plot.caption.startswith("14 of 16 reached epoch 1; 7 of 14 reached epoch 3; ")


def test_without_rungs_survivors_are_counted_at_epochs(experiment):
    plot = survivors(experiment.trials, 8)
    assert plot.y.categories[::-1] == ("started", *(f"epoch {epoch}" for epoch in range(1, 8)), "epoch 8, the last")
    finished = experiment.trials[experiment.trials["state"] == "FINISHED"]
    assert survivors(finished, 8).series == ()


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


def test_the_timeline_has_a_bar_for_each_stay(experiment):
    stints = experiment.stints
    plot = timeline(stints, experiment.seconds)
    bars = [bar for series in plot.series for bar in zip(series.base, series.x, series.y, strict=True)]
    assert sorted(bars) == sorted(
        (row["began"], row["ended"] - row["began"], 1 - row["slot"]) for row in stints.to_dict("records")
    )
    assert plot.y.categories == ("slot 2", "slot 1")
    busy = (stints["ended"] - stints["began"]).sum() / (2 * experiment.seconds)
    assert plot.caption.endswith(f"idle {1 - busy:.1%} of the time.")


def test_very_many_stays_are_shown_as_shares(experiment, monkeypatch):
    monkeypatch.setitem(timeline.__globals__, "BARS", 5)
    found = timeline(experiment.stints, experiment.seconds)
    assert isinstance(found, HeatMap)
    busy = (experiment.stints["ended"] - experiment.stints["began"]).sum() / (2 * experiment.seconds)
    assert np.mean(found.values) == pytest.approx(busy)
    assert "16 stays of trials are too many" in found.caption


def test_a_report_has_every_section(random_search):
    assert {name: [plot.name for plot in plots] for name, plots in plots_of(random_search).items() if plots} == {
        "hyperparameters": [f"val_accuracy_against_{name}" for name in random_search.hyperparameters],
        "importance": [
            "importance",
            "parallel_coordinates",
            *(plot.name for plot in plots_of(random_search)["importance"][2:]),
        ],
        "curves": [f"curves_{name}" for name in ("val_accuracy", "train_accuracy", "val_loss", "train_loss")],
        "rungs": ["survivors"],
        "progress": ["best_so_far_by_trials", "best_so_far_by_epochs", "best_so_far", "best_so_far_by_hours"],
        "slots": ["timeline"],
    }
