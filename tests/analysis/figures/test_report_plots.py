from analysis.figures import against, curves, plots_of, progress, thin
from analysis.frames import load_experiment


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


def test_all_failed_still_shows_where(make):
    def diverge(number, config, reports):
        config["learning_rate"] = 9e-3

    plots = plots_of(load_experiment(make(edit=diverge)))
    assert [len(plot.series[0].x) for plot in plots["hyperparameters"]] == [16] * 4
    assert all("No trial has a value." in plot.caption for plot in plots["hyperparameters"])
    assert (plots["curves"], plots["progress"]) == ([], [])


def test_no_trial_no_plot(make):
    assert not any(plots_of(load_experiment(make(trials=0))).values())


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
