"""Reading a large experiment in less time: beside the imports, and without the garbage collector."""

import gc
import importlib
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.errors import GlanceError

if TYPE_CHECKING:
    from analysis.frames import Experiment

_DRAWING = (
    *("analysis.formats", "analysis.draw_matplotlib", "optuna.importance"),
    *("sklearn.ensemble", "sklearn.gaussian_process"),
)
"""What a report imports before it is drawn: seconds, as reading the ledger of a large search takes."""


def load_beside(path: Path, address: str = "") -> "Experiment":
    """`analysis.frames.load_experiment` by a fork of this process, while this one imports what draws a report.

    Raises as that does.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    helper = context.Process(target=_send, args=(sender, path, address))
    helper.start()
    sender.close()
    try:
        for name in _DRAWING:
            importlib.import_module(name)
        found = receiver.recv()
    except EOFError:  # it was killed: what is wrong shows here
        found = _load(path, address)
    finally:
        helper.kill()
        helper.join()
    if isinstance(found, GlanceError):
        raise found
    return found


@contextmanager
def no_collection() -> Iterator[None]:
    """Let Python look for no cycles: events have none, and looking through a million of them takes half the time."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def _send(sender: "Connection[Experiment | GlanceError, None]", path: Path, address: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        found: Experiment | GlanceError = _load(path, address)
    except GlanceError as error:
        found = error
    sender.send(found)


def _load(path: Path, address: str) -> "Experiment":
    from analysis.frames import load_experiment

    return load_experiment(path, address)
