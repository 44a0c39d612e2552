import math

from search.trials import best_report


def test_best_report_looks_at_every_epoch(make_trial) -> None:
    trials = [make_trial(0, "STOPPED", [0.2, 0.6, 0.4]), make_trial(1, "RUNNING", [0.3, 0.5])]
    trial, report = best_report(trials, "val_accuracy", "max")
    assert (trial.number, report["epoch"]) == (0, 2)
    trial, report = best_report(trials, "val_accuracy", "min")
    assert (trial.number, report["epoch"]) == (0, 1)


def test_best_report_passes_over_failed_trials_and_what_is_not_finite(make_trial) -> None:
    trials = [make_trial(0, "FAILED", [0.9]), make_trial(1, "FINISHED", [None, math.nan, 0.1]), make_trial(2)]
    trial, report = best_report(trials, "val_accuracy", "max")
    assert (trial.number, report["epoch"]) == (1, 3)
    assert best_report([trials[0], trials[2]], "val_accuracy", "max") is None
    assert best_report(trials, "val_loss", "min") is None


def test_best_report_gives_ties_to_fewer_epochs_then_to_the_lower_number(make_trial) -> None:
    trials = [make_trial(0, "STOPPED", [0.1, 0.5]), make_trial(2, "STOPPED", [0.5]), make_trial(1, "STOPPED", [0.5])]
    trial, report = best_report(trials, "val_accuracy", "max")
    assert (trial.number, report["epoch"]) == (1, 1)
