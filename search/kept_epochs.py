"""Which checkpoints are kept for other trials to go on from (`population/`): those that one may still inherit.

A slot keeps them, the search removes them. While a search runs, its scheduler says which are needed; once it is
complete, none is.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from search.schedulers import Kept
from search.trials import TrialRecord
from trainable.files import remove_folder


class KeptEpochs:
    """Removes a checkpoint of `folder` once no trial can inherit it any more.

    `every` is at which multiples of epochs slots keep one; 0 where they never do.
    """

    def __init__(self, folder: Path, *, every: int) -> None:
        self._folder = folder
        self._every = every
        self._kept: set[Kept] = set()

    def restore(self, trials: Mapping[str, TrialRecord], inheritable: Collection[Kept]) -> None:
        """Take up what an earlier run of the search left, and remove what it did not come to remove.

        A checkpoint that a slot kept, but whose report did not arrive, is left alone: the report will come again.
        """
        for path in self._folder.glob("*/*"):
            trial = trials.get(path.parent.name)
            if trial is None or not path.name.isdecimal():
                remove_folder(path)
            elif int(path.name) <= trial.epochs:
                self._kept.add((trial.trial_id, int(path.name)))
        self._drop(inheritable)

    def retain(self, trial: TrialRecord, inheritable: Collection[Kept]) -> None:
        """Keep what may still be inherited after the last event of a trial, and remove the rest."""
        if self._every == 0:
            return
        if trial.epochs and trial.epochs % self._every == 0:
            self._kept.add((trial.trial_id, trial.epochs))
        self._drop(inheritable)

    def _drop(self, inheritable: Collection[Kept]) -> None:
        for trial_id, epoch in self._kept.difference(inheritable):
            remove_folder(self._folder / trial_id / str(epoch))
        self._kept.intersection_update(inheritable)
