"""A storage in a folder, and one that fails."""

import random
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from trainable.storage.storage import Held, Moved, NoConnectionError, Storage, open_storage


class Flaky:
    """A storage of which a share of the calls fails, or all while `down`; calls can fail before or after they acted."""

    def __init__(self, inner: Storage, share: float = 0.0, seed: int = 0) -> None:
        self.uri = inner.uri
        self.inner = inner
        self.share = share
        self.down = threading.Event()
        self.calls: list[tuple[str, Any]] = []
        self._draw = random.Random(seed)
        self._lock = threading.Lock()

    def _do(self, verb: str, *arguments: Any) -> Any:
        with self._lock:
            before, after = self._draw.random() < self.share / 2, self._draw.random() < self.share / 2
            self.calls.append((verb, arguments[0] if arguments else None))
        if before or self.down.is_set():
            raise NoConnectionError("nobody answers")
        result = getattr(self.inner, verb)(*arguments)
        if after:
            raise NoConnectionError("the answer was lost")
        return result

    def put(self, key: str, data: bytes) -> None:
        self._do("put", key, data)

    def put_file(self, key: str, path: Path, moved: Moved | None = None) -> None:
        self._do("put_file", key, path, moved)

    def get(self, key: str) -> bytes:
        data: bytes = self._do("get", key)
        return data

    def get_file(self, key: str, path: Path) -> None:
        self._do("get_file", key, path)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        data: bytes = self._do("get_range", key, start, length)
        return data

    def sizes(self, prefix: str = "") -> dict[str, int]:
        sizes: dict[str, int] = self._do("sizes", prefix)
        return sizes

    def delete(self, keys: Collection[str]) -> None:
        self._do("delete", keys)

    def hold(self, key: str) -> Held | None:
        held: Held | None = self._do("hold", key)
        return held

    def create(self, key: str, data: bytes) -> bool:
        return bool(self._do("create", key, data))

    def replace(self, key: str, data: bytes, version: str) -> bool:
        return bool(self._do("replace", key, data, version))


@pytest.fixture
def make_flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Flaky]:
    """A storage below a folder `bucket` that fails so often; who waits for it waits milliseconds."""
    monkeypatch.setattr("trainable.storage.retry.FIRST_SECONDS", 0.001)
    monkeypatch.setattr("trainable.storage.retry.LONGEST_SECONDS", 0.01)
    return lambda share=0.0, seed=0: Flaky(open_storage((tmp_path / "bucket").as_uri()), share, seed)
