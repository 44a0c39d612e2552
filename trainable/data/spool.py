"""Decoded images on their way into a store: on disk, so that a set larger than the memory can be prepared."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainable.data.decoding import DecodedChunk

_BLOCK_ROWS = 4096


class Spool:
    """The decoded images of one split, appended to a file, with their labels, hashes and flatness in memory."""

    def __init__(self, file: Path) -> None:
        """Start an empty spool; `file` is created with the first images."""
        self._file = file
        self._image_shape: tuple[int, ...] = ()
        self._labels: list[np.ndarray] = []
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
    def flat(self) -> np.ndarray:
        """(N,) bool: the image has one colour only."""
        return np.concatenate(self._flat)

    def add(self, chunk: DecodedChunk, split: str) -> None:
        """Append the images of a chunk that belong to `split`."""
        rows = [row for row, name in enumerate(chunk.splits) if name == split]
        self._image_shape = chunk.images.shape[1:]
        self._labels.append(chunk.labels[rows])
        self._flat.append(chunk.flat[rows])
        self.digests.extend(chunk.digests[row] for row in rows)
        with self._file.open("ab") as sink:
            sink.write(chunk.images[rows].data)

    def take(self, keep: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images, as a map of the file, and labels; with a mask `keep` (N,) only those it holds True for.

        Images that are kept move to the front of the file, so that a spool can be taken once.
        """
        images = np.memmap(self._file, np.uint8, "r+", shape=(len(self), *self._image_shape))
        if keep is None or keep.all():
            return images, self.labels
        end = 0
        for start in range(0, len(self), _BLOCK_ROWS):
            block = images[start : start + _BLOCK_ROWS][keep[start : start + _BLOCK_ROWS]]
            images[end : end + len(block)] = block
            end += len(block)
        return images[:end], self.labels[keep]


def unwanted_for_training(spools: Mapping[str, Spool]) -> dict[str, np.ndarray]:
    """Reason -> mask over the training images: "flat" ones, and a "duplicate_of_evaluation".

    A flat image that is a duplicate as well counts as flat only.
    """
    evaluation = set(spools["validation"].digests) | set(spools["test"].digests)
    flat = spools["train"].flat
    duplicate = np.array([digest in evaluation for digest in spools["train"].digests], dtype=bool)
    return {"duplicate_of_evaluation": duplicate & ~flat, "flat": flat}
