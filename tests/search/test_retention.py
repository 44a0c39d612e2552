import errno
import math
import os
import random
from pathlib import Path

import pytest

from search.retention import Retention, rank
from search.trials import TrialRecord


def _checkpoint(folder: Path, trial: TrialRecord) -> None:
    for kind in ("last", "best"):
        path = folder / trial.trial_id / kind
        path.mkdir(parents=True)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_rank_sorts_by_the_best_report_and_leaves_out_what_has_none(make_trial) -> None:
    trials = [
        make_trial(0, "STOPPED", [0.2, 0.7, 0.1]),
        make_trial(1, "FINISHED", [0.9]),
        make_trial(2, "FAILED", [1.0]),
        make_trial(3, "STOPPED", [None, math.nan]),
        make_trial(4, "FINISHED", [0.5]),
    ]
    best, others = rank(trials, "val_accuracy", "max", 2)
    assert [trial.number for trial in best] == [1, 0]
    assert {trial.number for trial in others} == {2, 3, 4}
    best, _ = rank(trials, "val_accuracy", "min", 9)
    assert [trial.number for trial in best] == [0, 4, 1]


def test_the_best_trials_keep_their_weights_and_lose_what_they_would_go_on_from(tmp_path: Path, make_trial) -> None:
    retention = Retention(tmp_path, keep_best=2, metric="val_accuracy", mode="max")
    for number, accuracy in enumerate([0.3, 0.1, 0.2]):
        trial = make_trial(number, "STOPPED", [accuracy])
        _checkpoint(tmp_path, trial)
        retention.ended(trial)
    assert _names(tmp_path) == {"trial-0", "trial-2"}
    assert [_names(tmp_path / name) for name in ("trial-0", "trial-2")] == [{"best"}, {"best"}]
    assert [trial.number for trial in retention.kept] == [0, 2]


@pytest.mark.parametrize("state", ["FAILED", "STOPPED"])
def test_a_failed_trial_and_one_without_a_metric_keep_nothing(tmp_path: Path, make_trial, state: str) -> None:
    retention = Retention(tmp_path, keep_best=2, metric="val_accuracy", mode="max")
    trial = make_trial(0, state, [0.9] if state == "FAILED" else [None])
    _checkpoint(tmp_path, trial)
    retention.ended(trial)
    assert _names(tmp_path) == set()


def test_a_trial_without_a_checkpoint_ends_too(tmp_path: Path, make_trial) -> None:
    Retention(tmp_path / "absent", keep_best=1, metric="val_accuracy", mode="max").ended(make_trial(0, "FAILED"))


def test_a_thousand_trials_never_hold_more_than_slots_and_k_folders(tmp_path: Path, make_trial) -> None:
    rng, slots, k = random.Random(0), 4, 3
    retention = Retention(tmp_path, keep_best=k, metric="val_accuracy", mode="max")
    running: list[TrialRecord] = []
    ended: list[TrialRecord] = []
    for number in range(1000):
        if len(running) == slots:
            trial = running.pop(rng.randrange(slots))
            trial.state = rng.choice(["FINISHED", "STOPPED", "FAILED"])
            retention.ended(trial)
            ended.append(trial)
        trial = make_trial(number, "RUNNING", [rng.choice([rng.random(), None]) for _ in range(3)])
        (tmp_path / trial.trial_id).mkdir()
        running.append(trial)
        assert len(_names(tmp_path)) <= slots + k
    accuracies = {
        trial.trial_id: max((report["val_accuracy"] or -1.0 for report in trial.reports), default=-1.0)
        for trial in ended
        if trial.state != "FAILED"
    }
    best = sorted(accuracies, key=lambda trial_id: -accuracies[trial_id])[:k]
    assert _names(tmp_path) == {*best, *(trial.trial_id for trial in running)}


def test_after_a_restart_the_same_trials_are_kept_and_leftovers_swept(tmp_path: Path, make_trial) -> None:
    trials = [make_trial(number, "STOPPED", [accuracy]) for number, accuracy in enumerate([0.3, 0.1, 0.2, 0.4])]
    running = make_trial(9, "RUNNING", [0.0])
    for trial in [*trials, running]:
        _checkpoint(tmp_path, trial)
    retention = Retention(tmp_path, keep_best=2, metric="val_accuracy", mode="max")
    for trial in reversed(trials[1:]):
        retention.ended(trial)
    assert _names(tmp_path) == {"trial-0", "trial-2", "trial-3", "trial-9"}  # trial 0 is not known yet
    retention.sweep({"trial-9"})
    assert _names(tmp_path) == {"trial-2", "trial-3", "trial-9"}
    assert _names(tmp_path / "trial-9") == {"last", "best"}


def test_a_folder_that_cannot_be_removed_ends_nothing(
    tmp_path: Path, make_trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*arguments: object, **options: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    retention = Retention(tmp_path, keep_best=1, metric="val_accuracy", mode="max")
    trial = make_trial(0, "FAILED", [])
    _checkpoint(tmp_path, trial)
    monkeypatch.setattr(os, "rmdir", busy)
    retention.ended(trial)
    assert retention.kept == []
