"""Waiting for a storage that does not answer: longer and longer, never all at the same instant."""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from trainable.storage.storage import NoConnectionError, ServerError

T = TypeVar("T")

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 20.0
"""Between two attempts: after an outage everything goes on within this time."""
PATIENCE_SECONDS = 15 * 60.0
"""How long something that cannot go on without the storage waits for it."""
CONTACT_SECONDS = 10.0
"""How long a command waits for a storage's first answer: a wrong address looks like an outage."""
PASSING = (NoConnectionError, ServerError)
"""Troubles that pass by themselves."""


def delay_after(tries: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failed attempts (from 1): twice as long each time, half of it drawn by chance."""
    whole = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** (min(tries, 30) - 1))
    return whole * (0.5 + 0.5 * draw())


def persist(action: Callable[[], T], patience: float = PATIENCE_SECONDS, given_up: threading.Event | None = None) -> T:
    """Do something until it works, or troubles have lasted for `patience` seconds; other errors are raised at once.

    `given_up` ends the waiting, too: then the last error is raised.
    """
    event = given_up or threading.Event()
    deadline, tries = time.monotonic() + patience, 0
    while True:
        try:
            return action()
        except PASSING:
            tries += 1
            pause = delay_after(tries)
            if time.monotonic() + pause > deadline or event.wait(pause):
                raise
