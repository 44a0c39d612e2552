"""How action units change the shape of a face: a linear blend of offsets, left and right side apart.

Lengths are in face units: half the side of a picture in which the face is drawn at scale 1. `v` points down.
"""

import numpy as np

from trainable.data.action_units import UNIT_NUMBERS

EFFECTS: dict[tuple[int, ...], dict[str, float]] = {
    (1,): {"brow_inner": -0.115, "brow_middle": -0.03, "forehead": 0.6},
    (2,): {"brow_outer": -0.105, "brow_middle": -0.085, "forehead": 0.6},
    (4,): {
        "brow_inner": 0.125,
        "brow_middle": 0.085,
        "brow_outer": 0.015,
        "brow_gap": -0.045,
        "furrow": 1.0,
        "lid": -0.012,
    },
    (1, 4): {"brow_inner": -0.095, "brow_middle": -0.03, "brow_outer": 0.03, "furrow": -0.45},
    (5,): {"lid": 0.05},
    (6,): {"cheek": 1.0, "lower_lid": -0.035, "crow_feet": 1.0, "fold": 0.4, "lid": -0.01},
    (7,): {"lower_lid": -0.035, "lid": -0.035, "lid_crease": 1.0},
    (9,): {
        "wrinkle": 1.0,
        "nose": -0.03,
        "brow_inner": 0.045,
        "lower_lid": -0.02,
        "lid": -0.018,
        "upper_lip": 0.03,
        "fold": 0.7,
    },
    (10,): {"upper_lip": 0.075, "fold": 1.0, "nose": -0.012, "teeth": 0.03, "open": 0.012},
    (11,): {"fold": 0.9},
    (12,): {"corner": -0.125, "width": 0.085, "fold": 0.8, "cheek": 0.45, "teeth": 0.055, "lower_lid": -0.008},
    (15,): {"corner": 0.10, "width": -0.015, "corner_crease": 1.0},
    (17,): {"chin": 1.0, "middle": -0.045, "lower_lip": 0.012},
    (20,): {"width": 0.10, "corner": 0.03, "thin": 0.3, "square": 1.0, "teeth": 0.035},
    (23,): {"thin": 0.55, "width": -0.035},
    (24,): {"thin": 0.85, "width": -0.055, "press": 1.0},
    (25,): {"open": 0.055},
    (26,): {"open": 0.085, "jaw": 0.08, "width": -0.035},
    (12, 25): {"open": 0.03, "teeth": 0.02},
    (12, 26): {"width": 0.035},
    (20, 26): {"width": 0.025},
    (27,): {"open": 0.19, "jaw": 0.16, "width": -0.05},
}
"""Offsets at full intensity of a unit, or of two together on top of each one's own.

`brow_*`, `lid`, `lower_lid`, `nose`, `corner`, `middle`, `upper_lip`, `lower_lip`, `open`, `jaw`, `width`, `teeth` are
lengths; `forehead`, `furrow`, `cheek`, `crow_feet`, `fold`, `lid_crease`, `wrinkle`, `corner_crease`, `chin`, `square`,
`press` and `thin` are amounts, 1 at full intensity.
"""

SHAPE_NAMES = tuple(sorted({name for offsets in EFFECTS.values() for name in offsets}))
_BLEND = np.array([[offsets.get(name, 0.0) for name in SHAPE_NAMES] for offsets in EFFECTS.values()], dtype=np.float32)


class Shape:
    """Offsets of every face of a batch: `shape.left("corner")`, `.right(…)` and `.mean(…)` are `(N, 1, 1)`."""

    def __init__(self, intensities: np.ndarray) -> None:
        """Blend from intensities 0 to 1 of `UNIT_NUMBERS` on both sides, `(N, 2, A)`, left (of the picture) first."""
        columns = [
            np.prod([intensities[:, :, UNIT_NUMBERS.index(unit)] for unit in units], axis=0) for units in EFFECTS
        ]
        blended = sum(column[:, :, None] * row for column, row in zip(columns, _BLEND, strict=True))
        self._offsets = np.asarray(blended, dtype=np.float32)[:, :, :, None, None]  # (N, 2, S, 1, 1)

    def left(self, name: str) -> np.ndarray:
        """The offset on the picture's left side."""
        return np.asarray(self._offsets[:, 0, SHAPE_NAMES.index(name)])

    def right(self, name: str) -> np.ndarray:
        """The offset on the picture's right side."""
        return np.asarray(self._offsets[:, 1, SHAPE_NAMES.index(name)])

    def mean(self, name: str) -> np.ndarray:
        """The offset where both sides meet."""
        return (self.left(name) + self.right(name)) / 2
