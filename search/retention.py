"""Which checkpoints an experiment keeps: the last one of each running trial, and the best k trials that have ended.

    checkpoints/<trial_id>/last   what the trial goes on from; removed when it ends
    checkpoints/<trial_id>/best   its best weights; removed when k ended trials are better, or when it fails

A running trial's folder is never touched, so at most slots + k folders exist.
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from search.trials import TrialRecord, best_report
from trainable.files import remove_folder


class Retention:
    """Decides for each trial that ends which folders go, and removes them.

    `keep_best` is k; `metric` and `mode` (`max` or `min`) rank the trials as `best_report` does. `removed` is told of
    each path that goes.
    """

    def __init__(
        self,
        checkpoints: Path,
        *,
        keep_best: int,
        metric: str,
        mode: str,
        removed: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self._removed = removed
        self.kept: list[TrialRecord] = []
        self._checkpoints = checkpoints
        self._keep_best = keep_best
        self._metric, self._mode = metric, mode

    def ended(self, trial: TrialRecord) -> None:
        """Remove what is no longer needed now that `trial` has ended."""
        self._remove(self._checkpoints / trial.trial_id / "last")
        self.kept, dropped = rank([*self.kept, trial], self._metric, self._mode, self._keep_best)
        for loser in dropped:
            self._remove(self._checkpoints / loser.trial_id)

    def restore(self, trials: Iterable[TrialRecord]) -> None:
        """Take up the trials of an earlier run of the search, and remove what it did not come to remove."""
        going_on = set()
        for trial in trials:
            if trial.ended:
                self.ended(trial)
            else:
                going_on.add(trial.trial_id)
        self.sweep(going_on)

    def sweep(self, running: Collection[str]) -> None:
        """Remove the folder of every trial that is neither kept nor in `running` (trial ids)."""
        if not self._checkpoints.is_dir():
            return
        wanted = {trial.trial_id for trial in self.kept} | set(running)
        for folder in self._checkpoints.iterdir():
            if folder.name not in wanted:
                self._remove(folder)

    def _remove(self, path: Path) -> None:
        remove_folder(path)
        self._removed(path)


def rank(
    trials: Iterable[TrialRecord], metric: str, mode: str, count: int
) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """The best `count` trials, best first, and the others; one without a finite metric is never among the best."""
    remaining = list(trials)
    best: list[TrialRecord] = []
    while len(best) < count and (found := best_report(remaining, metric, mode)):
        best.append(found[0])
        remaining.remove(found[0])
    return best, remaining
