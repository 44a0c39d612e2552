"""Where a command finds the trained model that it was told of."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trainable.errors import CheckpointError
from trainable.files import is_remote, user_path
from trainable.storage.retry import CONTACT_SECONDS, persist
from trainable.storage.storage import open_storage
from trainable.storage.transfer import fetch_folder


@contextlib.contextmanager
def model_folder(place: str) -> Iterator[Path]:
    """The folder of a model, which one at an address is fetched to for as long as it is read.

    Raises `CheckpointError` where no model lies at the address.
    """
    if not is_remote(place):
        yield user_path(place)
        return
    storage = open_storage(place)
    keys = persist(storage.sizes, CONTACT_SECONDS)
    if "model.safetensors" not in keys:
        raise CheckpointError(
            f"--model must be the address of a model's folder, such as s3://bucket/results/demo/best, "
            f"but {storage.uri} has no model.safetensors."
        )
    with tempfile.TemporaryDirectory(prefix="glance-") as folder:
        fetch_folder(storage, Path(folder), keys)
        yield Path(folder)
