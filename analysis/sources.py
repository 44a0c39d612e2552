"""Experiments by folder or address."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.files import user_path
from trainable.storage.storage import is_remote
from trainable.storage.working_copy import fetch_to_read

if TYPE_CHECKING:
    from analysis.frames import Experiment


@contextmanager
def opened(place: str | Path, load: "Callable[[Path, str], Experiment] | None" = None) -> "Iterator[Experiment]":
    """The experiment of a folder, or of an address; of that a copy is read, which is gone afterwards.

    `load` is `analysis.frames.load_experiment` unless given. Raises `ExperimentError` where there is none, and
    `StorageError` where the address cannot be reached.
    """
    if load is None:
        from analysis.frames import load_experiment

        load = load_experiment
    if not is_remote(place):
        yield load(user_path(place), "")
        return
    with tempfile.TemporaryDirectory(prefix="glance-") as temporary:
        fetch_to_read(str(place), Path(temporary))
        yield load(Path(temporary), str(place).rstrip("/"))
