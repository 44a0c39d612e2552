import numpy as np
import pandas as pd
import pytest

from analysis.frames import load_experiment
from analysis.pareto import outcomes, pareto_front
from analysis.trade_off import trade_off, trade_offs
from analysis.verdict import details

TWO = {"val_accuracy": "max", "epoch_seconds": "min"}


def dominated(costs: np.ndarray, row: int) -> bool:
    """By the definition, row against row."""
    return any((other <= costs[row]).all() and (other < costs[row]).any() for other in costs)


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_its_definition(seed, objectives):
    costs = np.random.default_rng(seed).integers(0, 6, (40, objectives)).astype(float)

    assert pareto_front(costs).tolist() == [not dominated(costs, row) for row in range(len(costs))]


def test_no_point_makes_no_front():
    assert pareto_front(np.empty((0, 2))).tolist() == []


@pytest.fixture
def experiment(make):
    return load_experiment(make(trials=30, metrics=TWO))


def test_each_trial_counts_by_its_last_report(experiment):
    found = outcomes(experiment.reports, experiment.trials, TWO).set_index("number")
    for trial_number, reports in experiment.reports[experiment.reports["state"] != "FAILED"].groupby("number"):
        assert found.loc[trial_number, list(TWO)].tolist() == reports.iloc[-1][list(TWO)].tolist()
        assert found.loc[trial_number, "epoch"] == reports["epoch"].max()


def test_only_trials_that_came_to_their_end_are_on_the_front(experiment):
    found = outcomes(experiment.reports, experiment.trials, TWO)
    whole = found[found["state"] == "FINISHED"]

    assert found.loc[found["front"], "state"].unique().tolist() == ["FINISHED"]
    costs = np.stack([-whole["val_accuracy"], whole["epoch_seconds"]], axis=1)
    assert whole["front"].tolist() == [not dominated(costs, row) for row in range(len(costs))]


def test_failed_trials_and_values_that_are_not_finite_do_not_count(experiment):
    failed = set(experiment.trials.loc[experiment.trials["state"] == "FAILED", "number"])
    assert failed
    assert not failed & set(outcomes(experiment.reports, experiment.trials, TWO)["number"])

    reports = experiment.reports.copy()
    first = outcomes(reports, experiment.trials, TWO)["number"].iloc[0]
    reports.loc[reports.index[reports["number"] == first][-1], "epoch_seconds"] = np.nan
    assert first not in outcomes(reports, experiment.trials, TWO)["number"].tolist()


def test_the_plot_draws_every_trial_once_and_the_front_by_name(experiment):
    (plot,) = trade_offs(experiment)
    found = outcomes(experiment.reports, experiment.trials, TWO)
    front = next(series for series in plot.series if series.name == "Pareto front")

    assert (plot.x.label, plot.y.label) == ("seconds per epoch", "validation accuracy")
    assert sum(len(series.x) for series in plot.series) == len(found)
    assert sorted(front.y) == sorted(found.loc[found["front"], "val_accuracy"])
    assert list(front.x) == sorted(front.x)
    assert front.hover[0].startswith("trial ")


def test_one_metric_has_no_trade_off(make):
    experiment = load_experiment(make())

    assert trade_offs(experiment) == []
    assert not any("at once" in sentence for sentence in details(experiment))


def test_the_verdict_names_the_ends_of_the_front(experiment):
    (sentence,) = [sentence for sentence in details(experiment) if "at once" in sentence]
    found = outcomes(experiment.reports, experiment.trials, TWO)
    front = found[found["front"]]
    best, fastest = front.loc[front["val_accuracy"].idxmax()], front.loc[front["epoch_seconds"].idxmin()]

    assert f"trial {best['number']} has the best validation accuracy (" in sentence
    assert f"trial {fastest['number']} has the best seconds per epoch (" in sentence


def test_without_a_report_there_is_nothing(make):
    empty = outcomes(pd.DataFrame(), pd.DataFrame({"state": [], "trial_id": []}), TWO)

    assert empty.empty
    assert trade_off(empty, *TWO).series == ()
