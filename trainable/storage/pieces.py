"""Files that only grow, in a storage that cannot append: pieces of a fixed size, of which only the last is sent again.

ledger.jsonl, ledger.jsonl.00001, ledger.jsonl.00002 …     together the file
"""

from pathlib import Path

from trainable.errors import StorageError
from trainable.storage.retry import persist
from trainable.storage.storage import MissingObjectError, Storage

PIECE_BYTES = 1 << 23
"""What a change of one line costs at most; a file of 1 GB has 120 pieces."""
READ_ATTEMPTS = 5


class GrowingFile:
    """Sends what came to a file since the last time."""

    def __init__(self, storage: Storage, key: str, path: Path) -> None:
        self._storage = storage
        self._key = key
        self._path = path
        self._sent: int | None = None

    def send(self) -> None:
        """Send the file as it is now. The first time all of it, in place of whatever lies there."""
        size = self._path.stat().st_size
        first = 0 if self._sent is None else min(self._sent, size) // PIECE_BYTES
        with self._path.open("rb") as file:
            for number in range(first, max(1, -(-size // PIECE_BYTES))):
                file.seek(number * PIECE_BYTES)
                self._storage.put(piece_key(self._key, number), file.read(min(PIECE_BYTES, size - file.tell())))
        if self._sent is None or size < self._sent:
            self._remove_after(size)
        self._sent = size

    def _remove_after(self, size: int) -> None:
        last = max(1, -(-size // PIECE_BYTES)) - 1
        wanted = {piece_key(self._key, number) for number in range(last + 1)}
        there = piece_keys(self._storage, self._key)
        self._storage.delete([key for key in there if key not in wanted])


def piece_key(key: str, number: int) -> str:
    """The key of a piece, counted from 0."""
    return f"{key}.{number:05d}" if number else key


def piece_keys(storage: Storage, key: str) -> list[str]:
    """The keys of all pieces of a file, in order."""
    names = [name for name in storage.sizes(key) if name == key or name.removeprefix(f"{key}.").isdecimal()]
    return sorted(names)


def read_growing(storage: Storage, key: str) -> bytes:
    """A whole file from its pieces; raises `MissingObjectError` where there are none.

    Waits for a storage that does not answer. A piece that was not full yet when it was read, although another follows
    by now, is read again.
    """
    for _ in range(READ_ATTEMPTS):
        keys = persist(lambda: piece_keys(storage, key))
        if not keys or keys[0] != key:
            raise MissingObjectError(f"{storage.uri}/{key} must exist, but does not.")
        pieces = [persist(lambda name=name: storage.get(name)) for name in keys]  # type: ignore[misc]
        whole = all(len(piece) == PIECE_BYTES for piece in pieces[:-1])
        if whole and keys == [piece_key(key, number) for number in range(len(keys))]:
            return b"".join(pieces)
    raise StorageError(f"the pieces of {storage.uri}/{key} must be whole and follow each other, but are not.")
