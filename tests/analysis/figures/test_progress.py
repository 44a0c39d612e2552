import pandas as pd
import pytest

from analysis.figures import progress
from analysis.figures.progress import SPENT
from tests.analysis.figures.conftest import named


def test_progress_steps_through_the_best_values_to_the_end(experiment):
    plot = progress(experiment.reports)
    steps = named(plot, "best so far")
    assert steps.y[-1] == steps.y[-2] == experiment.trials["best_value"].max()
    assert steps.x[-1] == pytest.approx(experiment.reports["elapsed_seconds"].max())
    assert len(named(plot, "every report").x) == len(experiment.reports)


@pytest.mark.parametrize(("end", "label"), [(100.0, "seconds"), (1000.0, "minutes"), (20_000.0, "hours")])
def test_progress_chooses_a_unit(end, label):
    reports = pd.DataFrame(
        {"state": "FINISHED", "number": 0, "epoch": [1, 2], "elapsed_seconds": [0.0, end], "val_accuracy": [0.1, 0.2]}
    )
    plot = progress(reports)
    seconds = {"seconds": 1, "minutes": 60, "hours": 3600}[label]
    assert plot.x.label == f"time ({label})"
    assert named(plot, "best so far").x[-1] == pytest.approx(end / seconds)


def test_progress_by_trials_epochs_and_hours(experiment):
    reports = experiment.reports
    by = {spent: named(progress(reports, against=spent, unit="CPU"), "best so far") for spent in SPENT}
    assert {tuple(steps.y) for steps in by.values()} == {tuple(by["time"].y)}
    first_best = reports.sort_values("elapsed_seconds").reset_index(drop=True)
    at = first_best["val_accuracy"].idxmax()
    assert by["epochs"].x[-2:] == [at + 1, len(reports)]
    assert by["trials"].x[-2:] == [first_best["number"][: at + 1].nunique(), reports["number"].nunique()]
    assert by["hours"].x[-1] == pytest.approx(reports["search_slot_seconds"].max() / 3600)
    assert progress(reports, against="hours", unit="CPU").x.label == "CPU-hours in slots"
