import json
import math

import pytest

from analysis import load
from analysis.cost import costs
from analysis.frames import Clock, load_experiment
from analysis.summary import best_trial
from analysis.verdict import verdict
from search.ledger import LedgerWriter, read_trials
from search.trials import Inherited, best_report
from trainable.errors import ExperimentError


def test_one_row_per_report_and_per_trial(demo):
    reports, trials = load(str(demo))
    records = read_trials(demo)
    assert trials["trial_id"].tolist() == [record.trial_id for record in records]
    assert len(reports) == sum(len(record.reports) for record in records)
    assert trials["epochs"].tolist() == [record.epochs for record in records]


def test_hyperparameters_are_columns_of_both(demo):
    reports, trials = load(demo)
    for record in read_trials(demo):
        for name, value in record.config.items():
            assert trials.loc[record.number, f"config/{name}"] == value
            assert (reports.loc[reports["trial_id"] == record.trial_id, f"config/{name}"] == value).all()


def test_a_report_has_the_config_of_its_epoch_and_a_trial_that_of_its_best_one(make):
    def rising(number, config, reports):
        config["learning_rate"] = 1e-3
        for report in reports:
            report["val_accuracy"] = 0.5 + 0.01 * report["epoch"]

    path = make(trials=2, max_epochs=3, edit=rising)
    with LedgerWriter(path / "ledger.jsonl") as ledger:
        first, second = read_trials(path)
        for epoch, rate in ((1, 2e-3), (2, 3e-3)):
            config = {**second.config, "learning_rate": rate}
            ledger.inherited(second.trial_id, Inherited(source=first.trial_id, epoch=epoch, config=config))
    reports, trials = load(path)

    assert reports["config/learning_rate"].tolist() == [1e-3] * first.epochs + [1e-3, 2e-3, 3e-3][: second.epochs]
    assert trials["config/learning_rate"].tolist() == [1e-3, [1e-3, 2e-3, 3e-3][second.epochs - 1]]
    assert not [name for name in reports if "began" in name]


def test_rank_one_is_what_the_ledger_calls_best(demo):
    _, trials = load(demo)
    record, report = best_report(read_trials(demo), "val_accuracy", "max")
    first = trials[trials["rank"] == 1].iloc[0]
    assert (first["trial_id"], first["best_epoch"]) == (record.trial_id, report["epoch"])
    assert first["best_value"] == first["best/val_accuracy"] == report["val_accuracy"]


def test_rank_follows_the_mode(make):
    path = make(metric="val_loss", mode="min")
    record, report = best_report(read_trials(path), "val_loss", "min")
    _, trials = load(path)
    first = trials[trials["rank"] == 1].iloc[0]
    assert (first["trial_id"], first["best_value"]) == (record.trial_id, report["val_loss"])


def test_failed_trials_have_a_value_but_no_rank(demo):
    _, trials = load(demo)
    failed = trials[trials["state"] == "FAILED"]
    assert failed["best_value"].notna().any()
    assert failed["rank"].isna().all()
    assert set(failed["failure/kind"]) == {"DivergedError"}


def test_equal_trials_rank_by_fewer_epochs_then_lower_number(make):
    def equal(number, config, reports):
        config["learning_rate"] = 1e-3
        for report in reports:
            report["val_accuracy"] = 0.5 if number < 2 or report["epoch"] > 1 else 0.4

    _, trials = load(make(trials=3, max_epochs=2, edit=equal))
    assert trials["rank"].tolist() == [1, 2, 3]


def test_null_metrics_are_nan(make):
    def lost(number, config, reports):
        reports[0]["val_accuracy"] = math.nan

    reports, trials = load(make(trials=2, max_epochs=1, edit=lost))
    assert reports["val_accuracy"].isna().all()
    assert trials["rank"].isna().all()
    assert reports["val_accuracy"].dtype == float


@pytest.mark.parametrize(
    ("value", "kind"),
    [(7, "int64"), (7.0, "float64"), (7.5, "float64"), (None, "float64"), (True, "float64"), (10**30, "float64")],
)
@pytest.mark.parametrize("place", [0, 1])
def test_numbers_of_a_report_are_integers_where_a_column_holds_nothing_else(make, value, kind, place):
    def report_one_otherwise(number, config, reports):
        reports[-1]["samples_seen"] = value if number == place else 5

    reports, _ = load(make(trials=2, max_epochs=1, edit=report_one_otherwise))
    assert str(reports["samples_seen"].dtype) == kind
    found = reports["samples_seen"].iloc[place]
    assert math.isnan(found) if value is None else found == float(value)


def test_a_name_that_only_some_reports_have_is_nan_in_the_others(make):
    def more(number, config, reports):
        if number == 1:
            reports[-1]["later"] = 3

    reports, _ = load(make(trials=2, max_epochs=1, edit=more))
    assert reports["later"].isna().tolist() == [True, False]
    assert reports["later"].iloc[-1] == 3.0


def test_elapsed_seconds_leave_out_pauses():
    events = [
        {"event": "search_started", "time": 100.0},
        {"event": "report", "time": 110.0},
        {"event": "search_started", "time": 1000.0},
        {"event": "report", "time": 1005.0},
    ]
    clock = Clock(events)
    assert [clock.elapsed(event["time"]) for event in events] == [0, 10, 10, 15]


def test_an_experiment_without_trials_has_empty_frames_with_columns(make):
    reports, trials = load(make(trials=0))
    assert reports.empty
    assert trials.empty
    assert {"epoch", "elapsed_seconds"} <= set(reports)
    assert {"rank", "state", "failure/kind"} <= set(trials)


def test_a_manifest_without_a_ledger_is_an_experiment_that_has_not_begun(make):
    path = make(trials=0)
    (path / "ledger.jsonl").unlink()
    experiment = load_experiment(path)
    assert experiment.state == "PENDING"
    assert experiment.trials.empty


def test_a_torn_last_line_is_passed_over(make):
    path = make(until_seconds=40.0)
    before, _ = load(path)
    with (path / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"event": "report", "trial_id": "t00')
    after, _ = load(path)
    assert len(after) == len(before) > 0


def test_a_running_search(make):
    experiment = load_experiment(make(until_seconds=40.0))
    assert experiment.state == "RUNNING"
    assert "RUNNING" in set(experiment.trials["state"])


def test_a_folder_that_is_no_experiment_names_the_nearest(make):
    path = make("results", trials=0)
    with pytest.raises(ExperimentError, match=r"must hold experiment.json.*Did you mean .*results"):
        load(path.parent / "result")


def test_a_broken_manifest_is_named(make):
    path = make(trials=0)
    (path / "experiment.json").write_text("{")
    with pytest.raises(ExperimentError, match=r"experiment\.json must hold a JSON object"):
        load(path)


def test_a_manifest_whose_data_are_no_block_is_refused(make):
    path = make(trials=0)
    manifest = json.loads((path / "experiment.json").read_text())
    (path / "experiment.json").write_text(json.dumps({**manifest, "dataset": "faces"}))
    with pytest.raises(ExperimentError, match="must say which data the search is of, but its dataset is 'faces'"):
        load(path)


def test_chance_counts_the_classes_that_were_trained(make):
    path = make(trials=0)
    assert load_experiment(path).chance == pytest.approx(1 / 7)
    manifest = json.loads((path / "experiment.json").read_text())
    manifest["dataset"]["counts"]["train"]["happily_surprised"] = 0
    (path / "experiment.json").write_text(json.dumps(manifest))
    assert load_experiment(path).chance == pytest.approx(1 / 7)


def test_the_cost_until_a_report_is_that_of_all_slots_by_then(demo):
    experiment = load_experiment(demo)
    last = experiment.reports.sort_values("elapsed_seconds").iloc[-1]
    assert experiment.reports["search_slot_seconds"].is_monotonic_increasing is False
    assert experiment.reports.sort_values("time")["search_slot_seconds"].is_monotonic_increasing
    ended = experiment.trials["ended_time"]
    before = experiment.trials.loc[ended <= last["time"], "cpu_seconds"].sum()
    held = (last["time"] - experiment.trials.loc[ended > last["time"], "started_time"]).sum()
    assert last["search_slot_seconds"] == pytest.approx(before + held)


def test_confirmed_trials_are_ranked_as_confirmed_and_those_that_confirm_are_none(make):
    path = make("confirmed")
    found = read_trials(path)
    second = sorted(
        found, key=lambda t: -max((r["val_accuracy"] for r in t.reports if t.state != "FAILED"), default=0)
    )[1]
    seconds = iter((0.0, 1.0, 1.0, 3601.0, 3601.0))
    with LedgerWriter(path / "ledger.jsonl", clock=lambda: 2e9 + next(seconds)) as ledger:
        ledger.search_started()
        ledger.created("again", len(found), {**second.config, "seed": 1}, confirms=second.trial_id)
        ledger.started("again", attempt=1, node="host", pid=1)
        ledger.report("again", {"epoch": 1, "val_accuracy": 0.99})
        ledger.ended("again", "FINISHED")
    confirmation = {"chosen_by": 0.8, "mean": 0.756, "std": 0.012, "values": [0.744, 0.768], "seeds": [1, 2, 3]}
    (path / "best.json").write_text(json.dumps({"trial_id": second.trial_id, "confirmation": confirmation}))
    experiment = load_experiment(path)

    assert list(experiment.trials["trial_id"]) == [trial.trial_id for trial in found]
    assert set(experiment.reports["trial_id"]) == {trial.trial_id for trial in found if trial.reports}
    assert best_trial(experiment.trials)["trial_id"] == second.trial_id
    assert sorted(experiment.trials["rank"].dropna()) == list(range(1, experiment.trials["rank"].count() + 1))
    assert "with 2 further seeds, its config gives 0.756 ± 0.012 on validation" in verdict(experiment)[1]
    assert experiment.confirming["cpu_seconds"].sum() == 3600.0
    spent = (experiment.trials["cpu_seconds"].sum() + 3600.0) / 3600
    assert costs(experiment)[0].startswith(f"{spent:.2f} CPU-hours")
