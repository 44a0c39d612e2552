"""The trials of any search as an Optuna study in a file, for `optuna-dashboard`.

Where Optuna draws, its searcher writes the file itself, and learns from the same study (`search/optuna_searcher.py`).
"""

from collections.abc import Iterable

from search.optuna_searcher import OptunaSearcher
from search.searchers import SearcherOptions
from search.trials import Report, TrialRecord


class StudyFile:
    """Follows a search that something else draws. Trials that only confirm others are left out.

    `options.journal` is the file; `trials` are those of before.
    """

    def __init__(self, options: SearcherOptions, trials: Iterable[TrialRecord]) -> None:
        self._study = OptunaSearcher(options)
        self._known: set[str] = set()
        for trial in trials:
            self.started(trial)

    def started(self, trial: TrialRecord) -> None:
        """Put the trial into the study, once."""
        if trial.confirms is None and trial.trial_id not in self._known:
            self._known.add(trial.trial_id)
            self._study.restore(trial)

    def reported(self, trial: TrialRecord, report: Report) -> None:
        """Tell the value."""
        if trial.trial_id in self._known:
            self._study.on_report(trial, report)

    def paused(self, trial: TrialRecord) -> None:
        """Optuna knows no pause: the trial goes on running."""

    def ended(self, trial: TrialRecord) -> None:
        """Tell the end."""
        if trial.trial_id in self._known:
            self._study.on_end(trial)

    def close(self) -> None:
        """Nothing is held open."""
