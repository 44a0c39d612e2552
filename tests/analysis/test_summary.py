import math

import pandas as pd
import pytest

from analysis.frames import load_experiment
from analysis.hyperparameters import Hyperparameter
from analysis.summary import best_so_far, best_trial, config_of, count_states, duration, edges, failures, number, plural
from search.ledger import read_trials


def test_count_states_names_every_state(demo):
    assert count_states(load_experiment(demo).trials) == {
        "PENDING": 0,
        "RUNNING": 0,
        "PAUSED": 0,
        "FINISHED": 5,
        "STOPPED": 8,
        "FAILED": 3,
    }


def test_best_config_is_the_ledgers(demo):
    trials = load_experiment(demo).trials
    best = best_trial(trials)
    assert config_of(best) == read_trials(demo)[7].config
    assert all(type(value) in (int, float, str) for value in config_of(best).values())
    assert best_trial(trials.iloc[:0]) is None


def slow_best_so_far(path):
    rows, best = [], -math.inf
    records = [record for record in read_trials(path) if record.state != "FAILED"]
    for report, record in sorted(((r, t) for t in records for r in t.reports), key=lambda pair: pair[0]["time"]):
        if report["val_accuracy"] > best:
            best = report["val_accuracy"]
            rows.append((record.number, report["epoch"], best))
    return rows


def test_best_so_far_against_a_slow_reference(demo):
    found = best_so_far(load_experiment(demo).reports)
    assert list(found[["number", "epoch", "value"]].itertuples(index=False, name=None)) == slow_best_so_far(demo)
    assert found["elapsed_seconds"].is_monotonic_increasing


def test_best_so_far_leaves_out_what_failed_later(make):
    def fail(number, config, reports):
        if number == 1:
            config["learning_rate"] = 1e-3
            reports[0]["val_accuracy"] = 0.99
            reports[1]["failure"] = {"kind": "X", "message": "", "where": "", "traceback_file": None}

    experiment = load_experiment(make(trials=3, edit=fail))
    assert 0.99 in set(experiment.reports["val_accuracy"])
    assert best_so_far(experiment.reports)["value"].max() < 0.99


def test_best_so_far_falls_in_mode_min(demo):
    values = best_so_far(load_experiment(demo).reports, "val_loss", "min")["value"]
    assert values.is_monotonic_decreasing
    assert values.is_unique


def test_best_so_far_without_the_metric_is_empty(demo):
    assert best_so_far(load_experiment(demo).reports, "nothing").empty


def test_failures_are_grouped_by_cause():
    trials = pd.DataFrame(
        [
            (0, "FAILED", "DivergedError", "nan at step 12", "a.py:1", None),
            (1, "FAILED", "DivergedError", "nan at step 99", "a.py:1", None),
            (2, "FAILED", "DivergedError", "nan", "b.py:2", None),
            (5, "FAILED", "DivergedError", "nan", "b.py:2", "failures/2.txt"),
            (3, "FINISHED", None, None, None, None),
            (4, "FAILED", None, None, None, None),
        ],
        columns=["number", "state", *(f"failure/{key}" for key in ("kind", "message", "where", "traceback_file"))],
    )
    assert failures(trials).to_numpy().tolist() == [
        ["DivergedError", "a.py:1", "nan at step 12", "", 2, [0, 1]],
        ["DivergedError", "b.py:2", "nan", "", 1, [2]],
        ["DivergedError", "b.py:2", "nan", "failures/2.txt", 1, [5]],
        ["unknown error", "", "", "", 1, [4]],
    ]


@pytest.mark.parametrize(
    ("value", "side"), [(1.05e-4, "lower"), (1.5e-4, "lower"), (1.7e-4, None), (1e-3, None), (7e-3, "upper")]
)
def test_edges_are_a_tenth_of_the_range_on_its_own_scale(value, side):
    domain = Hyperparameter(name="learning_rate", log=True, low=1e-4, high=1e-2)
    found = edges(pd.Series({"config/learning_rate": value}), {"learning_rate": domain})
    assert [edge.side for edge in found] == ([side] if side else [])


def test_few_or_unordered_values_have_no_edges():
    domains = {
        "head_depth": Hyperparameter(name="head_depth", values=(1, 2, 3)),
        "weight_init": Hyperparameter(name="weight_init", values=("a", "b", "c", "d")),
    }
    assert edges(pd.Series({"config/head_depth": 3, "config/weight_init": "d"}), domains) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (42.3, "42 s"),
        (59.96, "1 min 0 s"),
        (252, "4 min 12 s"),
        (3599.9, "1 h 0 min"),
        (90_000, "1 d 1 h"),
        (math.nan, "–"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123456, "0.001235"),
        (64.0, "64"),
        (64, "64"),
        (True, "True"),
        ("x", "x"),
        (math.inf, "–"),
        (25200.0, "25200"),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("count", "nouns", "text"),
    [
        (1, ("trial",), "1 trial"),
        (0, ("trial",), "0 trials"),
        (1200, ("trial",), "1,200 trials"),
        (1, ("search", "searches"), "1 search"),
        (2, ("search", "searches"), "2 searches"),
    ],
)
def test_plural(count, nouns, text):
    assert plural(count, *nouns) == text
