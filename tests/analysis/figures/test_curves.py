import math

from analysis.figures import curves
from analysis.frames import load_experiment
from tests.analysis.figures.conftest import named


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
