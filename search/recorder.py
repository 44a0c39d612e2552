"""What happens to trials, told to everything that keeps or shows it. Knows no Ray.

The ledger is told first, so that a driver that dies in between has lost no event; what was removed or drawn from it
can be made again.
"""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from search.failures import Cause, first_failures_alike, record_failure
from search.ledger import LedgerWriter
from search.trials import Inherited, Report, TrialRecord, searched

ALIKE_FAILURES = 3
"""So many first trials that all fail alike stop a search."""


class Listener(Protocol):
    """Follows the trials: event files, the console."""

    def started(self, trial: TrialRecord) -> None:
        """The trial got a slot, for the first time or again."""
        ...

    def reported(self, trial: TrialRecord, report: Report) -> None:
        """An epoch of the trial is over."""
        ...

    def paused(self, trial: TrialRecord) -> None:
        """The trial waits at a rung."""
        ...

    def ended(self, trial: TrialRecord) -> None:
        """No further report will come."""
        ...


class ClosableListener(Listener, Protocol):
    """A listener that holds something open."""

    def close(self) -> None:
        """Let go of it."""
        ...


class Expendable:
    """A listener that a search can do without: its first error is its last, and `warn` gets a sentence of it.

    `build` makes the listener; that may fail in the same way. Use it as a context: at its end the listener is closed.
    """

    def __init__(self, what: str, build: Callable[[], ClosableListener], warn: Callable[[str], None]) -> None:
        self._what = what
        self._warn = warn
        self._listener: ClosableListener | None = None
        self._attempt(lambda: self._take(build()))

    def started(self, trial: TrialRecord) -> None:
        """Pass it on."""
        self._tell(lambda listener: listener.started(trial))

    def reported(self, trial: TrialRecord, report: Report) -> None:
        """Pass it on."""
        self._tell(lambda listener: listener.reported(trial, report))

    def paused(self, trial: TrialRecord) -> None:
        """Pass it on."""
        self._tell(lambda listener: listener.paused(trial))

    def ended(self, trial: TrialRecord) -> None:
        """Pass it on."""
        self._tell(lambda listener: listener.ended(trial))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell(lambda listener: listener.close())

    def _take(self, listener: ClosableListener) -> None:
        self._listener = listener

    def _tell(self, tell: Callable[[ClosableListener], None]) -> None:
        listener = self._listener
        if listener is not None:
            self._attempt(lambda: tell(listener))

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._listener = None
            self._warn(f"warning: {self._what} stop here, and the search goes on: {type(error).__name__}: {error}")


class Recorder:
    """Writes each event to the ledger and passes it on; says when the search must stop.

    `retained` is called for each trial that ended, after the listeners. `stop_state` is None while the search may go
    on, else the state it ends in: `ABORTED` once the first trials all failed alike (`abort_cause`), `TIME_BUDGET` after
    `time_budget_seconds`, `BUDGET` once all trials, running ones and those of earlier runs included, held their slots
    for `budget_hours` GPU-hours, or CPU-hours without GPUs, `INTERRUPTED` when somebody asked for it.
    """

    def __init__(
        self,
        ledger: LedgerWriter,
        listeners: list[Listener],
        *,
        retained: Callable[[TrialRecord], None],
        trials: int,
        time_budget_seconds: float | None = None,
        budget_hours: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._listeners = listeners
        self._retained = retained
        self._alike = min(ALIKE_FAILURES, trials)
        self._clock = clock
        self._deadline = None if time_budget_seconds is None else clock() + time_budget_seconds
        self._budget_seconds = None if budget_hours is None else 3600 * budget_hours
        self._stop_state: str | None = None
        self.abort_cause: Cause | None = None

    @property
    def trials(self) -> Mapping[str, TrialRecord]:
        """Every trial by its id."""
        return self._ledger.trials

    @property
    def stop_state(self) -> str | None:
        """Why the search must stop now; None where it may go on."""
        used_up = None if self._stop_state else self._used_up()
        if used_up is not None:
            self._stop_state = used_up
        return self._stop_state

    def interrupt(self) -> None:
        """Somebody asked the search to end."""
        self._stop_state = self._stop_state or "INTERRUPTED"

    def created(self, trial_id: str, number: int, config: Mapping[str, Any]) -> None:
        """The searcher drew a trial."""
        self._ledger.created(trial_id, number, config)

    def started(self, trial_id: str, *, node: str, pid: int, node_id: str | None = None) -> None:
        """A slot took the trial."""
        attempt = self.trials[trial_id].attempts + 1
        self._ledger.started(trial_id, attempt=attempt, node=node, pid=pid, node_id=node_id)
        for listener in self._listeners:
            listener.started(self.trials[trial_id])

    def retried(self, trial_id: str, failure: Mapping[str, Any]) -> None:
        """The trial's processes were lost, and it waits for others; `failure` says how."""
        described = record_failure(self._ledger.path.parent, failure)
        self._ledger.retried(trial_id, attempt=self.trials[trial_id].attempts, failure=described)

    def saved(self, trial_id: str, epochs: float) -> None:
        """A checkpoint holds so many of the trial's epochs, a part of one included."""
        self._ledger.saved(trial_id, epochs)

    def may_go_on(self, trial_id: str, max_failures: int) -> bool:
        """Whether a trial that is lost now is started again: not after more losses in a row without progress."""
        return self.trials[trial_id].losses.next_in_a_row <= max_failures

    def paused(self, trial_id: str) -> None:
        """The scheduler let the trial wait at a rung."""
        self._ledger.paused(trial_id)
        for listener in self._listeners:
            listener.paused(self.trials[trial_id])

    def promoted(self, trial_id: str) -> None:
        """The scheduler let a paused trial go on."""
        self._ledger.promoted(trial_id)

    def inherited(self, trial_id: str, inherited: Inherited) -> None:
        """A promoted trial goes on from another's checkpoint."""
        self._ledger.inherited(trial_id, inherited)

    def reported(self, trial_id: str, report: Mapping[str, Any]) -> None:
        """An epoch is over; one that is known already, from before a restart, is passed over."""
        trial = self.trials[trial_id]
        if report["epoch"] <= trial.epochs:
            return
        self._ledger.report(trial_id, report)
        for listener in self._listeners:
            listener.reported(trial, trial.reports[-1])

    def completed(self, trial_id: str) -> None:
        """The trial reached its last epoch, or the scheduler stopped it before."""
        trial = self.trials[trial_id]
        self._ended(trial_id, "FINISHED" if trial.epochs >= trial.config["max_epochs"] else "STOPPED", None)

    def failed(self, trial_id: str, failure: Mapping[str, Any]) -> None:
        """The trial failed; `failure` is a `trainable.slot.failure.Failure`."""
        self._ended(trial_id, "FAILED", record_failure(self._ledger.path.parent, failure))
        cause = first_failures_alike(searched(self.trials.values()), self._alike)
        if cause is not None and not self._others_do_better(cause):
            self.abort_cause = cause
            self._stop_state = self._stop_state or "ABORTED"

    def _used_up(self) -> str | None:
        """The state of a search whose time or hours are used up."""
        if self._deadline is not None and self._clock() >= self._deadline:
            return "TIME_BUDGET"
        if self._budget_seconds is not None and self._ledger.spent_seconds() >= self._budget_seconds:
            return "BUDGET"
        return None

    def _ended(self, trial_id: str, state: str, failure: Mapping[str, Any] | None) -> None:
        self._ledger.ended(trial_id, state, failure)
        for listener in self._listeners:
            listener.ended(self.trials[trial_id])
        self._retained(self.trials[trial_id])

    def _others_do_better(self, cause: Cause) -> bool:
        """Whether a trial that still runs came further than each of those that failed."""
        furthest = max(trial.epochs for trial in cause.trials)
        return any(trial.epochs > furthest for trial in self.trials.values() if trial.state != "FAILED")
