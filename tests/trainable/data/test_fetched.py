"""Stores in a bucket of moto's server, and the cache of a node."""

import errno
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tests.s3_server import Proxy
from trainable.data import fetched
from trainable.data.fetched import (
    fetch_store,
    identity,
    kept_store,
    node_stores_folder,
    reference,
    require_place,
    split_reference,
    upload_store,
)
from trainable.data.preparation import prepare_store
from trainable.data.progress import Lines, unwatched
from trainable.data.store import Store, write_store
from trainable.errors import DataError
from trainable.storage import transfer
from trainable.storage.storage import Moved, NoBucketError, NoPermissionError, open_storage

ADDRESS = "s3://glance/stores/faces"


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transfer, "RANGE_BYTES", 10_000)
    monkeypatch.setenv("GLANCE_NODE_CACHE", str(tmp_path / "node"))


def write(path: Path, seed: int = 0, **more: Any) -> Store:
    rng = np.random.default_rng(seed)
    splits = {
        name: (rng.integers(0, 256, (count, 16, 16), dtype=np.uint8), np.arange(count) % 2)
        for name, count in (("train", 200), ("validation", 20), ("test", 20))
    }
    return write_store(path, dataset="faces", classes=("angry", "happy", "sad"), splits=splits, **more)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write(tmp_path / "prepared")


@pytest.fixture
def in_bucket(s3: Proxy, store: Store) -> Store:
    """A store that lies in the bucket, at `ADDRESS`."""
    upload_store(store, ADDRESS, watch=unwatched)
    s3.passed.clear()
    return store


@pytest.fixture
def there(tmp_path: Path, store: Store) -> str:
    """The address of a store that another protocol leads to."""
    address = (tmp_path / "shared").as_uri()
    upload_store(store, address, watch=unwatched)
    return address


def fetch(address: str, wanted: str | None = None, **more: Any) -> Store:
    return fetch_store(address, wanted, **{"watch": unwatched, **more})


def reads(s3: Proxy, name: str) -> int:
    return sum(method == "GET" and path.endswith(f"/{name}") for method, path in s3.passed)


def left_in_cache() -> list[str]:
    return sorted(path.name for path in node_stores_folder().iterdir() if not path.name.endswith(".lock"))


def test_what_is_fetched_is_what_was_put_there_and_is_fetched_once(in_bucket: Store, s3: Proxy) -> None:
    here = fetch(ADDRESS)

    assert here.manifest == in_bucket.manifest
    assert here.path.parent == node_stores_folder()
    here.verify()
    assert reads(s3, "train.arrow") >= 5
    s3.passed.clear()
    assert fetch(f"{ADDRESS}/").path == here.path
    assert [path for _, path in s3.passed] == ["/glance/stores/faces/manifest.json"]
    s3.go_down()
    assert fetch(ADDRESS, wanted=identity(in_bucket.manifest)).path == here.path


def test_other_addresses_serve_as_well(there: str, store: Store) -> None:
    assert fetch(there).manifest == store.manifest


def test_who_wants_it_at_the_same_time_waits_for_the_one_that_fetches(in_bucket: Store, s3: Proxy) -> None:
    barrier = threading.Barrier(4)

    def go(_: int) -> Store:
        barrier.wait()
        return fetch(ADDRESS)

    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(go, range(4)))

    assert len({store.path for store in stores}) == 1
    size = (in_bucket.path / "train.arrow").stat().st_size
    assert reads(s3, "train.arrow") == -(-size // transfer.RANGE_BYTES)


KILLED = """
import contextlib, sys, time
from trainable.data.fetched import fetch_store
@contextlib.contextmanager
def watch(title, total):
    print("fetching", flush=True)
    time.sleep(600)
    yield
fetch_store(sys.argv[1], watch=watch)
"""


def test_a_fetch_that_was_killed_blocks_nobody_and_leaves_nothing(in_bucket: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, ADDRESS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "fetching\n"
        half = left_in_cache()
        process.kill()
    assert len(half) == 1
    assert half[0].endswith(".tmp")

    assert fetch(ADDRESS).manifest == in_bucket.manifest
    assert left_in_cache() == [f"store-{identity(in_bucket.manifest)}"]


def test_an_object_that_is_not_what_the_manifest_says_is_refused(there: str) -> None:
    storage = open_storage(there)
    data = bytearray(storage.get("train.arrow"))
    data[len(data) // 2] ^= 1
    storage.put("train.arrow", bytes(data))

    with pytest.raises(DataError, match=f"the store {there} is damaged: its images are not those .* Put it there"):
        fetch(there)
    assert left_in_cache() == []


def test_a_store_that_lacks_a_file_is_refused(there: str) -> None:
    open_storage(there).delete(["test.arrow"])

    with pytest.raises(DataError, match=r"is damaged: it has no test\.arrow"):
        fetch(there)


def test_what_a_cache_lost_is_fetched_again(there: str, store: Store) -> None:
    (fetch(there).path / "test.arrow").unlink()

    assert kept_store(identity(store.manifest)) is None
    fetch(there).verify()


def replacing(address: str, other: Store) -> Callable[[str, int], AbstractContextManager[Moved]]:
    """Another store is put in place of the one that is about to be fetched, once."""
    once = iter([True])

    @contextmanager
    def watch(title: str, total: int) -> Iterator[Moved]:
        if next(once, False):
            upload_store(other, address, watch=unwatched)
        yield lambda moved: None

    return watch


def test_of_a_store_that_is_replaced_meanwhile_the_new_one_is_fetched(there: str, tmp_path: Path) -> None:
    other = write(tmp_path / "other", seed=1)

    assert fetch(there, watch=replacing(there, other)).manifest == other.manifest


def test_a_store_that_was_replaced_is_not_taken_for_the_one_that_is_wanted(
    there: str, store: Store, tmp_path: Path
) -> None:
    other = write(tmp_path / "other", seed=1)

    with pytest.raises(DataError, match="must hold the store that the search began with, but another one"):
        fetch(there, wanted=identity(store.manifest), watch=replacing(there, other))


def test_stores_of_the_same_images_that_hide_other_classes_are_two(store: Store, tmp_path: Path) -> None:
    hiding = write(tmp_path / "hiding", unseen_classes=("sad",))

    assert hiding.manifest.content_hash == store.manifest.content_hash
    assert identity(hiding.manifest) != identity(store.manifest)


def never(title: str, total: int) -> NoReturn:
    raise AssertionError("it must not be fetched")


def test_a_disk_without_room_is_told_before_anything_is_fetched(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(fetched.shutil, "disk_usage", lambda path: usage._replace(free=50_000))

    with pytest.raises(DataError, match=r"takes 6\d\.\d kB, and 50\.0 kB are free\. Make room, or let GLANCE_NODE"):
        fetch(there, watch=never)


def test_a_disk_that_fills_meanwhile_is_told(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetched, "fetch_by_ranges", full)

    with pytest.raises(DataError, match=r"No space left on device\. Let GLANCE_NODE_CACHE name"):
        fetch(there)
    assert left_in_cache() == []


def test_what_is_no_store_or_cannot_be_read_is_told(s3: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=f"must be a store with a manifest.json, but has none.*--out {ADDRESS}"):
        prepare_store("folder", ADDRESS)
    with pytest.raises(NoBucketError):
        fetch("s3://nosuchbucket/faces")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NoPermissionError):
        fetch(ADDRESS)


def test_a_store_is_sent_once_and_replaced_without_a_mixture(in_bucket: Store, s3: Proxy, tmp_path: Path) -> None:
    upload_store(in_bucket, ADDRESS, watch=unwatched)
    assert not any(method == "PUT" for method, _ in s3.passed)

    s3.passed.clear()
    upload_store(write(tmp_path / "other", seed=1), ADDRESS, watch=unwatched)
    changes = [f"{method} {path.rpartition('/')[2]}" for method, path in s3.passed if method in ("PUT", "POST")]
    assert changes[0] == "POST glance?delete"
    assert changes[1:] == ["PUT train.arrow", "PUT validation.arrow", "PUT test.arrow", "PUT manifest.json"]


def test_a_place_that_holds_something_else_is_left_alone(there: str) -> None:
    require_place(there)
    open_storage(there).put("notes.txt", b"")

    with pytest.raises(DataError, match=r"must be a store or empty, but holds notes\.txt"):
        require_place(there)


def test_a_reference_says_what_a_node_needs(store: Store) -> None:
    assert reference(store, None, "desk") == reference(store, "faces", "desk") == str(store.path)
    assert split_reference(reference(store, f"{ADDRESS}/", "desk")) == (ADDRESS, identity(store.manifest), "desk")


def test_the_cache_is_the_nodes_own_where_it_has_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLANCE_CACHE", str(tmp_path / "shared"))
    assert node_stores_folder() == tmp_path / "node" / "stores"
    monkeypatch.delenv("GLANCE_NODE_CACHE")
    assert node_stores_folder() == tmp_path / "shared" / "stores"


def test_progress_is_a_line_at_the_beginning_and_every_ten_seconds() -> None:
    said: list[str] = []
    now = [0.0]
    lines = Lines("fetching x", 4_000_000_000, said.append, lambda: now[0])
    for second in (4.0, 8.0, 10.0, 12.0, 20.0):
        now[0] = second
        lines(500_000_000)

    assert said == [
        "fetching x (4.0 GB)",
        "fetching x: 38% of 4.0 GB, 150.0 MB/s",
        "fetching x: 62% of 4.0 GB, 125.0 MB/s",
    ]
