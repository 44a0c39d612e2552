"""The built-in data set: faces drawn from facial action units, labelled with the emotion whose prototype they show.

Image i of a split is a pure function of (seed, split, i): no two splits share a face, and more images of a split
begin with the same ones. Training shows the 7 basic emotions; validation and test hold the 15 compound ones too, as
unseen classes (`trainable.data.action_units` gives the prototypes and their source).

What varies: the person, hair, glasses, pose, light and camera (`faces.TRAITS`), which of the optional units are
active, how strongly, how evenly on both sides, and a little activity of units that do not belong to the emotion.
"""

from collections.abc import Iterator

import numpy as np

from trainable.data.action_units import (
    BASIC_PROTOTYPES,
    COMPOUND_PROTOTYPES,
    PROTOTYPES,
    UNIT_NUMBERS,
)
from trainable.data.canvas import blur
from trainable.data.faces import TRAITS, draw, scale_traits
from trainable.data.source import Record, Source
from trainable.data.store import SPLITS
from trainable.errors import DataError

CLASSES = tuple(PROTOTYPES)
"""The 7 basic emotions in FER-2013's order, then the 15 compound ones in their paper's order."""
UNSEEN_CLASSES = tuple(COMPOUND_PROTOTYPES)

_CHANCES = np.stack([prototype.probabilities() for prototype in PROTOTYPES.values()])  # (C, A)
_BATCH = 64
_STRENGTH = (0.58, 1.0)
"""Intensity of an expression as a whole."""
_UNIT_STRENGTH = (0.75, 1.1)
"""Intensity of one unit, relative to the expression's."""
_ASYMMETRY = 0.15
_STRAY_CHANCE = 0.04
_STRAY_STRENGTH = 0.4
_REST = 0.08
"""Largest activity of a unit in a resting face."""


def read_synthetic(
    *,
    train: int = 4200,
    validation: int = 1050,
    test: int = 1050,
    compounds_per_class: int = 40,
    seed: int = 0,
    image_size: int = 48,
) -> Source:
    """Draw the data set lazily: `train`, `validation` and `test` images of the basic emotions, classes in turn.

    Validation and test each hold `compounds_per_class` more images of every compound emotion. Raises `DataError` for a
    split without images, a negative number or an image size below 16.
    """
    counts = {"train": train, "validation": validation, "test": test}
    for name, count in counts.items():
        _require(count >= 1, f"{name} >= 1 image", count)
    _require(compounds_per_class >= 0, "compounds_per_class >= 0", compounds_per_class)
    _require(seed >= 0, "seed >= 0", seed)
    _require(image_size >= 16, "image_size >= 16", image_size)
    compounds = {split: 0 if split == "train" else compounds_per_class for split in SPLITS}
    return Source(
        dataset="synthetic",
        classes=CLASSES,
        unseen_classes=UNSEEN_CLASSES,
        image_size=image_size,
        channels=1,
        records=_records(counts, compounds, seed, image_size),
        source={**counts, "compounds_per_class": compounds_per_class, "seed": seed},
        total=sum(counts.values()) + sum(compounds.values()) * len(UNSEEN_CLASSES),
    )


def draw_faces(labels: np.ndarray, rolls: np.ndarray, size: int = 48) -> np.ndarray:
    """Draw one face per label (an index into `CLASSES`) from its row of `rolls`: uint8 `(N, size, size)`.

    `rolls` holds `ROLLS` numbers in [0, 1] and a noise seed per face, as `roll_faces` makes them.
    """
    traits, expression = rolls[:, : len(TRAITS)], rolls[:, len(TRAITS) : -1]
    pixels = draw(traits, _intensities(labels, expression), size)
    scaled = scale_traits(traits)
    pixels = blur(pixels, scaled["blur"])
    pixels = pixels + scaled["noise"] * _noise(rolls[:, -1], size)
    return np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)


ROLLS = len(TRAITS) + 1 + 4 * len(UNIT_NUMBERS) + 1
"""Random numbers that one face takes."""


def roll_faces(seed: int, split: str, first: int, count: int) -> np.ndarray:
    """The random numbers of `count` faces of a split from index `first` on: float64 `(count, ROLLS)` in [0, 1)."""
    streams = (np.random.SeedSequence([seed, SPLITS.index(split), first + row]) for row in range(count))
    return np.stack([np.random.Generator(np.random.PCG64(stream)).random(ROLLS) for stream in streams])


def split_labels(basic: int, compounds_per_class: int) -> np.ndarray:
    """Labels of a split in its order: the basic classes in turn, then the compound ones in turn."""
    compound = np.arange(compounds_per_class * len(COMPOUND_PROTOTYPES)) % len(COMPOUND_PROTOTYPES)
    return np.concatenate([np.arange(basic) % len(BASIC_PROTOTYPES), compound + len(BASIC_PROTOTYPES)])


def _records(counts: dict[str, int], compounds: dict[str, int], seed: int, size: int) -> Iterator[Record]:
    for split in SPLITS:
        labels = split_labels(counts[split], compounds[split])
        for first in range(0, len(labels), _BATCH):
            batch = labels[first : first + _BATCH]
            images = draw_faces(batch, roll_faces(seed, split, first, len(batch)), size)
            for row, (label, image) in enumerate(zip(batch, images, strict=True)):
                yield Record(
                    split=split, label=int(label), image=image, origin=f"synthetic {split} image {first + row}"
                )


def _intensities(labels: np.ndarray, rolls: np.ndarray) -> np.ndarray:
    """Intensities of the action units on both sides, `(N, 2, A)`, from the classes' chances and random numbers."""
    chosen, strength, stray, side = np.split(rolls[:, 1:], 4, axis=1)  # (N, A) each
    whole = _STRENGTH[0] + (_STRENGTH[1] - _STRENGTH[0]) * rolls[:, :1]
    active = chosen < _CHANCES[labels]
    expressed = whole * (_UNIT_STRENGTH[0] + (_UNIT_STRENGTH[1] - _UNIT_STRENGTH[0]) * strength)
    resting = np.where(stray < _STRAY_CHANCE, _STRAY_STRENGTH, _REST) * strength
    both = np.where(active, expressed, resting)
    lean = _ASYMMETRY * (2 * side - 1)
    return np.clip(np.stack([both * (1 + lean), both * (1 - lean)], axis=1), 0, 1)


def _noise(seeds: np.ndarray, size: int) -> np.ndarray:
    """Camera noise of mean 0 and deviation 1 for each face, from a number in [0, 1)."""
    generators = (np.random.Generator(np.random.PCG64(int(seed * 2**53))) for seed in seeds)
    return np.stack([generator.standard_normal((size, size), dtype=np.float32) for generator in generators])


def _require(holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise DataError(f"{rule} must hold for the synthetic faces, but got {value!r}.")
