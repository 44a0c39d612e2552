"""The notice that this process will soon be ended: a checkpoint must be written while there is time.

It comes by SIGTERM, or from the node (`trainable.slot.node_watch`). While a trial is trained, SIGTERM is such a notice;
at any other time all is saved, and it ends the process as it would without us. Knows no Ray.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Notice:
    """Given once, by whoever knows first, and read by whoever trains."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._training = 0
        self._caught = False

    @property
    def reason(self) -> str | None:
        """Why no more may be trained in this process; None where it may."""
        return self._reason

    def give(self, reason: str) -> None:
        """Let training end at its next step; the first reason stays."""
        self._reason = self._reason or reason

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Around training that looks at `reason`."""
        self._training += 1
        try:
            yield
        finally:
            self._training -= 1

    def catch_sigterm(self) -> None:
        """Take SIGTERM for a notice where one is awaited; a second one ends the process. The main thread must call."""
        if self._caught:
            return
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals are caught in the main thread alone")
        before = signal.getsignal(signal.SIGTERM)

        def terminate(number: int, frame: FrameType | None) -> None:
            if self._training and self._reason is None:
                self.give("its process got SIGTERM")
            elif callable(before):
                before(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        signal.signal(signal.SIGTERM, terminate)
        self._caught = True


NOTICE = Notice()
"""This process's own."""


def catch_sigterm() -> None:
    """Let SIGTERM to this process be its notice; may be called by name from another."""
    NOTICE.catch_sigterm()


def give_notice(reason: str) -> None:
    """Give this process its notice; may be called by name from another."""
    NOTICE.give(reason)
