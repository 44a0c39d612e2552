"""Large objects by ranges, many at a time, from storages that fail."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.s3_server import Proxy
from trainable.errors import StorageError
from trainable.storage import transfer
from trainable.storage.storage import MissingObjectError, NoBucketError, NoConnectionError, Storage, open_storage
from trainable.storage.transfer import fetch_by_ranges, fetch_folder, read_object

SIZES = {"large": 10_001, "folder/exact": 4_000, "small": 3, "empty": 0}


@pytest.fixture(autouse=True)
def ranges_of_a_thousand_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RANGE_BYTES", 1000)


class Count:
    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()

    def __call__(self, moved: int) -> None:
        with self._lock:
            self.bytes += moved


def fill(storage: Storage) -> dict[str, bytes]:
    contents = {key: os.urandom(size) for key, size in SIZES.items()}
    for key, data in contents.items():
        storage.put(key, data)
    return contents


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_arrives_is_what_lies_there_though_requests_fail(s3: Proxy, tmp_path: Path) -> None:
    storage, count = open_storage("s3://glance/data"), Count()
    contents = fill(storage)
    s3.share = 0.4
    s3.passed.clear()
    fetch_by_ranges(storage, storage.sizes(), tmp_path, count)

    assert read(tmp_path) == contents
    assert count.bytes == sum(SIZES.values())
    assert sum(path.endswith("/large") for _, path in s3.passed) >= 11
    assert s3.failed > 0


def test_other_storages_are_read_by_ranges_too(make_flaky: Callable[..., Storage], tmp_path: Path) -> None:
    storage, count = make_flaky(0.2), Count()
    contents = fill(storage.inner)  # type: ignore[attr-defined]
    fetch_by_ranges(storage, SIZES, tmp_path / "here", count)

    assert read(tmp_path / "here") == contents
    assert count.bytes == sum(SIZES.values())


def test_an_object_that_shrank_or_went_is_told(make_flaky: Callable[..., Storage], tmp_path: Path) -> None:
    storage = make_flaky()
    fill(storage)

    with pytest.raises(StorageError, match="large must stay as it is while it is read, but became shorter"):
        fetch_by_ranges(storage, {"large": 20_000}, tmp_path / "here", lambda moved: None)
    with pytest.raises(MissingObjectError):
        fetch_by_ranges(storage, {"gone": 5, "large": 10_001}, tmp_path / "here", lambda moved: None)


def test_a_folder_is_fetched_without_its_prefix(s3: Proxy, tmp_path: Path) -> None:
    storage = open_storage("s3://glance/data")
    contents = fill(storage)
    fetch_folder(storage, tmp_path, ["folder/exact"], "folder/")

    assert read(tmp_path) == {"exact": contents["folder/exact"]}


def test_a_command_reads_an_object_by_its_address_and_does_not_wait_long(
    s3: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CONTACT_SECONDS", 0.1)
    contents = fill(open_storage("s3://glance/data"))

    assert read_object("s3://glance/data/small") == contents["small"]
    with pytest.raises(NoBucketError):
        read_object("s3://nosuchbucket/data/small")
    s3.go_down()
    with pytest.raises(NoConnectionError):
        read_object("s3://glance/data/small")
