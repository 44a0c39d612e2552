"""Records become uint8 arrays: one image at a time, in chunks, in as many processes as there are cores."""

import io
import itertools
import math
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from trainable.data.source import AnyRecord, BrokenRecord, LeftOut, Record
from trainable.errors import DataError

CHUNK_RECORDS = 512
CHUNK_BYTES = 1 << 23
MAX_WORKERS = 16
FLAT_LEVELS = 4
"""Range of the levels (of 255) in each channel of an image of one colour: JPEG does not keep a flat one quite flat."""
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True, kw_only=True)
class DecodedChunk:
    """The images of some records, with what preparing needs to know of each; N records were not broken."""

    splits: list[str]
    """Split of each image, N."""
    labels: np.ndarray
    """(N,) int64."""
    shares: np.ndarray | None
    """(N, C) float32, where the records have them."""
    images: np.ndarray
    """(N, S, S) or (N, S, S, 3) uint8."""
    digests: list[bytes]
    """Hash of each image's pixels, N: equal for pixel-identical images."""
    flat: np.ndarray
    """(N,) bool: the image has one colour only, give or take `FLAT_LEVELS`."""
    broken: list[BrokenRecord]
    """The records that gave no image."""
    left_out: Counter[str]
    """Reason -> records that were not to be decoded."""

    @property
    def records(self) -> int:
        """How many records went in."""
        return len(self.splits) + len(self.broken) + self.left_out.total()


def decode_image(
    image: bytes | str | Path | np.ndarray,
    image_size: int,
    channels: int,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Decode one image (see `Record.image`) to uint8 (S, S), or (S, S, 3) where `channels` is 3.

    A photo is cropped to `box` (see `Record.box`), else turned upright by its EXIF tag; then cropped to the square in
    its middle, and resized to S = `image_size`; one that has the wanted size and kind already keeps its pixels. Raises
    `ValueError` or what Pillow raises.
    """
    if isinstance(image, np.ndarray):
        return _fit(_from_array(image), image_size, channels)
    if isinstance(image, str):
        return _fit(_from_text(image), image_size, channels)
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
        # JPEGs may be decoded at a fraction of their size, and straight to gray; twice the wanted size is kept.
        whole = opened.size
        enlarged = min(whole) / max(1.0, min(box[2:])) if box else 1.0
        opened.draft(_MODES[channels], (math.ceil(2 * image_size * enlarged),) * 2)
        opened.load()
        upright = _cropped(opened, box, whole) if box else ImageOps.exif_transpose(opened)
        return _fit(upright, image_size, channels)


def decode_chunk(records: list[AnyRecord], image_size: int, channels: int) -> DecodedChunk:
    """Decode some records; those that cannot be decoded come back as `broken`."""
    whole: list[Record] = []
    images: list[np.ndarray] = []
    broken = [record for record in records if isinstance(record, BrokenRecord)]
    left_out = Counter(record.reason for record in records if isinstance(record, LeftOut))
    for record in records:
        if not isinstance(record, Record):
            continue
        try:
            images.append(decode_image(record.image, image_size, channels, record.box))
            whole.append(record)
        except Exception as error:  # Pillow raises nearly anything for a damaged file
            broken.append(BrokenRecord(origin=record.origin, reason=_reason(error)))
    shape = (image_size, image_size) + ((3,) if channels == 3 else ())
    stacked = np.stack(images) if images else np.empty((0, *shape), np.uint8)
    pixels = stacked.reshape(len(stacked), image_size * image_size, channels)
    return DecodedChunk(
        splits=[record.split for record in whole],
        labels=np.array([record.label for record in whole], dtype=np.int64),
        shares=_shares(whole),
        images=stacked,
        digests=[blake2b(image.tobytes(), digest_size=16).digest() for image in images],
        flat=np.all(pixels.max(axis=1) - pixels.min(axis=1) <= FLAT_LEVELS, axis=1),
        broken=broken,
        left_out=left_out,
    )


def _shares(records: list[Record]) -> np.ndarray | None:
    shares = [record.shares for record in records if record.shares is not None]
    return np.array(shares, dtype=np.float32) if shares else None


def decode_all(
    records: Iterable[AnyRecord], image_size: int, channels: int, *, workers: int = 0
) -> Iterator[DecodedChunk]:
    """Decode all records, in their order, in `workers` processes (0: one per core, at most 16).

    A small set, and one that comes as arrays, is decoded in this process, where starting others would cost more than
    it saves. Raises `DataError` where a process dies.
    """
    rows = max(1, min(CHUNK_RECORDS, CHUNK_BYTES // (image_size * image_size * channels)))
    chunks = _chunks(records, rows)
    head = list(itertools.islice(chunks, 2))
    everything = itertools.chain(head, chunks)
    workers = workers or default_workers()
    if workers == 1 or len(head) < 2 or _holds_arrays(head[0]):
        yield from (decode_chunk(chunk, image_size, channels) for chunk in everything)
    else:
        yield from _decode_in_processes(everything, image_size, channels, workers)


def default_workers() -> int:
    """One process per core that this process may use, at most `MAX_WORKERS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def _decode_in_processes(
    chunks: Iterable[list[AnyRecord]], image_size: int, channels: int, workers: int
) -> Iterator[DecodedChunk]:
    """Keep a few chunks per process under way, so that a set larger than the memory passes through."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_parent)
    under_way: deque[Future[DecodedChunk]] = deque()
    try:
        for chunk in chunks:
            under_way.append(pool.submit(decode_chunk, chunk, image_size, channels))
            if len(under_way) > 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "every decoding process must live to the end, but one died: out of memory, or started from a script "
            "without `if __name__ == '__main__':` or from standard input. Prepare in one process: "
            "`glance-prepare --workers 1`, or workers=1 in Python."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _chunks(records: Iterable[AnyRecord], rows: int) -> Iterator[list[AnyRecord]]:
    iterator = iter(records)
    while chunk := list(itertools.islice(iterator, rows)):
        yield chunk


def _holds_arrays(chunk: list[AnyRecord]) -> bool:
    return all(isinstance(record, Record) and isinstance(record.image, np.ndarray) for record in chunk)


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(f"an array must be uint8 (H, W) or (H, W, 3), but is {pixels.dtype} {pixels.shape}")
    return Image.fromarray(pixels)


def _from_text(text: str) -> Image.Image:
    """Read gray levels separated by spaces, the rows of a square image one after another."""
    try:
        values = np.fromstring(text, dtype=np.int64, sep=" ")
    except ValueError:
        raise ValueError("its pixels must be numbers separated by spaces, but something else is among them") from None
    side = math.isqrt(len(values))
    if not len(values) or side * side != len(values):
        raise ValueError(f"its pixels must fill a square, but there are {len(values)}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"its pixels must be 0 to 255, but are {values.min()} to {values.max()}")
    return Image.fromarray(values.astype(np.uint8).reshape(side, side))


def _cropped(image: Image.Image, box: tuple[float, float, float, float], whole: tuple[int, int]) -> Image.Image:
    """What of `box` lies in the image, which was decoded at a fraction of its `whole` size; raises `ValueError`."""
    across, down = image.width / whole[0], image.height / whole[1]
    left, top, width, height = box
    right, bottom = min(round((left + width) * across), image.width), min(round((top + height) * down), image.height)
    left, top = max(round(left * across), 0), max(round(top * down), 0)
    if left >= right or top >= bottom:
        raise ValueError(f"its face box {box} lies outside the image of {whole[0]} x {whole[1]} pixels")
    return image.crop((left, top, right, bottom))


def _fit(image: Image.Image, image_size: int, channels: int) -> np.ndarray:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow's own conversion clips at 255
    if image.mode != _MODES[channels]:
        image = image.convert(_MODES[channels])
    if image.size != (image_size, image_size):
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    return str(error) or type(error).__name__
