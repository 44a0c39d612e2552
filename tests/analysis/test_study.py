import math

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from analysis import to_optuna_study
from analysis.comparable import comparable_of
from analysis.frames import load_experiment
from analysis.importance import importances


@pytest.fixture(scope="module")
def study(demo):
    return to_optuna_study(demo)


@pytest.fixture(scope="module")
def experiment(demo):
    return load_experiment(demo)


def test_every_trial_is_there_with_its_state(study, experiment):
    words = {"FINISHED": TrialState.COMPLETE, "STOPPED": TrialState.PRUNED, "FAILED": TrialState.FAIL}
    assert [trial.state for trial in study.trials] == [words[state] for state in experiment.trials["state"]]
    assert [trial.user_attrs["number"] for trial in study.trials] == experiment.trials["number"].tolist()
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.study_name == "demo"


def test_the_best_trial_is_that_of_the_report(study, experiment):
    best = experiment.trials[experiment.trials["rank"] == 1].iloc[0]
    assert study.best_trial.user_attrs["trial_id"] == best["trial_id"]
    assert study.best_value == best["best_value"]


def test_params_come_with_the_distributions_of_the_space(study, experiment):
    trial, row = study.trials[0], experiment.trials.iloc[0]
    assert trial.distributions == {
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "logit_scale": FloatDistribution(1, 4),
        "embedding_dim": CategoricalDistribution((2, 4, 8, 16, 32, 64, 128)),
        "weight_init": CategoricalDistribution(("trunc_normal", "xavier", "kaiming", "orthogonal")),
    }
    assert trial.params == {name: row[f"config/{name}"] for name in trial.params}
    assert (trial.user_attrs["batch_size"], trial.user_attrs["head_depth"]) == (64, 1)


def test_intermediate_values_are_the_metric_by_epoch(study, experiment):
    own = experiment.reports[experiment.reports["number"] == 7]
    assert study.trials[7].intermediate_values == dict(zip(own["epoch"], own["val_accuracy"], strict=True))


def test_a_failed_trial_says_why(study, experiment):
    failed = next(trial for trial in study.trials if trial.state is TrialState.FAIL)
    assert failed.user_attrs["failure"].startswith("DivergedError: ")


def test_a_search_that_runs_and_values_out_of_the_space(make):
    def edit(number, config, reports):
        config["logit_scale"] = 5.0 if number == 0 else config["logit_scale"]
        config["depth"] = 1 + number % 3
        reports[0]["val_accuracy"] = math.nan

    space = {"logit_scale": "uniform(1,4)", "depth": "randint(1,20)"}
    study = to_optuna_study(make(until_seconds=12.0, edit=edit, space=space))
    assert study.trials[-1].state is TrialState.RUNNING
    assert study.trials[0].distributions["logit_scale"] == FloatDistribution(1, 5)
    assert study.trials[0].distributions["depth"] == IntDistribution(1, 20)
    assert 1 not in study.trials[0].intermediate_values


def test_several_metrics_give_several_directions(make):
    metrics = {"val_accuracy": "max", "epoch_seconds": "min"}
    path = make(metrics=metrics)
    study, experiment = to_optuna_study(path), load_experiment(path)
    finished = next(trial for trial in study.trials if trial.state is TrialState.COMPLETE)
    last = experiment.reports[experiment.reports["number"] == finished.user_attrs["number"]].iloc[-1]
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert finished.values == [last["val_accuracy"], last["epoch_seconds"]]


def test_what_drives_the_values_is_important(make):
    def edit(number, config, reports):
        config["learning_rate"] = min(config["learning_rate"], 4e-3)
        for report in reports:
            report["val_accuracy"] = config["logit_scale"] / 5

    experiment = load_experiment(make(trials=40, max_epochs=1, scheduler="none", edit=edit))
    found = importances(experiment, comparable_of(experiment))
    assert list(found.shares) == ["fANOVA", "PED-ANOVA"]
    assert found.shares.index[0] == "logit_scale"
    assert found.shares.loc["logit_scale", "fANOVA"] > 0.9
    assert found.shares.sum().tolist() == pytest.approx([1, 1])
    assert "FanovaImportanceEvaluator, 16 trees, seed 0" in found.caption
    assert "40 of 40 trials, those trained to the end" in found.caption
    again = importances(experiment, comparable_of(experiment))
    assert again.shares.equals(found.shares)


def test_importance_prefers_what_the_best_share_where_less_is_better(make):
    def edit(number, config, reports):
        config["learning_rate"] = min(config["learning_rate"], 4e-3)
        for report in reports:
            report["val_loss"] = abs(config["logit_scale"] - 1.2) if config["logit_scale"] < 1.6 else 1.0

    experiment = load_experiment(
        make(trials=60, max_epochs=1, scheduler="none", edit=edit, metric="val_loss", mode="min")
    )
    assert importances(experiment, comparable_of(experiment)).shares["PED-ANOVA"].idxmax() == "logit_scale"


def test_no_importance_without_trials_that_compare(experiment, make):
    assert importances(experiment, None) is None

    def alike(number, config, reports):
        config["learning_rate"] = 1e-3
        reports[0]["val_accuracy"] = 0.5

    same = load_experiment(make(max_epochs=1, scheduler="none", edit=alike))
    assert importances(same, comparable_of(same)) is None
