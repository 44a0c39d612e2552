"""Reading a large experiment in less time: by two processes, beside the imports, without the garbage collector."""

import gc
import importlib
import multiprocessing
import signal
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

        folder = read_folder(path)
        kept.append(folder)  # to take a million events apart would last longer than the fork is needed
        return experiment_of(folder, address, both=beside)

    return beside(lambda: [importlib.import_module(name) for name in _DRAWING], load)[1]


def in_turn(here: Callable[[], _Here], there: Callable[[], _There]) -> tuple[_Here, _There]:
    """What both return, one after the other."""
    return here(), there()


def beside(here: Callable[[], _Here], there: Callable[[], _There]) -> tuple[_Here, _There]:
    """What both return, the second run by a fork of this process meanwhile. A `GlanceError` of either is raised."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    helper = context.Process(target=_send, args=(receiver, sender, there))
    helper.start()
    sender.close()
    try:
        ours = here()
        try:
            theirs = receiver.recv()
        except EOFError:  # the fork was killed: what is wrong shows here
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
    receiver.close()  # or this would wait for itself to read, were the command killed
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        found = there()
    except GlanceError as error:
        found = error
    with suppress(BrokenPipeError):  # nobody waits for it any more
        sender.send(found)
