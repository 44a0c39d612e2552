import pandas as pd
import pytest

from analysis.comparable import comparable, comparable_of, rungs_of
from analysis.frames import load_experiment


def frames(finished, reached, stopped):
    """Trials that finished after 27 epochs, reached the rung at 9, or stopped at 1."""
    fates = [("FINISHED", 27)] * finished + [("STOPPED", 9)] * reached + [("STOPPED", 1)] * stopped
    trials = pd.DataFrame(
        [
            {"number": n, "state": state, "epochs": epochs, "best/acc": epochs / 30 + n / 1000}
            for n, (state, epochs) in enumerate(fates)
        ]
    )
    reports = pd.DataFrame(
        [
            {"number": n, "epoch": e, "acc": e / 30 + n / 1000}
            for n, (_, last) in enumerate(fates)
            for e in range(1, last + 1)
        ]
    )
    return trials, reports


def test_trials_trained_to_the_end_compare_by_their_best():
    trials, reports = frames(8, 5, 20)
    found = comparable(trials, "acc", reports=reports, rungs=[1, 3, 9])
    assert found.trials["number"].tolist() == list(range(8))
    assert found.trials["value"].tolist() == trials["best/acc"].tolist()[:8]
    assert (found.words, found.share) == ("trained to the end", "8 of 33 trials")


def test_few_of_them_compare_with_those_that_reached_the_last_rung_by_what_they_had_there():
    trials, reports = frames(3, 5, 20)
    found = comparable(trials, "acc", reports=reports, rungs=[1, 3, 9])
    assert found.trials["number"].tolist() == list(range(8))
    assert found.trials["value"].tolist() == pytest.approx([0.3 + n / 1000 for n in range(8)])
    assert "reached epoch 9" in found.words


def test_a_lower_value_is_better_where_the_mode_says_so():
    trials, reports = frames(3, 5, 20)
    found = comparable(trials, "acc", "min", reports=reports, rungs=[1, 3, 9])
    assert found.trials["value"].iloc[0] == pytest.approx(1 / 30)


def test_too_few_compare_with_none():
    trials, reports = frames(3, 4, 50)
    assert comparable(trials, "acc", reports=reports, rungs=[1, 3, 9]) is None
    assert comparable(trials, "acc") is None
    assert comparable(trials, "loss") is None


def test_an_experiment_has_its_own_rungs(make):
    experiment = load_experiment(make(trials=60))
    found = comparable_of(experiment)
    reached = experiment.trials[(experiment.trials["state"] != "FAILED") & (experiment.trials["epochs"] >= 3)]
    if (experiment.trials["state"] == "FINISHED").sum() >= 8:
        reached = experiment.trials[experiment.trials["state"] == "FINISHED"]
    assert found.trials["number"].tolist() == reached["number"].tolist()


@pytest.mark.parametrize(
    ("grace", "factor", "last", "scheduler", "rungs"),
    [
        (1, 3, 27, "asha", [1, 3, 9]),
        (1, 3, 8, "asha", [1, 3]),
        (1, 3, 27, "asha-promote", [1, 3, 9]),
        (1, 3, 27, "hyperband", [1, 3, 9]),
        (2, 4, 2, "asha", []),
        (1, 3, 27, "none", []),
        (None, 3, 27, "asha", []),
    ],
)
def test_rungs(grace, factor, last, scheduler, rungs):
    manifest = {"grace_epochs": grace, "reduction_factor": factor, "max_epochs": last, "scheduler": scheduler}
    assert rungs_of(manifest) == rungs
