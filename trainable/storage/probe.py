"""Whether a storage can be used as a search uses it."""

import platform
import uuid

from trainable.errors import StorageError
from trainable.storage.storage import Storage


def probe(storage: Storage) -> None:
    """Write, read, list and delete an object; raises a `StorageError` that says which of these fails, and why."""
    key = f".probe-{platform.node()}-{uuid.uuid4().hex}"
    what = "written to"
    try:
        storage.put(key, b"probe")
        what = "read"
        data = storage.get(key)
        what = "listed"
        found = storage.sizes(key)
        what = "deleted from"
        storage.delete([key])
        left = storage.sizes(key)
    except StorageError as error:
        raise type(error)(f"{storage.uri} must be usable, but cannot be {what}: {error}") from error
    if data != b"probe" or key not in found or left:
        raise StorageError(
            f"{storage.uri} must give back at once what was written, and forget what was deleted, but does not. Choose "
            "another --storage."
        )
