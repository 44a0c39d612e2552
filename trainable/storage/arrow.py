"""Places that pyarrow's file systems reach (gs://, abfs://, hdfs://, file://), and through it those of fsspec."""

import hashlib
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from trainable.errors import StorageError
from trainable.storage.storage import (
    Held,
    MissingObjectError,
    Moved,
    NoBucketError,
    NoConnectionError,
    NoPermissionError,
)

BLOCK_BYTES = 1 << 22
OBJECT_STORES = ("gcs", "abfs", "s3")
"""pyarrow's names of file systems whose files appear whole when they are closed, and that have no folders to make."""


class ArrowStorage:
    """A `Storage` below any address that pyarrow or fsspec knows.

    Neither has conditional writes: `create` and `replace` look first, and two that do so at the same instant may both
    succeed.
    """

    def __init__(self, uri: str, files: fs.FileSystem | None = None) -> None:
        """`files` is the file system where the address alone does not give it; its root is then the address."""
        self.uri = uri.rstrip("/")
        self._files, root = (files, "") if files is not None else _connect(uri)
        self._root = root.rstrip("/")
        self._whole_at_once = self._files.type_name in OBJECT_STORES

    def put(self, key: str, data: bytes) -> None:
        """Write a small object."""
        with self._writing(key) as path, self._files.open_output_stream(path) as stream:
            stream.write(data)

    def put_file(self, key: str, path: Path, moved: Moved | None = None) -> None:
        """Write an object from a file, block by block."""
        with path.open("rb") as source, self._writing(key) as to, self._files.open_output_stream(to) as stream:
            while block := source.read(BLOCK_BYTES):
                stream.write(block)
                if moved is not None:
                    moved(len(block))

    def get(self, key: str) -> bytes:
        """Read a small object."""
        with self._telling(key), self._files.open_input_stream(self._path(key)) as stream:
            return bytes(stream.read())

    def get_file(self, key: str, path: Path) -> None:
        """Read an object into a file, block by block."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            stream = self._files.open_input_stream
            with self._telling(key), stream(self._path(key)) as source, temporary.open("wb") as target:
                while block := source.read(BLOCK_BYTES):
                    target.write(block)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part of an object."""
        with self._telling(key), self._files.open_input_file(self._path(key)) as stream:
            return bytes(stream.read_at(length, start))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Key -> bytes of each object whose key begins with `prefix`."""
        folder = self._path(prefix.rpartition("/")[0])
        with self._telling():
            if folder and self._files.get_file_info(folder).type == fs.FileType.File:
                return {}
            found = self._files.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        skipped = len(self._root) + 1 if self._root else 0
        keys = {info.path[skipped:]: int(info.size) for info in found if info.type == fs.FileType.File}
        return {key: size for key, size in keys.items() if key.startswith(prefix) and not _is_unfinished(key)}

    def delete(self, keys: Collection[str]) -> None:
        """Remove objects, one after another."""
        for key in keys:
            try:
                with self._telling(key):
                    self._files.delete_file(self._path(key))
            except MissingObjectError:
                continue

    def hold(self, key: str) -> Held | None:
        """A small object with its version, a hash of what it holds, and its age by this machine's clock."""
        try:
            data = self.get(key)
        except MissingObjectError:
            return None
        with self._telling(key):
            written = self._files.get_file_info(self._path(key)).mtime_ns
        age = time.time() - written / 1e9 if written else 0.0
        return Held(data, hashlib.sha256(data).hexdigest(), age)

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object unless there is one."""
        if self.hold(key) is not None:
            return False
        self.put(key, data)
        return self.get(key) == data

    def replace(self, key: str, data: bytes, version: str) -> bool:
        """Write a small object in place of the one of that version."""
        held = self.hold(key)
        if held is None or held.version != version:
            return False
        self.put(key, data)
        return self.get(key) == data

    def _path(self, key: str) -> str:
        return "/".join(part for part in (self._root, key) if part)

    @contextmanager
    def _writing(self, key: str) -> Iterator[str]:
        """The path to write to; what stands there at the end is moved to its place where that is not done already."""
        path = self._path(key)
        folder, _, name = path.rpartition("/")
        with self._telling(key):
            if self._whole_at_once:
                yield path
                return
            temporary = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp" if folder else f".{name}.{uuid.uuid4().hex}.tmp"
            if folder:
                self._files.create_dir(folder, recursive=True)
            yield temporary
            self._files.move(temporary, path)

    @contextmanager
    def _telling(self, key: str | None = None) -> Iterator[None]:
        """Turn what the file system raises into a `StorageError`."""
        where = f"{self.uri}/{key}" if key else self.uri
        try:
            yield
        except FileNotFoundError as error:
            raise MissingObjectError(f"{where} must exist, but does not.") from error
        except PermissionError as error:
            raise NoPermissionError(
                f"{where} must be open to these credentials for reading, writing, listing and deleting, but: {error}"
            ) from error
        except (ConnectionError, TimeoutError) as error:
            raise NoConnectionError(f"{where} must be reachable, but: {error}") from error
        except (OSError, pa.ArrowException) as error:
            raise _explain(str(error), where) from error


def _is_unfinished(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")


def _explain(message: str, where: str) -> StorageError:
    """The error that pyarrow only puts into words."""
    lower = message.lower()
    if "bucket" in lower and ("not found" in lower or "does not exist" in lower):
        return NoBucketError(f"{where} must lie in a bucket that exists, but: {message}")
    if any(word in lower for word in ("permission", "forbidden", "unauthorized", "access denied", "credentials")):
        return NoPermissionError(f"{where} must be open to these credentials, but: {message}")
    if any(word in lower for word in ("connect", "resolve", "timed out", "timeout", "network")):
        return NoConnectionError(f"{where} must be reachable, but: {message}")
    return StorageError(f"{where} must be usable, but: {message}")


def _connect(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path in it."""
    try:
        files, path = fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid:
        return _connect_fsspec(uri)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"an address must be one that pyarrow can open, but {uri}: {error}") from error
    return files, path


def _connect_fsspec(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(uri)
    except (ImportError, ValueError, OSError) as error:
        raise StorageError(
            f"an address must be one that pyarrow or an installed package of fsspec can open, but {uri}: {error}"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(files)), path
