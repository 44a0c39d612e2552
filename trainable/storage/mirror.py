"""Keeps what lies in a folder in a storage, too: looks for what changed, and uploads it in the background."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from trainable.files import link_or_copy
from trainable.storage.pieces import GrowingFile
from trainable.storage.storage import Storage
from trainable.storage.trial_objects import OUTBOX
from trainable.storage.uploader import Job, Uploader

LOOK_SECONDS = 1.0
LOOK_SHARE = 0.05
"""Looking at all files takes at most this share of the time: with 10,000 trials it happens less often."""
GROWING = ("ledger.jsonl", "study.log")
"""Files that only grow, and without which a search cannot go on."""
GROWING_SECONDS = 2.0
"""Between two uploads of such a file: what is lost at most where the disk is, while the storage answers."""
OTHER_SECONDS = 30.0
"""Between two uploads of any other file."""
TOGETHER = {"best": ("best", "best.json")}
"""Files that are uploaded one after another, those of the first name before the second."""

Signature = tuple[int, int, int]


class Mirror:
    """Mirrors `folder` at `prefix`, without what lies below the paths in `without`, hidden files, and empty folders.

    A path is uploaded as it is when its turn comes, so however long that takes, nothing piles up. What is removed in
    the folder stays in the storage, until `remove` is called; only `best/` holds no more than the folder does.
    """

    def __init__(
        self,
        storage: Storage,
        prefix: str,
        folder: Path,
        uploader: Uploader,
        *,
        without: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._prefix = prefix
        self._folder = folder
        self._uploader = uploader
        self._without = frozenset(without)
        self._clock = clock
        self._growing: dict[str, GrowingFile] = {}
        self._seen: dict[str, Signature] = {}
        self._last: dict[str, float] = {}
        self._next_walk = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_until_ended, name="mirror", daemon=True)

    def start(self) -> None:
        """Look for changes from now on."""
        self._thread.start()

    def look(self, *, everything: bool = False) -> None:
        """Submit what changed and was not uploaded a moment ago; with `everything`, also what was."""
        now = self._clock()
        found = self._walk() if everything or now >= self._next_walk else self._growing_files()
        changed = {
            path: signature
            for path, signature in found.items()
            if self._seen.get(path) != signature and (everything or now >= self._due(path))
        }
        for path in sorted(changed, key=lambda path: path not in GROWING):
            self._submit(path)
            self._seen[path], self._last[path] = changed[path], now

    def remove(self, path: str) -> None:
        """Remove all that the storage holds below a path."""
        self._uploader.submit(f"remove {path}", _Removal(self._storage, f"{self._prefix}/{path}/"))

    def flush(self, timeout: float) -> list[str]:
        """Upload what changed, and wait for so many seconds at most; returns what is not uploaded then."""
        self.look(everything=True)
        return self._uploader.flush(timeout)

    def close(self, timeout: float, *, end: bool = True) -> list[str]:
        """Look no more, and do as `flush` does; with `end`, what is left is not uploaded any more."""
        self.stop()
        left = self.flush(timeout)
        if end or not left:
            self._uploader.close()
        return left

    def abandon(self) -> None:
        """Upload nothing any more, whatever waits."""
        self._ended.set()
        self._uploader.close()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look_until_ended(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            with contextlib.suppress(OSError):  # a folder may be replaced while it is read
                self.look()

    def _due(self, path: str) -> float:
        if path not in self._last:
            return 0.0
        return self._last[path] + (GROWING_SECONDS if path in GROWING else OTHER_SECONDS)

    def _walk(self) -> dict[str, Signature]:
        """Every file; the longer that takes, the later comes the next time."""
        began = self._clock()
        found = dict(self._below(""))
        self._next_walk = began + (self._clock() - began) / LOOK_SHARE
        return found

    def _growing_files(self) -> dict[str, Signature]:
        found = {}
        for path in GROWING:
            with contextlib.suppress(FileNotFoundError):
                found[path] = _signature((self._folder / path).stat())
        return found

    def _below(self, folder: str) -> Iterator[tuple[str, Signature]]:
        """Every file below a folder of the whole, such as `best/`; below all of it where that is empty."""
        try:
            entries = sorted(os.scandir(self._folder / folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in entries:
            path = folder + entry.name
            if entry.name.startswith(".") or path in self._without:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(f"{path}/")
            elif entry.is_file():
                with contextlib.suppress(FileNotFoundError):
                    yield path, _signature(entry.stat())

    def _submit(self, path: str) -> None:
        for name, together in TOGETHER.items():
            if path.split("/")[0] in together:
                self._uploader.submit(name, _Together(self, together))
                return
        self._uploader.submit(path, _File(self, path), first=path in GROWING)

    def upload(self, path: str) -> None:
        """Upload one file as it is now; one that is gone is passed over."""
        source = self._folder / path
        with contextlib.suppress(FileNotFoundError):
            if path in GROWING:
                file = self._growing.setdefault(path, GrowingFile(self._storage, f"{self._prefix}/{path}", source))
                file.send()
                return
            self._upload_version(source, f"{self._prefix}/{path}")

    def upload_together(self, names: tuple[str, ...]) -> None:
        """Upload files of these names or in folders of these names, in this order; others there are removed."""
        for name in names:
            paths = sorted(path for path, _ in self._below("") if path.split("/")[0] == name)
            for path in paths:
                self.upload(path)
            there = self._storage.sizes(f"{self._prefix}/{name}/")
            unwanted = there.keys() - {f"{self._prefix}/{path}" for path in paths}
            if unwanted:
                self._storage.delete(sorted(unwanted))

    def _upload_version(self, source: Path, key: str) -> None:
        """Upload a file under a second name of its own, so that it is one version even if it is replaced meanwhile."""
        link = self._folder / OUTBOX / uuid.uuid4().hex
        link.parent.mkdir(exist_ok=True)
        try:
            link_or_copy(source, link)
            self._storage.put_file(key, link)
        finally:
            link.unlink(missing_ok=True)


class _File(Job):
    def __init__(self, mirror: Mirror, path: str) -> None:
        self._mirror, self._path = mirror, path

    def run(self) -> None:
        self._mirror.upload(self._path)

    def discard(self) -> None:
        """It holds nothing."""


class _Together(Job):
    def __init__(self, mirror: Mirror, names: tuple[str, ...]) -> None:
        self._mirror, self._names = mirror, names

    def run(self) -> None:
        self._mirror.upload_together(self._names)

    def discard(self) -> None:
        """It holds nothing."""


class _Removal(Job):
    def __init__(self, storage: Storage, prefix: str) -> None:
        self._storage, self._prefix = storage, prefix

    def run(self) -> None:
        self._storage.delete(list(self._storage.sizes(self._prefix)))

    def discard(self) -> None:
        """It holds nothing."""


def _signature(status: os.stat_result) -> Signature:
    return status.st_ino, status.st_size, status.st_mtime_ns
