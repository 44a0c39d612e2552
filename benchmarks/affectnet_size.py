"""A data set of AffectNet's layout and size: how long it takes to prepare, and how much memory; then some training.

    python benchmarks/affectnet_size.py --folder FOLDER

Draws synthetic faces, moves and tints them, varies the JPEGs of 224 x 224 pixels in their quantisation tables until
there are as many distinct ones as AffectNet has, and writes them with their annotations into a new folder within
`--folder`, which is removed at the end. They are prepared as
`--dataset affectnet` does, and a small tower trains one epoch of some steps that streams from the store's map. Each
step runs in a process of its own; the peak is the sum over it and its children. What is mapped from files is counted
apart, for the system takes it back where memory is short. Prints a table and, as the last line, one JSON object.
"""

import argparse
import io
import itertools
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from search.experiment import hardware, versions
from trainable.config import TrialConfig
from trainable.data.affectnet import CLASSES
from trainable.data.decoding import decode_image, default_workers
from trainable.data.preparation import prepare_store
from trainable.data.source import PrepareOptions, Record
from trainable.data.store import Store
from trainable.data.synthetic import read_synthetic
from trainable.errors import run_command
from trainable.training.device_data import DeviceData
from trainable.training.trainer import Trainer

SIZES = {"train_set": 286_000, "val_set": 4_000}
PICTURE_SIZE, DRAWN_SIZE = 224, 48
FACES, PICTURES = 280, 4000
"""Faces that are drawn, and pictures that are made of them; all others vary one of these."""
VARIED_STEPS = 10
SAMPLED_SECONDS = 0.5
FREE_GIB = 30
"""What the folder must have free: pictures, what is decoded, and the store."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="A data set of AffectNet's layout and size, prepared and trained on.")
    add = parser.add_argument
    add("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where pictures and store go meanwhile")
    add("--images", type=int, default=SIZES["train_set"], help="training pictures (default: %(default)s)")
    add("--image-size", type=int, default=96, help="of the store (default: %(default)s)")
    add("--channels", type=int, default=3, choices=(1, 3), help="of the store (default: %(default)s)")
    add("--steps", type=int, default=100, help="of the epoch that is trained (default: %(default)s)")
    return run_command(lambda: _measure(parser.parse_args(argv)))


def _measure(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="affectnet-size-", dir=arguments.folder) as folder:
        if shutil.disk_usage(folder).free < FREE_GIB * 2**30:
            print(f"error: {folder} must have {FREE_GIB} GiB free", file=sys.stderr)
            return 2
        root, store = Path(folder) / "data", Path(folder) / "store"
        options = PrepareOptions(image_size=arguments.image_size, channels=arguments.channels)
        steps: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            "generate": (generate, (root, SIZES | {"train_set": arguments.images})),
            "prepare": (_prepare, (root, store, options)),
            "open again": (_prepare, (root, store, options)),
            "train": (_train, (store, arguments.steps)),
        }
        results = {name: _watched(run, *given) for name, (run, given) in steps.items()}
    table = Table("step", "seconds", "peak memory, GiB", "of files mapped, GiB", "")
    for name, (seconds, own, mapped, said) in results.items():
        table.add_row(name, f"{seconds:.1f}", f"{own / 2**30:.2f}", f"{mapped / 2**30:.2f}", said)
    Console().print(table)
    print(json.dumps({"steps": results, "hardware": hardware(), "versions": versions()}))
    return 0


def generate(root: Path, sizes: dict[str, int]) -> str:
    """Write a data set in the published layout; returns what it is."""
    pictures, annotations, written = _pictures(), [_annotation(label) for label in range(len(CLASSES))], 0
    for offset, (name, size) in zip((0, 1 << VARIED_STEPS - 1), sizes.items(), strict=True):
        images, labels = root / name / "images", root / name / "annotations"
        images.mkdir(parents=True)
        labels.mkdir()
        for number in range(size):
            variant, picture = divmod(number, len(pictures))
            written += (images / f"{number}.jpg").write_bytes(_varied(pictures[picture], offset + variant))
            (labels / f"{number}_exp.npy").write_bytes(annotations[number % len(CLASSES)])
    return f"{sum(sizes.values()):,} JPEGs, {written / 2**30:.1f} GiB"


def _pictures() -> list[bytes]:
    """JPEGs of drawn faces, each moved and tinted anew."""
    source = read_synthetic(train=FACES, validation=7, test=7, seed=0, image_size=DRAWN_SIZE)
    drawn = itertools.islice((record for record in source.records if isinstance(record, Record)), FACES)
    faces = [decode_image(record.image, PICTURE_SIZE, 1) for record in drawn]
    rng, pictures = np.random.default_rng(0), []
    for number in range(PICTURES):
        face = np.roll(faces[number % FACES], tuple(rng.integers(-16, 17, 2)), axis=(0, 1))
        grain = rng.integers(0, 12, (PICTURE_SIZE, PICTURE_SIZE, 1))
        tinted = face[:, :, None] * rng.uniform(0.6, 0.95, 3) + grain
        sink = io.BytesIO()
        Image.fromarray(tinted.astype(np.uint8)).save(sink, "JPEG", quality=85)
        pictures.append(sink.getvalue())
    return pictures


def _varied(jpeg: bytes, variant: int) -> bytes:
    """The picture with its finer structure a little stronger, by `variant`'s bits in its quantisation table."""
    table = jpeg.index(b"\xff\xdb") + 6  # after the marker, the length, the table's number, and the step of the mean
    steps = [step + (variant >> bit & 1) for bit, step in enumerate(jpeg[table : table + VARIED_STEPS])]
    return jpeg[:table] + bytes(steps) + jpeg[table + VARIED_STEPS :]


def _annotation(label: int) -> bytes:
    sink = io.BytesIO()
    np.save(sink, str(label))
    return sink.getvalue()


def _prepare(root: Path, store: Path, options: PrepareOptions) -> str:
    prepare_store("affectnet", root, out=store, options=options)
    manifest = Store.open(store).manifest
    counts = ", ".join(f"{sum(counts.values()):,} {split}" for split, counts in manifest.counts.items())
    return f"{counts}; dropped {manifest.dropped}"


def _train(store: Path, steps: int) -> str:
    torch.set_num_threads(default_workers())
    config = TrialConfig(epoch_samples=steps * TrialConfig().batch_size, max_epochs=1)
    report = Trainer(config, DeviceData(Store.open(store), torch.device("cpu"))).train_epoch()
    return f"{steps} steps of {config.batch_size}: {report['images_per_second']:.0f} images/s"


def _watched(run: Callable[..., Any], *given: Any) -> tuple[float, int, int, str]:
    """Run a function in a process of its own: seconds, peak bytes of memory and of mapped files, what it said."""
    peaks, done = [0, 0], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLED_SECONDS):
            peaks[:] = map(max, peaks, _memory(os.getpid(), own=False))

    watcher = threading.Thread(target=watch)
    started = time.monotonic()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        watcher.start()
        try:
            said = pool.submit(run, *given).result()
        finally:
            done.set()
            watcher.join()
    return time.monotonic() - started, peaks[0], peaks[1], said


def _memory(process: int, *, own: bool = True) -> tuple[int, int]:
    """Bytes of anonymous and of file-backed memory of a process's descendants, and of itself where asked."""
    totals = [0, 0]
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        children = Path(f"/proc/{process}/task").glob("*/children")
        below = [int(child) for listed in children for child in listed.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    if own:
        totals = [int(status.get(field, "0 kB").split()[0]) << 10 for field in ("RssAnon", "RssFile")]
    for child in below:
        totals = [mine + its for mine, its in zip(totals, _memory(child), strict=True)]
    return totals[0], totals[1]


if __name__ == "__main__":
    sys.exit(main())
