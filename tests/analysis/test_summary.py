import json
import math

import pandas as pd
import pytest

from analysis.frames import load_experiment
from analysis.hyperparameters import Hyperparameter
from analysis.summary import (
    best_so_far,
    best_trial,
    config_of,
    costs,
    count_states,
    duration,
    edges,
    failures,
    number,
    verdict,
)
from search.ledger import LedgerWriter, read_trials
from search.slot_time import Slot


def test_golden_verdict(demo):
    assert verdict(load_experiment(demo)) == [
        "The best is trial 7: validation accuracy 0.811 after 8 of 8 epochs, where guessing gives 0.143.",
        "On the test split, which the search never saw, it reaches 0.861 (measured once, at the end).",
        "The best embedding dim, 128, lies at the upper edge of its range (which ends at 128): try beyond it.",
        "Of 16 trials, 5 trained to the end, 8 stopped early and 3 failed.",
        "The failures, all alike: DivergedError in trainable/training/trainer.py:123.",
    ]


def test_verdict_of_a_search_without_trials(make):
    assert verdict(load_experiment(make(trials=0))) == ["No trial gave a result.", "The search started no trial."]
    early = load_experiment(make("early", until_seconds=0.0))
    assert verdict(early) == ["No trial has a result yet.", "All 2 trials are waiting."]


def test_verdict_where_all_failed(make):
    def diverge(number, config, reports):
        config["learning_rate"] = 9e-3

    assert verdict(load_experiment(make(edit=diverge))) == [
        "No trial gave a result.",
        "All 16 trials failed.",
        "The failures, all alike: DivergedError in trainable/training/trainer.py:123.",
    ]


def test_verdict_of_one_trial(make):
    def plain(number, config, reports):
        config.update(learning_rate=1e-3, logit_scale=2.5, embedding_dim=16)

    assert verdict(load_experiment(make(trials=1, edit=plain)))[1:] == [
        "The best learning rate, initial logit scale (log space) and embedding dim lie inside their ranges, "
        "not at an edge.",
        "The only trial trained to the end.",
    ]


HOUR = 3600.0


def ledger_of_hours(path, unit, units=1.0):
    """A trial stopped after 2 hours, one failed after 1, one that runs; the first and last lost an hour each."""
    now = 0.0
    with LedgerWriter(path, clock=lambda: now * HOUR) as ledger:
        ledger.search_started(Slot(unit, units))
        for number, trial_id in enumerate("abc"):
            ledger.created(trial_id, number, {})
            ledger.started(trial_id, attempt=1, node="host", pid=1)
        now = 1.0
        ledger.ended("b", "FAILED", {"kind": "X", "message": "", "where": "", "traceback_file": None})
        ledger.report("c", {"epoch": 1})
        ledger.retried("a", attempt=1, failure={"kind": "SlotDied"})
        ledger.started("a", attempt=2, node="host", pid=1)
        now = 2.0
        ledger.retried("c", attempt=1, failure={"kind": "SlotDied"})
        ledger.ended("a", "STOPPED")
        ledger.started("c", attempt=2, node="host", pid=1)
        now = 3.0
        ledger.created("d", 3, {})


def test_costs_tell_apart_what_was_wasted_and_count_what_runs(make):
    path = make(trials=0)
    (path / "ledger.jsonl").unlink()
    ledger_of_hours(path / "ledger.jsonl", "CPU", 2.0)
    assert costs(load_experiment(path)) == [
        "12.00 CPU-hours (2.00 on trials stopped early, 2.00 on failed trials, 4.00 in epochs that were cut off)"
    ]


def test_costs_have_money_where_there_is_a_price(make):
    path = make(trials=0, price_per_hour=2.5, resources={"gpus_per_worker": 1.0})
    ledger_of_hours(path / "ledger.jsonl", "GPU")
    assert costs(load_experiment(path))[0].endswith("cut off), 15.00 in money")
    ledger_of_hours(make("other", trials=0, price_per_hour=2.5) / "ledger.jsonl", "GPU")
    assert costs(load_experiment(path.parent / "other"))[0].endswith("cut off)")


def test_a_search_that_started_no_trial_costs_nothing(make):
    assert costs(load_experiment(make(trials=0, price_per_hour=1.0))) == []


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


def test_a_schedule_is_told_as_one(make):
    path = make(trials=2, max_epochs=2)
    steps = [
        {"epoch": 0, "source": None, "changes": {"augmentation": 0.5, "learning_rate": 0.001}},
        {"epoch": 1, "source": "trial_0000", "changes": {"learning_rate": 0.0012}},
    ]
    for schedule, told in (([], False), (steps, True)):
        (path / "best.json").write_text(json.dumps({"trial_id": "trial_0001", "schedule": schedule}))
        text = " ".join(verdict(load_experiment(path)))
        assert told == (
            "at first augmentation 0.5 and learning rate 0.001; from epoch 2 on learning rate 0.0012" in text
        )
        assert told == ("is not what was found" in text)


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
