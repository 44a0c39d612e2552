import pytest

from analysis.cost import costs, spent, until_best
from analysis.frames import load_experiment
from search.ledger import LedgerWriter
from search.slot_time import Slot

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


def test_the_parts_sum_to_all_that_was_spent(make):
    path = make(trials=0, price_per_hour=2.5)
    (path / "ledger.jsonl").unlink()
    ledger_of_hours(path / "ledger.jsonl", "CPU", 2.0)
    (found,) = spent(load_experiment(path))
    assert {part.name: part.hours for part in found.parts} == pytest.approx(
        {"trials stopped early": 2.0, "failed trials": 2.0, "trials not ended": 4.0, "epochs that were cut off": 4.0}
    )
    assert sum(part.share for part in found.parts) == pytest.approx(1.0)
    assert (found.unit, found.hours, found.money) == ("CPU", pytest.approx(12.0), pytest.approx(30.0))


def test_the_sentence_and_the_parts_agree_on_a_paused_and_a_confirming_trial(make):
    path, now = make(trials=0, price_per_hour=2.0), 0.0
    (path / "ledger.jsonl").unlink()
    with LedgerWriter(path / "ledger.jsonl", clock=lambda: now * HOUR) as ledger:
        ledger.search_started(Slot("CPU", 1.0))
        for number, (trial_id, confirms) in enumerate({"stopped": None, "paused": None, "again": "paused"}.items()):
            ledger.created(trial_id, number, {}, confirms=confirms)
            ledger.started(trial_id, attempt=1, node="host", pid=1)
        now = 1.0
        for trial_id in ("stopped", "paused", "again"):
            ledger.report(trial_id, {"epoch": 1})
        ledger.ended("stopped", "STOPPED")
        now = 3.0
        ledger.report("paused", {"epoch": 2})
        ledger.paused("paused")
        now = 4.0
        ledger.retried("again", attempt=1, failure={"kind": "SlotDied"})
        ledger.started("again", attempt=2, node="host", pid=1)
        now = 5.0
        ledger.ended("again", "FAILED", {"kind": "X", "message": "", "where": "", "traceback_file": None})
    experiment = load_experiment(path)
    (found,) = spent(experiment)
    assert {part.name: part.hours for part in found.parts} == pytest.approx(
        {"trials stopped early": 1.0, "trials not ended": 3.0, "further seeds of the best configs": 5.0}
    )
    assert costs(experiment) == [
        "9.00 CPU-hours (1.00 on trials stopped early, 5.00 on further seeds of the best configs), 18.00 in money"
    ]


def test_until_best_is_the_share_spent_at_the_best_report(make):
    def best_first(number, config, reports):
        config["learning_rate"] = 1e-3
        for report in reports:
            report["val_accuracy"] = 0.9 - 0.1 * number - 0.01 * report["epoch"]

    share = until_best(load_experiment(make(trials=3, slots=1, edit=best_first)))
    assert 0.05 < share < 0.5
    assert until_best(load_experiment(make("none", trials=0))) is None
