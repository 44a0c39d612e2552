"""The Optuna study of a search as a file, which `optuna-dashboard` opens while the search runs too."""

import json
from collections.abc import Sequence
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

STUDY_NAME = "glance"
TRIAL_ID = "trial_id"
"""User attribute: the trial's id in the ledger."""
NUMBER = "number"
"""User attribute: the trial's number in the ledger."""


class Journal:
    """A view of the study, written and never read: what the ledger says is all it ever holds.

    A study that the file has already, of a driver that died, is taken out and written anew from the trials that
    `begin` gets; whatever that driver had still to write, or wrote without the ledger, is gone with it.
    """

    def __init__(self, path: Path, directions: Sequence[StudyDirection]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_usable(path)
        self._storage = JournalStorage(JournalFileBackend(str(path)))
        for study in self._storage.get_all_studies():
            if study.study_name == STUDY_NAME:
                self._storage.delete_study(study._study_id)
        self._study = self._storage.create_new_study(directions, STUDY_NAME)
        self._trials: dict[str, int] = {}

    def begin(self, trial: FrozenTrial) -> None:
        """A trial was drawn, or is one of before."""
        self._trials[trial.user_attrs[TRIAL_ID]] = self._storage.create_new_trial(self._study, template_trial=trial)

    def report(self, trial_id: str, epoch: int, value: float) -> None:
        """A running trial reached a value."""
        self._storage.set_trial_intermediate_value(self._trials[trial_id], epoch, value)

    def end(self, trial: FrozenTrial) -> None:
        """A running trial is over."""
        key = self._trials[trial.user_attrs[TRIAL_ID]]
        for name in trial.user_attrs.keys() - self._storage.get_trial(key).user_attrs.keys():
            self._storage.set_trial_user_attr(key, name, trial.user_attrs[name])
        self._storage.set_trial_state_values(key, trial.state, trial.values)


def _make_usable(path: Path) -> None:
    """Remove what a driver that died may have left: a lock, for which Optuna waits half a minute, and a torn file.

    Nobody else writes here: a search that holds the lock of its ledger is the only one in its folder.
    """
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if path.exists() and not _is_whole(path):
        path.unlink()


def _is_whole(path: Path) -> bool:
    """Whether every line is JSON and ends; Optuna appends to a torn line, and then reads neither."""
    with path.open("rb") as lines:
        try:
            return all(line.endswith(b"\n") and isinstance(json.loads(line), dict) for line in lines)
        except ValueError:
            return False
