"""Stores in a bucket: put there whole, and fetched once by each node that uses them.

    <address>/manifest.json, {train,validation,test}.arrow     the files of a store as they are
    <cache>/store-<identity>/                                  the same on a node
    <cache>/.store-<identity>.lock                             held by the process that fetches it

A store in the cache is whole: it was written under another name, compared with its content hash, and renamed. The lock
is the kernel's, and goes with the process that holds it.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from trainable.data.progress import Watch, shown, size
from trainable.data.store import (
    MANIFEST_NAME,
    SPLITS,
    Manifest,
    Store,
    foreign_names,
    move_into_place,
    parse_manifest,
    stores_folder,
)
from trainable.errors import DataError, StorageError
from trainable.storage.probe import probe
from trainable.storage.retry import CONTACT_SECONDS, persist
from trainable.storage.storage import MissingObjectError, Storage, is_remote, open_storage
from trainable.storage.transfer import fetch_by_ranges

ARROW_FILES = tuple(f"{name}.arrow" for name in SPLITS)
_NO_LOCKS = (errno.ENOTSUP, errno.ENOLCK)


def identity(manifest: Manifest) -> str:
    """What tells a store from all others that train otherwise, wherever and whenever each was prepared."""
    parts = [manifest.version, manifest.dataset, manifest.content_hash, manifest.unseen_classes]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def reference(store: Store, data_path: str | None, desk: str) -> str:
    """What a node opens a store by: its path, or where the data lie in a bucket `<address>#<identity>@<desk>`.

    `desk` is the name of the actor that leads there, without whose help no node but the driver's has credentials.
    """
    if data_path is None or not is_remote(data_path):
        return str(store.path.resolve())
    return f"{data_path.rstrip('/')}#{identity(store.manifest)}@{desk}"


def split_reference(text: str) -> tuple[str, str, str]:
    """Address, identity and desk of a store in a bucket."""
    address, _, rest = text.rpartition("#")
    wanted, _, desk = rest.partition("@")
    return address, wanted, desk


def node_stores_folder() -> Path:
    """Where a node keeps what it fetched: $GLANCE_NODE_CACHE/stores, or among the stores that it prepares."""
    own = os.environ.get("GLANCE_NODE_CACHE")
    return Path(own).expanduser() / "stores" if own else stores_folder()


def kept_store(wanted: str) -> Store | None:
    """The store of an identity in this node's cache; None where it is not there, or damaged."""
    with contextlib.suppress(DataError):
        return Store.open(node_stores_folder() / f"store-{wanted}")
    return None


def fetch_store(
    address: str, wanted: str | None = None, *, watch: Watch = shown, patience: float = CONTACT_SECONDS
) -> Store:
    """The store at an address, from this node's cache; it is fetched there once, whoever asks.

    Nothing is asked of the bucket where the cache has the store of the identity `wanted`. `watch` shows the fetch, and
    a bucket that does not answer at first is asked for `patience` seconds.

    Raises `DataError` where there is no store, another one, a damaged one, or no room for it, and `StorageError` where
    the bucket cannot be read.
    """
    store = kept_store(wanted) if wanted is not None else None
    if store is not None:
        return store
    storage = open_storage(address)
    text = _read_manifest(storage, patience)
    while True:
        manifest = parse_manifest(storage.uri, text)
        if wanted not in (None, identity(manifest)):
            raise DataError(
                f"{storage.uri} must hold the store that the search began with, but another one lies there by now "
                f"(content hash {manifest.content_hash[:12]}). Put stores that differ at addresses that differ."
            )
        try:
            return _fetch_once(storage, text, identity(manifest), watch)
        except OSError as error:
            raise DataError(
                f"the store {storage.uri} must have a place in {node_stores_folder()}, but: "
                f"{error.strerror or error}. Let GLANCE_NODE_CACHE name a folder of another disk, or make room."
            ) from error
        except (DataError, StorageError):  # it may have been replaced meanwhile
            before, text = text, _read_manifest(storage, patience)
            if text == before:
                raise


def require_place(address: str) -> None:
    """Raise `DataError` where what lies at an address is no store, and `StorageError` where none can be put there."""
    storage = open_storage(address)
    foreign = foreign_names(persist(storage.sizes, CONTACT_SECONDS))
    if foreign:
        raise DataError(f"{storage.uri} must be a store or empty, but holds {foreign[0]}. Name another address.")
    probe(storage)


def upload_store(store: Store, address: str, *, watch: Watch = shown) -> None:
    """Put a store at an address, in place of one that lies there; the manifest comes last.

    Nothing is sent where the same store lies there already. Who fetches the one before meanwhile is told so, or gets
    the new one.
    """
    storage = open_storage(address)
    files = {name: (store.path / name).stat().st_size for name in (*ARROW_FILES, MANIFEST_NAME)}
    there = persist(storage.sizes, CONTACT_SECONDS)
    if files == {name: there.get(name) for name in files} and _is_same(storage, store):
        return
    persist(lambda: storage.delete([MANIFEST_NAME]))
    with watch(f"uploading {storage.uri}", sum(files.values())) as moved:
        for name in files:
            persist(lambda name=name: storage.put_file(name, store.path / name, moved))  # type: ignore[misc]


def _is_same(storage: Storage, store: Store) -> bool:
    try:
        return identity(parse_manifest(storage.uri, _read_manifest(storage))) == identity(store.manifest)
    except DataError:
        return False


def _read_manifest(storage: Storage, patience: float = CONTACT_SECONDS) -> str:
    try:
        return persist(lambda: storage.get(MANIFEST_NAME), patience).decode(errors="replace")
    except MissingObjectError as error:
        raise DataError(
            f"{storage.uri} must be a store with a {MANIFEST_NAME}, but has none. Put one there with glance-prepare "
            f"--out {storage.uri}."
        ) from error


def _fetch_once(storage: Storage, text: str, name: str, watch: Watch) -> Store:
    """Fetch a store unless another process of this node has done so, or is about to."""
    folder = node_stores_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f".store-{name}.lock") as alone:
        store = kept_store(name)
        if store is not None:
            return store
        if alone:
            for left in folder.glob(f".store-{name}.*.tmp"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        return _fetch(storage, text, folder / f"store-{name}", watch)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold a lock, once whoever holds it lets go or dies; says whether the file system has locks."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            yield False
        else:
            yield True


def _fetch(storage: Storage, text: str, target: Path, watch: Watch) -> Store:
    """Fetch a store beside its place, compare it with its hash, and rename it."""
    listed = persist(storage.sizes)
    missing = [name for name in ARROW_FILES if name not in listed]
    if missing:
        raise _damaged(storage, f"it has no {missing[0]}")
    sizes = {name: listed[name] for name in ARROW_FILES}
    _require_room(storage, sum(sizes.values()), target.parent)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir()
        with watch(f"fetching {storage.uri}", sum(sizes.values())) as moved:
            fetch_by_ranges(storage, sizes, temporary, moved)
        (temporary / MANIFEST_NAME).write_text(text, encoding="utf-8")
        _verify(storage, temporary)
        move_into_place(temporary, target, text)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Store.open(target)


def _verify(storage: Storage, folder: Path) -> None:
    try:
        Store.open(folder).verify()
    except DataError as error:
        raise _damaged(storage, "its images are not those that its manifest was written for") from error


def _require_room(storage: Storage, needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"the store {storage.uri} must fit on the disk of {folder}, but takes {size(needed)}, and {size(free)} are "
            "free. Make room, or let GLANCE_NODE_CACHE name a folder of another disk."
        )


def _damaged(storage: Storage, problem: str) -> DataError:
    return DataError(
        f"the store {storage.uri} is damaged: {problem}. Put it there again with glance-prepare --out {storage.uri}."
    )
