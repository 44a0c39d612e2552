"""An experiment of a storage in a folder of this machine: fetched to be read, or to be gone on with."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainable.errors import ExperimentError, StorageError
from trainable.files import write_atomically
from trainable.storage.mirror import GROWING
from trainable.storage.pieces import read_growing
from trainable.storage.retry import CONTACT_SECONDS, persist
from trainable.storage.storage import MissingObjectError, Storage, open_storage, split_uri

MANIFEST = "experiment.json"
LEDGER = "ledger.jsonl"
READ = (MANIFEST, "best.json", "best/evaluation.json", "confirmation.json", "failures")
"""What a report is made of, beside the ledger."""
THREADS = 16


def read_manifest(storage: Storage, name: str) -> bytes:
    """`experiment.json` of an experiment; raises `ExperimentError` where there is none."""
    try:
        return persist(lambda: storage.get(f"{name}/{MANIFEST}"), CONTACT_SECONDS)
    except MissingObjectError as error:
        raise ExperimentError(
            f"an experiment must have an {MANIFEST}, but {storage.uri}/{name} has none. Give the address of one "
            "search, such as s3://bucket/results/demo."
        ) from error


def fetch_to_read(uri: str, folder: Path) -> None:
    """Put what a report needs of the experiment at an address into a folder; raises `ExperimentError`."""
    parent, name = split_uri(uri)
    storage = open_storage(parent)
    read_manifest(storage, name)
    wanted = [path for path in _paths(storage, name) if any(_is_below(path, read) for read in READ)]
    _fetch(storage, name, folder, wanted)
    _fetch_growing(storage, name, folder, (LEDGER,))


def bring_up_to_date(storage: Storage, name: str, folder: Path, without: Collection[str]) -> None:
    """Make a folder of this machine the working copy of an experiment, to go on with it.

    Where the folder's ledger goes on where the storage's ends, the folder is newer: what had not been uploaded when the
    search ended. Where it is the other way round, the search went on elsewhere. Files below `without` are left alone.
    Raises `ExperimentError` where neither holds.
    """
    read_manifest(storage, name)
    remote = _whole_lines(_read_ledger(storage, name))
    path = folder / LEDGER
    local = _whole_lines(path.read_bytes()) if path.exists() else b""
    if not (local.startswith(remote) or remote.startswith(local)):
        raise ExperimentError(
            f"{folder} must be a copy of {storage.uri}/{name}, older or newer, but each has events that the other has "
            "not: two searches wrote to it. Move that folder away to go on from the storage."
        )
    newer_here = len(local) > len(remote)
    skipped = (*without, *GROWING)
    paths = [path for path in _paths(storage, name) if not any(_is_below(path, skip) for skip in skipped)]
    _fetch(storage, name, folder, [path for path in paths if not (newer_here and (folder / path).exists())])
    if not newer_here:
        _fetch_growing(storage, name, folder, GROWING)


def _read_ledger(storage: Storage, name: str) -> bytes:
    try:
        return read_growing(storage, f"{name}/{LEDGER}")
    except MissingObjectError:
        return b""


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _paths(storage: Storage, name: str) -> list[str]:
    """What lies in an experiment, without the pieces of growing files and without what trials keep."""
    keys = [key.removeprefix(f"{name}/") for key in persist(lambda: storage.sizes(f"{name}/"))]
    return [key for key in keys if not key.startswith(GROWING)]


def _is_below(path: str, skip: str) -> bool:
    return path == skip or path.startswith(f"{skip}/")


def _fetch(storage: Storage, name: str, folder: Path, paths: Collection[str]) -> None:
    def fetch(path: str) -> None:
        persist(lambda: storage.get_file(f"{name}/{path}", folder / path))

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(fetch, path) for path in paths]:
            try:
                done.result()
            except MissingObjectError:
                continue  # replaced, or removed, since it was listed


def _fetch_growing(storage: Storage, name: str, folder: Path, names: Collection[str]) -> None:
    for path in names:
        try:
            data = read_growing(storage, f"{name}/{path}")
        except MissingObjectError:
            continue
        except StorageError as error:
            raise ExperimentError(str(error)) from error
        write_atomically(folder / path, lambda temporary, data=data: temporary.write_bytes(data))  # type: ignore[misc]
