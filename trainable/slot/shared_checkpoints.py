"""Checkpoints that other trials may go on from: `<folder>/<trial_id>/<epoch>/`, each as a slot's `last/` was then.

To keep one costs next to nothing: its files are further names (hard links) of those in `last/`, which are replaced and
never written into. Where the file system has no hard links, they are copies.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainable.errors import CheckpointError
from trainable.files import link_or_copy


def keep(folder: Path, trial_id: str, epoch: int, last: Path) -> None:
    """Keep the checkpoint in `last`; one that is kept already is replaced."""
    _share(last, folder / trial_id / str(epoch))


def take(folder: Path, origin: Mapping[str, Any], last: Path) -> None:
    """Make the checkpoint of an `origin`, `{"trial_id", "epoch"}`, that in `last`; raises `CheckpointError`."""
    kept = folder / origin["trial_id"] / str(origin["epoch"])
    try:
        _share(kept, last)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"a trial that goes on from another must find its checkpoint of epoch {origin['epoch']}, but {kept} holds "
            "none: it was removed by hand, or lies on a disk that this node does not see. Begin a new search, and give "
            "all nodes one --storage."
        ) from error


def _share(source: Path, target: Path) -> None:
    """Give `target` the files of `source`, each whole or absent; raises `FileNotFoundError` where there are none."""
    files = [file for file in source.iterdir() if file.is_file() and not file.name.startswith(".")]
    if not files:
        raise FileNotFoundError(source)
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        _share_file(file, target / file.name)


def _share_file(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        link_or_copy(source, temporary)
        temporary.replace(target)  # of two names of one file it does nothing, and leaves both
    finally:
        temporary.unlink(missing_ok=True)
