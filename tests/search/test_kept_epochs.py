"""Which checkpoints of a population stay on the disk, by what a scheduler calls inheritable."""

from pathlib import Path

import pytest

from search.kept_epochs import KeptEpochs
from search.trials import TrialRecord


def keep(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "checkpoint.safetensors").touch()


def kept(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}


@pytest.fixture
def trial(make_trial) -> TrialRecord:
    record: TrialRecord = make_trial(0, "RUNNING", [0.1, 0.2, 0.3, 0.4])
    return record


def test_what_is_not_inheritable_any_more_goes(tmp_path: Path, trial: TrialRecord) -> None:
    keep(tmp_path, "trial-0/4", "trial-1/4")
    epochs = KeptEpochs(tmp_path, every=2)
    epochs.retain(trial, {("trial-0", 4)})
    assert kept(tmp_path) == {"trial-0/4", "trial-1/4"}  # of trial 1 no report has come

    epochs.retain(trial, {("trial-1", 4)})
    assert kept(tmp_path) == {"trial-1/4"}


def test_a_checkpoint_that_was_never_inheritable_goes_at_its_report(tmp_path: Path, trial: TrialRecord) -> None:
    keep(tmp_path, "trial-0/4")
    KeptEpochs(tmp_path, every=2).retain(trial, ())

    assert kept(tmp_path) == set()


def test_a_trial_that_failed_at_once_has_nothing_to_keep(tmp_path: Path, make_trial) -> None:
    KeptEpochs(tmp_path, every=1).retain(make_trial(0, "FAILED"), ())


def test_after_a_restart_leftovers_go_and_a_checkpoint_whose_report_is_to_come_stays(
    tmp_path: Path, trial: TrialRecord
) -> None:
    keep(tmp_path, "trial-0/2", "trial-0/4", "trial-0/6", "nobody/2", "trial-0/.tmp")
    KeptEpochs(tmp_path, every=2).restore({"trial-0": trial}, {("trial-0", 4)})

    assert kept(tmp_path) == {"trial-0/4", "trial-0/6"}


def test_after_a_restart_it_goes_on_with_what_is_there(tmp_path: Path, trial: TrialRecord) -> None:
    keep(tmp_path, "trial-0/2")
    epochs = KeptEpochs(tmp_path, every=2)
    epochs.restore({"trial-0": trial}, {("trial-0", 2)})
    epochs.retain(trial, ())

    assert kept(tmp_path) == set()


def test_without_a_population_nothing_is_touched(tmp_path: Path, trial: TrialRecord) -> None:
    keep(tmp_path, "trial-0/4")
    epochs = KeptEpochs(tmp_path, every=0)
    epochs.retain(trial, ())
    KeptEpochs(tmp_path / "absent", every=0).restore({}, ())

    assert kept(tmp_path) == {"trial-0/4"}
