"""What a reader of a data set hands over: records to decode, with the classes they are labelled by.

A reader is a function `(data_path, options) -> Source`. It is called also where a store is there already, so it only
looks at what there is: the records are an iterable, read once and only where the store has to be written, and their
images are decoded elsewhere, in parallel (`trainable.data.decoding`).
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from trainable.errors import DataError, require


@dataclass(frozen=True, kw_only=True)
class Record:
    """One labelled image, not yet decoded."""

    split: str
    """One of `trainable.data.store.SPLITS`."""
    label: int
    """Index into the source's `classes`."""
    image: bytes | str | Path | np.ndarray
    """An encoded image, gray pixels as text ("70 80 82 …", a square), a file, or uint8 (H, W) or (H, W, 3)."""
    origin: str
    """File and row, for messages."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, width and height of the face in an encoded image, in its pixels; None is the whole image."""
    shares: tuple[float, ...] | None = None
    """Share of the people asked who saw each of the source's `classes`, of which `label` has the most; sum 1."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row or file that the data set has and the store is not to have; it is counted by its reason."""

    reason: str
    """Such as "uncertain"."""


@dataclass(frozen=True, kw_only=True)
class BrokenRecord:
    """A row or file that holds no usable image; it is counted and skipped, up to a limit."""

    origin: str
    """File and row."""
    reason: str
    """What is wrong with it."""


AnyRecord = Record | BrokenRecord | LeftOut


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as its reader found it."""

    dataset: str
    """Name in `trainable.data.preparation.DATASETS`."""
    classes: tuple[str, ...]
    """Canonical names; the index is the label."""
    unseen_classes: tuple[str, ...]
    """Those of `classes` that have no training image."""
    image_size: int
    """Side of the stored square images, in pixels; records of another size are cropped and resized to it."""
    channels: int
    """1 (gray) or 3 (RGB) in the store; records of another kind are converted."""
    records: Iterable[AnyRecord]
    """Read once; within a split, their order is the store's."""
    source: dict[str, Any]
    """Where it came from (path, edition, seed), for the manifest; JSON values only."""
    files: Sequence[Path] = ()
    """What the records are read from; where one changes, the data set is prepared again."""
    total: int = 0
    """How many records there are, for the progress bar; 0 where that is not known."""

    @classmethod
    def found(
        cls,
        dataset: str,
        root: Path,
        classes: tuple[str, ...],
        options: "PrepareOptions",
        *,
        records: Iterable[AnyRecord],
        about: Mapping[str, Any],
        files: Sequence[Path],
        total: int,
    ) -> Self:
        """A data set that lies at `root`, every class of which is trained; `about` says more of it."""
        return cls(
            dataset=dataset,
            classes=classes,
            unseen_classes=(),
            image_size=options.image_size,
            channels=options.channels,
            records=records,
            source={"path": str(root), **about},
            files=files,
            total=total,
        )


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How a data set becomes a store.

    Raises `DataError` on construction when a value is out of its domain.
    """

    image_size: int = 48
    """Side of the stored images, in pixels."""
    channels: int = 1
    """1 stores gray images, 3 RGB."""
    seed: int = 0
    """Seeds the synthetic faces, and the splits that a data set does not bring along."""
    keep_duplicates: bool = False
    """Keep training images that are pixel-identical to an evaluation image, or of one flat colour."""
    min_vote_share: float = 0.5
    """Smallest share of all votes for a picture's likeliest emotion with which `ferplus` keeps it."""
    max_broken: int = 10
    """How many unreadable rows or files are skipped before preparing fails."""
    synthetic_sizes: tuple[int, int, int] = (4200, 1050, 1050)
    """Images of the basic emotions that `synthetic` draws for training, validation and test."""

    def __post_init__(self) -> None:
        """Check every field against its domain."""
        check = functools.partial(require, error=DataError)
        check(self.image_size >= 8, "image_size >= 8", self.image_size)
        check(self.channels in (1, 3), "channels must be 1 or 3", self.channels)
        check(self.seed >= 0, "seed >= 0", self.seed)
        check(0 <= self.min_vote_share <= 1, "0 <= min_vote_share <= 1", self.min_vote_share)
        check(self.max_broken >= 0, "max_broken >= 0", self.max_broken)
        check(
            len(self.synthetic_sizes) == 3 and min(self.synthetic_sizes) >= 1,
            "synthetic_sizes must be three numbers of at least 1 (train, validation, test)",
            self.synthetic_sizes,
        )
