"""Reading a large experiment in less time: by two processes, beside the imports, without the garbage collector."""

import ctypes
import gc
import importlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trainable.errors import GlanceError

if TYPE_CHECKING:
    from analysis.frames import Experiment

_Here = TypeVar("_Here")
_There = TypeVar("_There")

Both = Callable[[Callable[[], dict[str, Any]], Callable[[], dict[str, Any]]], tuple[dict[str, Any], dict[str, Any]]]
"""Runs two functions, and returns what both did."""

_PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""

_DRAWING = (
    *("analysis.formats", "analysis.draw_matplotlib", "optuna.importance"),
    *("sklearn.ensemble", "sklearn.gaussian_process"),
)
"""What a report imports before it is drawn: seconds, as reading the ledger of a large search takes."""


def load_beside(path: Path, address: str = "") -> "Experiment":
    """`analysis.frames.load_experiment` by forks of this process, while this one imports what draws a report.

    Raises as that does.
    """
    kept = []

    def load() -> "Experiment":
        from analysis.frames import experiment_of, read_folder

        with no_collection():
            folder = read_folder(path)
            kept.append(folder)  # to take a million events apart would last longer than the fork is needed
            return experiment_of(folder, address, both=beside)

    return beside(lambda: [importlib.import_module(name) for name in _DRAWING], load)[1]


def in_turn(here: Callable[[], _Here], there: Callable[[], _There]) -> tuple[_Here, _There]:
    """What both return, one after the other."""
    return here(), there()


def beside(here: Callable[[], _Here], there: Callable[[], _There]) -> tuple[_Here, _There]:
    """What both return, the second run by a fork of this process meanwhile.

    What the fork did not come to is done here, after the first: so every error of either is raised here.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    helper = context.Process(target=_send, args=(receiver, sender, there))
    helper.start()
    sender.close()
    try:
        ours = here()
        try:
            theirs = receiver.recv()
        except (EOFError, OSError):  # the fork died, be it while it sent: what is wrong shows here
            theirs = there()
    finally:
        helper.kill()
        helper.join()
    if isinstance(theirs, GlanceError):
        raise theirs
    return ours, theirs


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


def _send(
    receiver: "Connection[None, object]", sender: "Connection[object, None]", there: Callable[[], object]
) -> None:
    _end_with_parent()
    receiver.close()  # or this would wait for itself to read, were the command killed
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        found = there()
    except GlanceError as error:
        found = error
    except Exception:
        return  # it is raised where it can be seen
    with suppress(BrokenPipeError):  # nobody waits for it any more
        sender.send(found)


def _end_with_parent() -> None:
    """Let Linux kill this process when the one that it is a fork of ends; elsewhere it ends when it sends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
