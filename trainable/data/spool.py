"""Decoded images on their way into a store: on disk, so that a set larger than the memory can be prepared."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainable.data.decoding import DecodedChunk
from trainable.data.store import Split

_BLOCK_ROWS = 4096


class Spool:
    """The decoded images of one split, appended to a file, with their labels, shares, hashes and flatness in memory."""

    def __init__(self, file: Path) -> None:
        """Start an empty spool; `file` is created with the first images."""
        self._file = file
        self._image_shape: tuple[int, ...] = ()
        self._labels: list[np.ndarray] = []
        self._shares: list[np.ndarray] = []
        self._flat: list[np.ndarray] = []
        self.digests: list[bytes] = []
        """Hash of each image's pixels."""

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""
        return np.concatenate(self._labels)

    @property
    def shares(self) -> np.ndarray | None:
        """(N, C) float32, where the records have them."""
        return np.concatenate(self._shares) if self._shares else None

    @property
    def flat(self) -> np.ndarray:
        """(N,) bool: the image has one colour only."""
        return np.concatenate(self._flat)

    def add(self, chunk: DecodedChunk, split: str) -> None:
        """Append the images of a chunk that belong to `split`."""
        rows = [row for row, name in enumerate(chunk.splits) if name == split]
        self._image_shape = chunk.images.shape[1:]
        self._labels.append(chunk.labels[rows])
        self._flat.append(chunk.flat[rows])
        if chunk.shares is not None:
            self._shares.append(chunk.shares[rows])
        self.digests.extend(chunk.digests[row] for row in rows)
        with self._file.open("ab") as sink:
            sink.write(chunk.images[rows].data)

    def take(self, keep: np.ndarray | None = None) -> Split:
        """Images, as a map of the file, labels, and shares where there are any.

        With a mask `keep` (N,) these are only those that it holds True for.
        Images that are kept move to the front of the file, so that a spool can be taken once.
        """
        images = np.memmap(self._file, np.uint8, "r+", shape=(len(self), *self._image_shape))
        if keep is None or keep.all():
            return Split(images, self.labels, self.shares)
        end = 0
        for start in range(0, len(self), _BLOCK_ROWS):
            block = images[start : start + _BLOCK_ROWS][keep[start : start + _BLOCK_ROWS]]
            images[end : end + len(block)] = block
            end += len(block)
        return Split(images[:end], self.labels[keep], None if self.shares is None else self.shares[keep])


def unwanted_for_training(spools: Mapping[str, Spool]) -> dict[str, np.ndarray]:
    """Reason -> mask over the training images: "flat" ones, and a "duplicate_of_evaluation".

    A flat image that is a duplicate as well counts as flat only.
    """
    evaluation = set(spools["validation"].digests) | set(spools["test"].digests)
    flat = spools["train"].flat
    duplicate = np.array([digest in evaluation for digest in spools["train"].digests], dtype=bool)
    return {"duplicate_of_evaluation": duplicate & ~flat, "flat": flat}
