"""Uploads beside training: a few threads, the newest version of each thing, and as many attempts as it takes."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from trainable.storage.retry import delay_after

THREADS = 4
"""Uploads at a time; a large object takes several connections of its own."""
REMIND_SECONDS = 300.0
"""While an outage lasts it is told again after so long."""


class Job(Protocol):
    """One version of something to upload."""

    def run(self) -> None:
        """Upload it; called again after an error."""
        ...

    def discard(self) -> None:
        """Let go of what it holds, after it was uploaded or a newer version came."""
        ...


@dataclass
class _Entry:
    job: Job
    tries: int = 0
    due: float = 0.0


@dataclass
class _State:
    """What the threads share, under one lock."""

    waiting: dict[str, _Entry] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    failing_since: float | None = None
    told: float = 0.0
    closed: bool = False


class Uploader:
    """Runs jobs by key: in the order in which they came, and no two of one key at a time.

    A job that waits gives way to a newer one of its key, so that a storage that stays away costs no more than one
    version of each. A job that fails is tried again without end, ever more slowly. `say` gets a line when uploads begin
    to fail, sometimes while they do, and when they work again.
    """

    def __init__(
        self,
        *,
        threads: int = THREADS,
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        delay: Callable[[int], float] = delay_after,
    ) -> None:
        self._say = say
        self._clock = clock
        self._delay = delay
        self._changed = threading.Condition()
        self._state = _State()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"upload-{number}", daemon=True).start()

    def submit(self, key: str, job: Job, *, first: bool = False) -> None:
        """Upload `job`, after all that wait or before them.

        One of the same key that has not begun is discarded, and one that runs is finished before.
        """
        with self._changed:
            before = self._state.waiting.pop(key, None)
            closed = self._state.closed
            if not closed:
                self._state.waiting[key] = _Entry(job, *((before.tries, before.due) if before else ()))
            if first and not closed:
                self._state.waiting = {key: self._state.waiting.pop(key), **self._state.waiting}
            self._changed.notify_all()
        if before is not None:
            before.job.discard()
        if closed:
            job.discard()

    def withdraw(self, key: str) -> None:
        """Forget the job of a key that has not begun, and wait for one that runs to succeed or fail once."""
        with self._changed:
            before = self._state.waiting.pop(key, None)
            self._changed.wait_for(lambda: key not in self._state.running)
            late = self._state.waiting.pop(key, None)
        for entry in (before, late):
            if entry is not None:
                entry.job.discard()

    def undelivered(self) -> list[str]:
        """The keys of which something is still to be uploaded."""
        with self._changed:
            return [*self._state.running, *(key for key in self._state.waiting if key not in self._state.running)]

    def flush(self, timeout: float) -> list[str]:
        """Wait until everything is uploaded, at most so many seconds; returns the keys of what is not.

        What waits for its next attempt is tried at once.
        """
        with self._changed:
            for entry in self._state.waiting.values():
                entry.due = 0.0
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._state.waiting and not self._state.running, timeout)
        return self.undelivered()

    def close(self) -> None:
        """Begin no further upload; those that wait are discarded."""
        with self._changed:
            self._state.closed = True
            left = list(self._state.waiting.values())
            self._state.waiting.clear()
            self._changed.notify_all()
        for entry in left:
            entry.job.discard()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            key, entry = taken
            try:
                entry.job.run()
            except Exception as error:
                self._failed(key, entry, error)
            else:
                self._succeeded(key, entry)

    def _take(self) -> tuple[str, _Entry] | None:
        """Wait for a job that is due; None once closed."""
        with self._changed:
            while not self._state.closed:
                key = self._next_due()
                if key is not None:
                    self._state.running.add(key)
                    return key, self._state.waiting.pop(key)
                self._changed.wait(self._seconds_to_next())
            return None

    def _next_due(self) -> str | None:
        now = self._clock()
        free = (item for item in self._state.waiting.items() if item[0] not in self._state.running)
        return next((key for key, entry in free if entry.due <= now), None)

    def _seconds_to_next(self) -> float | None:
        dues = [entry.due for key, entry in self._state.waiting.items() if key not in self._state.running]
        return max(0.0, min(dues) - self._clock()) if dues else None

    def _succeeded(self, key: str, entry: _Entry) -> None:
        entry.job.discard()
        with self._changed:
            self._state.running.discard(key)
            since, self._state.failing_since = self._state.failing_since, None
            if key in self._state.waiting:
                self._state.waiting[key].tries, self._state.waiting[key].due = 0, 0.0
            self._changed.notify_all()
        if since is not None:
            self._say(f"uploads work again, after {self._clock() - since:.0f} s")

    def _failed(self, key: str, entry: _Entry, error: Exception) -> None:
        """Put the job back, unless a newer one came; that one waits as long as this one would have."""
        now = self._clock()
        with self._changed:
            self._state.running.discard(key)
            newer = self._state.waiting.get(key)
            kept = newer or entry
            kept.tries = entry.tries + 1
            kept.due = now + self._delay(kept.tries)
            dropped = newer is not None or self._state.closed
            if not dropped:
                self._state.waiting[key] = entry
            line = self._trouble(now, error)
            self._changed.notify_all()
        if dropped:
            entry.job.discard()
        if line is not None:
            self._say(line)

    def _trouble(self, now: float, error: Exception) -> str | None:
        """What to say of an error; None where that was said lately."""
        if self._state.failing_since is None:
            self._state.failing_since = self._state.told = now
        elif now < self._state.told + REMIND_SECONDS:
            return None
        self._state.told = now
        waiting = len(self._state.waiting)
        return f"warning: uploads wait ({waiting}) and are tried again, training goes on: {error}"
