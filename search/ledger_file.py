"""The ledger as a file that others may hold, and that a writer may have left torn: its lock, and its last line."""

import errno
import fcntl
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from trainable.errors import ExperimentError

TORN_NAME = "ledger.torn"


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The event of a line of the ledger; None for a torn one."""
    try:
        event = orjson.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def lock(file: BinaryIO, path: Path) -> None:
    """Let no second search write to the ledger at `path`, open as `file`; raises `ExperimentError` where one does.

    A file system that has no locks is used without.
    """
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExperimentError(
            f"only one search may write to {path}, but another one holds it. "
            "Wait until that one ends, stop it, or choose another --name."
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK):
            raise


def mend_last_line(file: BinaryIO, path: Path) -> None:
    """Leave `file` ending in a whole line; a torn one is first appended to `ledger.torn`."""
    file.seek(0)
    content = file.read()
    end = content.rstrip(b"\n").rfind(b"\n") + 1
    last = content[end:]
    if not last:
        return
    if parse_line(last) is None:
        _set_aside(path.with_name(TORN_NAME), last)
        file.truncate(end)
    elif not last.endswith(b"\n"):
        file.write(b"\n")
    file.flush()
    os.fsync(file.fileno())


def _set_aside(path: Path, torn: bytes) -> None:
    with path.open("ab") as aside:
        aside.write(torn + b"\n")
        aside.flush()
        os.fsync(aside.fileno())


def plain(value: Any) -> Any:
    """A copy that strict JSON can hold: numpy scalars become Python's, tuples lists, paths text, nan and inf None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
