"""Listeners that a search does not wait for."""

import copy
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from search.recorder import ClosableListener, Expendable
from search.trials import Report, TrialRecord

PATIENCE_SECONDS = 60.0
"""How long the end of a search waits for what a listener has still to be told."""


class Aside:
    """Tells a listener in a thread of its own what happens, in order, each trial as it was then.

    A server that is slow, or does not answer for minutes, keeps no trial waiting. `build` makes the listener, in that
    thread; its first error is its last (`search.recorder.Expendable`). Use it as a context: at its end the listener
    gets what is left and is closed, within `patience_seconds`, or `warn` gets a sentence of it.
    """

    def __init__(
        self,
        what: str,
        build: Callable[[], ClosableListener],
        warn: Callable[[str], None],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._what = what
        self._build = build
        self._warn = warn
        self._patience_seconds = patience_seconds
        self._calls: queue.SimpleQueue[Callable[[Expendable], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=what, daemon=True)

    def started(self, trial: TrialRecord) -> None:
        """Pass it on."""
        as_it_is = snapshot(trial)
        self._calls.put(lambda listener: listener.started(as_it_is))

    def reported(self, trial: TrialRecord, report: Report) -> None:
        """Pass it on."""
        as_it_is = snapshot(trial)
        self._calls.put(lambda listener: listener.reported(as_it_is, report))

    def paused(self, trial: TrialRecord) -> None:
        """Pass it on."""
        as_it_is = snapshot(trial)
        self._calls.put(lambda listener: listener.paused(as_it_is))

    def ended(self, trial: TrialRecord) -> None:
        """Pass it on."""
        as_it_is = snapshot(trial)
        self._calls.put(lambda listener: listener.ended(as_it_is))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.put(None)
        self._thread.join(self._patience_seconds)
        if self._thread.is_alive():
            self._warn(f"warning: {self._what} lack the end of the search: {self._patience_seconds:g} s were too few")

    def _work(self) -> None:
        with Expendable(self._what, self._build, self._warn) as listener:
            for tell in iter(self._calls.get, None):
                tell(listener)


def snapshot(trial: TrialRecord) -> TrialRecord:
    """The trial as it is now, whatever becomes of it."""
    return replace(
        trial,
        reports=list(trial.reports),
        inheritances=list(trial.inheritances),
        slot_time=copy.copy(trial.slot_time),
        losses=copy.copy(trial.losses),
    )
