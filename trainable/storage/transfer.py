"""Many bytes from a storage into files: large objects by ranges, many at a time; and what a command reads there."""

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from trainable.errors import StorageError
from trainable.storage.retry import CONTACT_SECONDS, persist
from trainable.storage.storage import Moved, Storage, open_storage, split_uri

RANGE_BYTES = 1 << 23
"""Of one request: S3's guide to its performance names 8 to 16 MB as typical."""
THREADS = 16


def fetch_by_ranges(storage: Storage, sizes: Mapping[str, int], folder: Path, moved: Moved) -> None:
    """Read whole objects (key -> bytes, as `Storage.sizes` has them) into files of a folder, named by their keys.

    A range that fails for a passing reason is read again, for as long as `persist` does. Where this raises, what lies
    in the folder is of no use.
    """
    given_up = threading.Event()

    def fetch(key: str, start: int, length: int) -> None:
        data = persist(lambda: storage.get_range(key, start, length), given_up=given_up)
        if len(data) != length:
            raise StorageError(f"{storage.uri}/{key} must stay as it is while it is read, but became shorter.")
        with (folder / key).open("r+b") as file:
            file.seek(start)
            file.write(data)
        moved(length)

    ranges = []
    for key, size in sizes.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()
        ranges += [(key, start, min(RANGE_BYTES, size - start)) for start in range(0, size, RANGE_BYTES)]
    _do_all(fetch, ranges, given_up)


def fetch_folder(storage: Storage, folder: Path, keys: Collection[str], prefix: str = "") -> None:
    """Put objects into a folder, under their keys without `prefix`."""
    given_up = threading.Event()

    def fetch(key: str) -> None:
        persist(lambda: storage.get_file(key, folder / key.removeprefix(prefix)), given_up=given_up)

    _do_all(fetch, [(key,) for key in keys], given_up)


def read_object(uri: str) -> bytes:
    """A small object by its address."""
    parent, name = split_uri(uri)
    storage = open_storage(parent)
    return persist(lambda: storage.get(name), CONTACT_SECONDS)


def _do_all(action: Callable[..., None], arguments: Collection[tuple[object, ...]], given_up: threading.Event) -> None:
    """Do something with each of some arguments, many at a time; the first error ends all."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        done, _ = wait([pool.submit(action, *each) for each in arguments], return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    finally:
        given_up.set()
        pool.shutdown(cancel_futures=True)
