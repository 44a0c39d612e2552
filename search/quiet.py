"""Keeps the terminal for the search: what libraries print goes to a file."""

import contextlib
import errno
import io
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import TextIO


class Quiet:
    """While it lasts, file descriptors 1 and 2 lead to a log file; `terminal` is the standard output of before.

    Descriptors, not `sys.stdout` alone, because Ray also writes from C++. The file lies in `folder` under a temporary
    name until `keep` moves it; otherwise it is removed at the end.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f".{uuid.uuid4().hex}.log"
        self._kept = False
        self.terminal: TextIO = sys.stdout

    def keep(self, path: Path) -> None:
        """Move the log to `path`; what this process prints later is added there."""
        try:
            self._path.replace(path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _flush()
            shutil.copyfile(self._path, path)
            _point_descriptors(path)
            self._path.unlink()
        self._path, self._kept = path, True

    def say(self, text: str) -> None:
        """Print a line to the terminal, if it is still there."""
        with contextlib.suppress(OSError, ValueError):
            print(text, file=self.terminal)

    def __enter__(self) -> "Quiet":
        _flush()
        self._saved = os.dup(1), os.dup(2)
        self.terminal = io.TextIOWrapper(os.fdopen(os.dup(1), "wb", 0), "utf-8", write_through=True)
        _point_descriptors(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        _flush()
        for descriptor, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)
        self.terminal.close()
        if not self._kept:
            self._path.unlink(missing_ok=True)


def _point_descriptors(path: Path) -> None:
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _flush() -> None:
    """Write out what Python holds back; on a full disk it stays held back, and nothing else goes wrong."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
