"""Prepare a data set: decode it once into a store that every trial maps.

Training images that are pixel-identical to a validation or test image, and those of one flat colour, are dropped (and
counted in the manifest) unless asked otherwise. Evaluation splits stay whole, flat images included, so that figures
compare with published ones.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from trainable.data.affectnet import read_affectnet
from trainable.data.decoding import DecodedChunk, decode_all
from trainable.data.fer2013 import read_fer2013
from trainable.data.ferplus import read_ferplus
from trainable.data.fetched import fetch_store
from trainable.data.folder import read_folder
from trainable.data.progress import shown, unwatched
from trainable.data.source import BrokenRecord, PrepareOptions, Source
from trainable.data.spool import Spool, unwanted_for_training
from trainable.data.store import (
    SPLITS,
    STORE_VERSION,
    Store,
    check_replaceable,
    is_store,
    stores_folder,
    write_store,
)
from trainable.data.synthetic import read_synthetic
from trainable.errors import DataError, nearest
from trainable.files import user_path
from trainable.storage.storage import is_remote

Reader = Callable[[Path | None, PrepareOptions], Source]

NAMED_BROKEN = 3
"""How many broken rows or files a message names."""
_NOT_IN_STORES = ("sampler.py", "augmentation.py", "fetched.py", "progress.py")
_STALE_SECONDS = 24 * 3600


def _read_synthetic(data_path: Path | None, options: PrepareOptions) -> Source:
    if data_path is not None:
        raise DataError(
            f"the data set synthetic is drawn and takes no path, but got {data_path}. Leave out --data-path, or name "
            "the data set that lies there with --dataset."
        )
    train, validation, test = options.synthetic_sizes
    source = read_synthetic(
        train=train, validation=validation, test=test, seed=options.seed, image_size=options.image_size
    )
    return dataclasses.replace(source, channels=options.channels)


DATASETS: dict[str, Reader] = {
    "synthetic": _read_synthetic,
    "fer2013": read_fer2013,
    "ferplus": read_ferplus,
    "affectnet": read_affectnet,
    "folder": read_folder,
}
"""Name -> reader. A new data set is a reader in a file of its own, and a line here."""


def dataset_names() -> tuple[str, ...]:
    """The names that `prepare_store` takes."""
    return tuple(DATASETS)


def prepare_store(
    dataset: str,
    data_path: str | Path | None = None,
    *,
    out: str | Path | None = None,
    options: PrepareOptions | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Path:
    """Return the path of a data set's store, preparing it where it is not prepared yet.

    A `data_path` that is a store already is returned as it is, whatever `dataset` says, and one in a bucket as it was
    fetched to this machine. The store goes to `out`, or to the cache folder under a key of the options, the source's
    files (paths, sizes, times) and this code; one that was prepared from the same is used again. Images are decoded in
    `workers` processes (0: one per core). `progress` shows a bar on a terminal, lines elsewhere, on stderr; what was
    skipped as unreadable is said there in any case.

    Raises `DataError` where the data set is not known, not there, too damaged, or lacks images in a split.
    """
    if data_path is not None and is_remote(data_path):
        return fetch_store(str(data_path), watch=shown if progress else unwatched).path
    data_path = user_path(data_path) if data_path is not None else None
    if data_path is not None and is_store(data_path):
        return Store.open(data_path).path
    if dataset not in DATASETS:
        raise DataError(f"no data set is called {dataset!r}.{nearest(dataset, DATASETS)}")
    if workers < 0:
        raise DataError(f"workers >= 0 must hold (0: one per core), but got {workers}.")
    options = options or PrepareOptions()
    if options.min_vote_share != PrepareOptions.min_vote_share and dataset != "ferplus":
        raise DataError(f"--min-vote-share must go with the data set ferplus, which has votes, but got {dataset}.")
    try:
        source = DATASETS[dataset](data_path, options)
        key = _key(source, options)
        target = user_path(out) if out is not None else stores_folder() / f"{dataset}-{key[:16]}"
        if not _is_prepared(target, key):
            check_replaceable(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(stores_folder())
            _prepare(target, source, key, options, workers, progress)
    except OSError as error:
        raise DataError(f"{dataset} cannot be prepared: {error.filename or data_path}: {error.strerror}.") from error
    return target


def _key(source: Source, options: PrepareOptions) -> str:
    """Hash of what a store's content depends on: what was asked, the code that decodes, the files as they are now."""
    asked = [source.dataset, source.source, dataclasses.asdict(options), STORE_VERSION]
    digest = hashlib.sha256(json.dumps(asked).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        if file.name not in _NOT_IN_STORES:
            digest.update(file.read_bytes())
    for file in filter(Path.exists, source.files):  # a dangling link is a broken file, counted when it is decoded
        status = file.stat()
        digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _is_prepared(target: Path, key: str) -> bool:
    try:
        return Store.open(target).manifest.source.get("key") == key
    except DataError:
        return False


def _remove_stale(folder: Path) -> None:
    """Remove what interrupted writers left in the cache more than a day ago."""
    for entry in folder.glob(".*"):
        if entry.suffix in (".tmp", ".old") and time.time() - entry.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)


def _prepare(target: Path, source: Source, key: str, options: PrepareOptions, workers: int, progress: bool) -> None:
    """Decode into files beside the target, then write the store from maps of them."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent) as scratch:
        spools = {name: Spool(Path(scratch) / name) for name in SPLITS}
        chunks = decode_all(source.records, source.image_size, source.channels, workers=workers)
        broken, left_out = _fill(spools, _shown(chunks, source, progress), source, options.max_broken)
        _require_images(spools, source)
        masks = {} if options.keep_duplicates else unwanted_for_training(spools)
        train = spools["train"].take(~np.any(list(masks.values()), axis=0) if masks else None)
        _require_trained_classes(train.labels, source)
        splits = {"train": train, "validation": spools["validation"].take(), "test": spools["test"].take()}
        store = write_store(
            target,
            dataset=source.dataset,
            classes=source.classes,
            unseen_classes=source.unseen_classes,
            splits={name: (split.images, split.labels) for name, split in splits.items()},
            shares={name: split.shares for name, split in splits.items()},
            source=source.source | {"options": dataclasses.asdict(options), "key": key},
            dropped={"duplicate_of_evaluation": 0, "flat": 0, "broken": len(broken)}
            | {reason: int(mask.sum()) for reason, mask in masks.items()}
            | left_out,
        )
    if progress:
        images = sum(sum(split.values()) for split in store.manifest.counts.values())
        _say(f"prepared {source.dataset}: {images:,} images in {time.monotonic() - started:.1f} s")


def _require_trained_classes(labels: np.ndarray, source: Source) -> None:
    """Raise `DataError` where dropping images left a class without any to train on."""
    left = set(labels.tolist())
    lost = [n for i, n in enumerate(source.classes) if i not in left and n not in source.unseen_classes]
    if lost:
        raise DataError(
            f"every class must have training images, but {', '.join(lost)} has none left: all were broken, of one flat "
            "colour, or copies of validation or test images; mend the splits, or keep them by glance-prepare "
            "--keep-duplicates."
        )


def _fill(
    spools: Mapping[str, Spool], chunks: Iterator[DecodedChunk], source: Source, max_broken: int
) -> tuple[list[BrokenRecord], Counter[str]]:
    """Spool all chunks; returns what was broken, and why how many others were left out.

    Raises `DataError` once more than `max_broken` are broken.
    """
    broken: list[BrokenRecord] = []
    left_out: Counter[str] = Counter()
    for chunk in chunks:
        broken.extend(chunk.broken)
        left_out += chunk.left_out
        if len(broken) > max_broken:
            raise DataError(
                f"at most {max_broken} unreadable rows or files are skipped, but {_place(source)} has more: "
                f"{_named(broken)}. Mend them, or skip more by `glance-prepare --max-broken`."
            )
        for name, spool in spools.items():
            spool.add(chunk, name)
    if broken:
        _say(f"warning: skipped {len(broken)} unreadable of {_place(source)}: {_named(broken)}")
    return broken, left_out


def _require_images(spools: Mapping[str, Spool], source: Source) -> None:
    for name, spool in spools.items():
        if not len(spool):
            counts = ", ".join(f"{name}: {len(spool):,}" for name, spool in spools.items())
            raise DataError(
                f"every split must hold images, but the {name} split of {_place(source)} is empty ({counts})."
            )


def _place(source: Source) -> str:
    return str(source.source.get("path", source.dataset))


def _named(broken: list[BrokenRecord]) -> str:
    """The first few, named: "a.jpg: it has no image; b.jpg: …; and 7 more"."""
    named = [f"{record.origin}: {record.reason}" for record in broken[:NAMED_BROKEN]]
    more = len(broken) - len(named)
    return "; ".join(named + ([f"and {more} more"] if more else []))


def _shown(chunks: Iterator[DecodedChunk], source: Source, progress: bool) -> Iterator[DecodedChunk]:
    """Pass the chunks on under a progress bar, where someone is there to see it."""
    if progress and sys.stderr.isatty():
        return _under_bar(chunks, source)
    if progress:
        _say(f"preparing {source.dataset}" + (f": {source.total:,} images" if source.total else ""))
    return chunks


def _under_bar(chunks: Iterator[DecodedChunk], source: Source) -> Iterator[DecodedChunk]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"preparing {source.dataset}", total=source.total or None)
        for chunk in chunks:
            bar.advance(task, chunk.records)
            yield chunk


def _say(line: str) -> None:
    print(line, file=sys.stderr)
