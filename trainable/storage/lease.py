"""Who may write to an experiment in a storage: one search at a time, as far as the storage can tell."""

import contextlib
import json
import os
import platform
import threading
import uuid
from collections.abc import Callable
from typing import Any

from trainable.errors import StorageError
from trainable.storage.retry import CONTACT_SECONDS, persist
from trainable.storage.storage import Storage

LEASE_NAME = "lease.json"
RENEW_SECONDS = 20.0
STALE_SECONDS = 120.0
"""A search that gave no sign for so long, by the storage's clock, is taken for dead."""


class Lease:
    """Held by this process from construction to `release`, renewed by a thread.

    Raises `StorageError` where another search holds it: one that gave a sign within `STALE_SECONDS`, unless it ran on
    this machine and its process is gone. `lost` is called once, where another search took it, which can only be after
    the storage did not answer here for that long.
    """

    def __init__(self, storage: Storage, key: str, lost: Callable[[str], None]) -> None:
        self._storage = storage
        self._key = key
        self._lost = lost
        self._owner = {"id": uuid.uuid4().hex, "host": platform.node(), "pid": os.getpid()}
        self._signs = 0
        self._ended = threading.Event()
        self.held = True
        persist(self._acquire)
        self._version = self._read_version()
        self._thread = threading.Thread(target=self._renew_until_ended, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let others have it; where that cannot be told, it grows stale."""
        self._ended.set()
        self._thread.join(RENEW_SECONDS)
        with contextlib.suppress(StorageError):
            persist(self._give_up, CONTACT_SECONDS)
        self.held = False

    def _give_up(self) -> None:
        if self.held and self._is_mine():
            self._storage.delete([self._key])

    def renew(self) -> None:
        """Give a sign; raises `StorageError` where nobody answers."""
        if self._storage.replace(self._key, self._document(), self._version) or self._is_mine():
            self._version = self._read_version()
            return
        self.held = False
        self._ended.set()
        self._lost(f"another search has taken {self._storage.uri}/{self._key.rpartition('/')[0]}")

    def _acquire(self) -> None:
        if self._storage.create(self._key, self._document()):
            return
        held = self._storage.hold(self._key)
        if held is None:
            self._acquire()
            return
        owner = _parse(held.data)
        if owner.get("id") == self._owner["id"]:
            return
        if held.age_seconds < STALE_SECONDS and not _is_gone(owner):
            raise StorageError(
                f"only one search may write to {self._storage.uri}/{self._key.rpartition('/')[0]}, but one on "
                f"{owner.get('host')} (process {owner.get('pid')}) gave a sign {held.age_seconds:.0f} s ago. Wait "
                f"until it ends, or where it died until it has been silent for {STALE_SECONDS:.0f} s."
            )
        if not self._storage.replace(self._key, self._document(), held.version):
            self._acquire()

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with contextlib.suppress(StorageError):
                self.renew()

    def _document(self) -> bytes:
        self._signs += 1
        return json.dumps({**self._owner, "signs": self._signs}).encode()

    def _is_mine(self) -> bool:
        held = self._storage.hold(self._key)
        return held is not None and _parse(held.data).get("id") == self._owner["id"]

    def _read_version(self) -> str:
        held = persist(lambda: self._storage.hold(self._key))
        return held.version if held else ""


def _parse(data: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(data)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether the owner ran on this machine and runs no more."""
    if owner.get("host") != platform.node() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
