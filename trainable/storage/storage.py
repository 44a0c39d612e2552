"""The few verbs by which everything here speaks to a bucket, and the errors that tell its troubles apart.

StorageError                   (`trainable.errors`)
├── NoConnectionError          nobody answers, or too late; most likely again later
├── ServerError                it answered that it cannot now; most likely again later
├── NoPermissionError          the credentials are missing, wrong, expired, or do not allow it
├── NoBucketError              there is no such bucket
├── WrongRegionError           the bucket lies in another region than was asked
└── MissingObjectError         there is no such object
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple, Protocol

from trainable.errors import StorageError
from trainable.files import is_remote as is_remote

Moved = Callable[[int], None]
"""Told of so many bytes more; by several threads at a time."""


class NoConnectionError(StorageError):
    """Nobody answers at the storage's address."""


class ServerError(StorageError):
    """The storage answers that it cannot serve now."""


class NoPermissionError(StorageError):
    """The storage refuses who asks."""


class NoBucketError(StorageError):
    """The bucket is not there."""


class WrongRegionError(StorageError):
    """The bucket lies elsewhere."""


class MissingObjectError(StorageError):
    """The object is not there."""


class Held(NamedTuple):
    """A small object as it was read."""

    data: bytes
    version: str
    """What `Storage.replace` compares; differs between any two contents."""
    age_seconds: float
    """How long ago it was written, by the storage's clock."""


class Storage(Protocol):
    """Objects by key below one address. A key is a relative path with slashes; an object is whole or absent.

    Each verb raises a `StorageError`, and may be called by several threads at a time.
    """

    uri: str
    """The address, without a slash at its end."""

    def put(self, key: str, data: bytes) -> None:
        """Write a small object."""
        ...

    def put_file(self, key: str, path: Path, moved: Moved | None = None) -> None:
        """Write an object from a file; `moved` is told of bytes as they are sent, by any thread."""
        ...

    def get(self, key: str) -> bytes:
        """Read a small object; raises `MissingObjectError`."""
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Read an object into a file, which is whole or absent; raises `MissingObjectError`."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read so many bytes of an object from `start` (0: its first byte) on; raises `MissingObjectError`."""
        ...

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Key -> bytes of each object whose key begins with `prefix`."""
        ...

    def delete(self, keys: Collection[str]) -> None:
        """Remove objects; one that is not there is no error."""
        ...

    def hold(self, key: str) -> Held | None:
        """A small object with its version and age; None where there is none."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object unless there is one; says whether it did."""
        ...

    def replace(self, key: str, data: bytes, version: str) -> bool:
        """Write a small object in place of the one of that version; False where another lies there by now."""
        ...


def open_storage(uri: str) -> Storage:
    """The storage at an address; nothing is sent yet. Raises `StorageError` for one that nobody here can read.

    s3:// goes through boto3, because its chain of credentials, its settings of endpoints and its error codes are those
    that people know; anything else through pyarrow, and through fsspec what pyarrow does not have.
    """
    if uri.startswith("s3://"):
        from trainable.storage.s3 import S3Storage

        return S3Storage(uri)
    from trainable.storage.arrow import ArrowStorage

    return ArrowStorage(uri)


def split_uri(uri: str) -> tuple[str, str]:
    """The address above an object or experiment, and its name: s3://bucket/results/demo gives demo."""
    parent, _, name = uri.rstrip("/").rpartition("/")
    if not name or parent.endswith(":/") or not is_remote(parent):
        raise StorageError(f"an experiment's address must be like s3://bucket/prefix/name, but got {uri!r}.")
    return parent, name
