"""How the trials of a search ended, whatever ended them: what ran is recovered and kept, an error put into words."""

import contextlib
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from search.driver import Search
from search.finish import keep_best, recover_undelivered
from search.ledger import LedgerWriter
from search.recorder import Recorder
from trainable.errors import ExperimentError, GlanceError


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM interrupt as Ctrl-C does.

    Ray, once it begins to connect, has a handler of its own instead, which exits without a word: that is taken for the
    same, and after it this can be entered again.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Broken:
    """An error that ended a search."""

    sentence: str
    exit_status: int
    """2 where a person can mend the cause, such as a full disk; else 1."""


@dataclass(frozen=True)
class Ending:
    """How the trials ended."""

    state: str
    """One of `search.ledger.SEARCH_STATES`."""
    broken: Broken | None = None


def conclude(search: Search, recorder: Recorder, ledger: LedgerWriter, error: BaseException | None) -> Ending:
    """Recover, keep and close what ran, each also where one before failed; `error` is what ended the trials, if any.

    An error's traceback goes to `log/ray.log`. Raises `KeyboardInterrupt` again.
    """
    steps = (
        lambda: recover_undelivered(recorder, search.experiment.checkpoints),
        lambda: keep_best(search, recorder),
        lambda: ledger.search_ended(_state(recorder, error)),
    )
    for step in steps:
        try:
            step()
        except Exception as failure:
            error = error or failure
    if isinstance(error, KeyboardInterrupt):
        raise error
    if error is None:
        return Ending(_state(recorder, None))
    log = search.experiment.log / "ray.log"
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return Ending("FAILED", explain(error, log))


def explain(error: BaseException, log: Path) -> Broken:
    """The error in one sentence; `log` is where its traceback stands."""
    cause = _cause(error)
    if isinstance(cause, GlanceError):
        return Broken(str(cause), 2)
    if isinstance(cause, OSError):
        return Broken(f"{_sentence(cause)} What ran is kept.", 2)
    first = (str(cause).strip().splitlines() or ["no message"])[0]
    return Broken(f"the search broke off by {type(cause).__name__}: {first}. See {log}. What ran is kept.", 1)


@contextlib.contextmanager
def files_usable() -> Iterator[None]:
    """Turn an `OSError` into an `ExperimentError`."""
    try:
        yield
    except OSError as error:
        raise ExperimentError(_sentence(error)) from error


def _sentence(error: OSError) -> str:
    file = f"{error.filename}: " if error.filename else ""
    return f"a search must be able to read and write its files, but got {file}{error.strerror or error}."


def _state(recorder: Recorder, error: BaseException | None) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "INTERRUPTED"
    return "FAILED" if error is not None else recorder.stop_state or "COMPLETED"


def _cause(error: BaseException) -> BaseException:
    """What lies under the errors that Tune wraps around it."""
    while not isinstance(error, GlanceError | OSError):
        wrapped = error.__cause__ or (error.__context__ if type(error).__name__ == "TuneError" else None)
        if wrapped is None:
            return error
        error = wrapped
    return error
