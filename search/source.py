"""Which trial a free slot gets: one that was cut off, one that was promoted, or a new one. Knows no Ray."""

import enum
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from search.dimensions import Value
from search.recorder import Recorder
from search.schedulers import Decision, Inheritance, Kept, Scheduler
from search.searchers import Searcher
from search.trials import Inherited, TrialRecord, searched
from trainable.config import TrialConfig

DIVERGED = "DivergedError"
"""The kind of failure of a trial whose loss or metric is not finite any more."""
OWN = ("seed", "max_epochs")
"""What a trial keeps of its own where it goes on as another."""


class Nothing(enum.Enum):
    """Why a slot gets no trial."""

    NOW = enum.auto()
    """A trial that runs may make another promotable."""
    EVER = enum.auto()
    """Every trial has ended, or waits at a rung that it will not leave."""


class TrialSource:
    """Hands out trials, each under an id of our own, and passes reports and ends to scheduler, ledger and searcher.

    `defaults` fills the hyperparameters that the space does not name; at most `trials` begin, of `points` and then of
    the searcher. Trials of an earlier run of the search that were cut off come first. What is passed on goes to the
    scheduler first, whose decision depends on the reports before, then to the ledger, then to the searcher.

    After each report and each end `retain` gets the trial, and every checkpoint that a trial may still inherit.
    """

    def __init__(
        self,
        searcher: Searcher,
        scheduler: Scheduler,
        recorder: Recorder,
        defaults: TrialConfig,
        *,
        metric: str,
        trials: int,
        points: Sequence[Mapping[str, Value]] = (),
        retain: Callable[[TrialRecord, Collection[Kept]], None] = lambda trial, inheritable: None,
    ) -> None:
        self._searcher = searcher
        self._scheduler = scheduler
        self._recorder = recorder
        self._defaults = defaults.to_dict()
        self._metric = metric
        self._trials = trials
        self._points = deque(points)
        self._retain = retain
        begun = searched(recorder.trials.values())
        self._begun = len(begun)
        self._unfinished = deque(trial.trial_id for trial in begun if not trial.ended and trial.state != "PAUSED")
        self._out: set[str] = set()
        self._exhausted = False
        self.idle = False
        """Whether the last slot that asked got no trial, and none has given its slot back since."""

    def next(self) -> TrialRecord | Nothing:
        """The trial for a free slot."""
        trial_id = self._next_id() or self._last_one()
        self.idle = trial_id is None
        if trial_id is None:
            return Nothing.NOW if self._out else Nothing.EVER
        inheritance = self._scheduler.inherits(trial_id)
        if inheritance is not None:
            self._inherit(trial_id, inheritance)
        self._out.add(trial_id)
        return self._recorder.trials[trial_id]

    def decide(self, trial_id: str, report: dict[str, Any]) -> Decision:
        """What becomes of a trial after a report, which must be recorded next."""
        return self._scheduler.on_report(trial_id, report["epoch"], report.get(self._metric))

    def reported(self, trial_id: str, report: dict[str, Any]) -> None:
        """Record a report; one that is known already is passed over."""
        trial = self._recorder.trials[trial_id]
        if report["epoch"] > trial.epochs:
            self._recorder.reported(trial_id, report)
            self._searcher.on_report(trial, trial.reports[-1])
            self._retain(trial, self._scheduler.inheritable())

    def paused(self, trial_id: str) -> None:
        """A trial waits at a rung."""
        self._forget(trial_id)
        self._recorder.paused(trial_id)

    def completed(self, trial_id: str) -> None:
        """A trial reached its last epoch, or the scheduler stopped it."""
        self._recorder.completed(trial_id)
        self._over(trial_id)

    def failed(self, trial_id: str, failure: dict[str, Any]) -> None:
        """A trial failed; one that diverged counts as the worst among those that it would have been compared with."""
        if failure["kind"] == DIVERGED:
            self._scheduler.on_report(trial_id, self._recorder.trials[trial_id].epochs + 1, None)
        self._recorder.failed(trial_id, failure)
        self._over(trial_id)

    def end_paused(self) -> None:
        """End the trials that wait at a rung for good."""
        for trial_id in [trial.trial_id for trial in self._recorder.trials.values() if trial.state == "PAUSED"]:
            self.completed(trial_id)

    def _next_id(self) -> str | None:
        if self._unfinished:
            return self._unfinished.popleft()
        paused = self._scheduler.promotable()
        if paused is not None:
            return self._promote(paused)
        if self._begun >= self._trials:
            return None
        if self._points:
            return self._try_point()
        return None if self._exhausted else self._draw()

    def _last_one(self) -> str | None:
        """A paused trial that goes on although its rung is small, because nothing else is left."""
        finalist = None if self._out else self._scheduler.finalist()
        return None if finalist is None else self._promote(finalist)

    def _promote(self, trial_id: str) -> str:
        self._scheduler.on_promote(trial_id)
        self._recorder.promoted(trial_id)
        return trial_id

    def _inherit(self, trial_id: str, inheritance: Inheritance) -> None:
        """Record what a trial goes on from, unless an earlier run of the search did."""
        trial, source = self._recorder.trials[trial_id], self._recorder.trials[inheritance.source]
        if trial.inheritances and trial.inheritances[-1].epoch >= inheritance.epoch:
            return
        config = source.config_at(inheritance.epoch)
        own = {name: trial.config[name] for name in OWN}
        config = {**config, **inheritance.changes(config), **own}
        self._recorder.inherited(trial_id, Inherited(source=source.trial_id, epoch=inheritance.epoch, config=config))

    def _try_point(self) -> str:
        """Begin a config that was asked for; the searcher learns of it as of a trial of before."""
        trial_id = self._begin(self._next_number(), self._points.popleft())
        self._searcher.restore(self._recorder.trials[trial_id])
        return trial_id

    def _draw(self) -> str | None:
        number = self._next_number()
        drawn = self._searcher.suggest(_id_of(number))
        if drawn is None:
            self._exhausted = True
            return None
        return self._begin(number, drawn)

    def _begin(self, number: int, drawn: Mapping[str, Value]) -> str:
        self._begun += 1
        self._recorder.created(_id_of(number), number, {**self._defaults, **drawn})
        return _id_of(number)

    def _next_number(self) -> int:
        return len(self._recorder.trials)

    def _over(self, trial_id: str) -> None:
        self._forget(trial_id)
        self._scheduler.on_end(trial_id)
        self._searcher.on_end(self._recorder.trials[trial_id])
        self._retain(self._recorder.trials[trial_id], self._scheduler.inheritable())

    def _forget(self, trial_id: str) -> None:
        """No slot has the trial, and none will get it as one that was cut off."""
        self.idle = False
        self._out.discard(trial_id)
        if trial_id in self._unfinished:
            self._unfinished.remove(trial_id)


def _id_of(number: int) -> str:
    return f"trial_{number:04d}"
