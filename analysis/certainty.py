"""How sure it is that the best trial is the best: what chance alone makes of its lead.

Resampling, so without formulas for each case, with a generator that is always seeded alike: the same experiment gives
the same sentence.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DRAWS = 10_000
_INTERVAL = (0.025, 0.975)
_ACCURACIES = ("val_accuracy", "val_balanced_accuracy")


@dataclass(frozen=True)
class Lead:
    """How far one is ahead of another, and the interval that holds 95 % of the resamples."""

    gap: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether chance alone does not make such a lead."""
        return self.low > 0


def images_behind(manifest: dict[str, Any], metric: str) -> int | None:
    """Of how many independent images an accuracy is the mean; None where the manifest or the metric does not say.

    A balanced accuracy, the mean of C classes' recalls, varies like the mean of C² / Σ 1/n images, where a class has n.
    """
    counts = (manifest.get("dataset") or {}).get("counts") or {}
    train, validation = counts.get("train"), counts.get("validation")
    if metric not in _ACCURACIES or not isinstance(train, dict) or not isinstance(validation, dict):
        return None
    images = [count for name, count in validation.items() if train.get(name) and count]
    if not images:
        return None
    return sum(images) if metric == "val_accuracy" else round(len(images) ** 2 / sum(1 / n for n in images))


def interval(accuracy: float, images: int) -> tuple[float, float]:
    """What other images of the same kind would make of an accuracy, in 95 % of the resamples."""
    low, high = np.quantile(_resampled(accuracy, images), _INTERVAL)
    return float(low), float(high)


def lead_by_images(best: float, other: float, images: int) -> Lead:
    """The lead of one accuracy over another, resampled over the images behind each.

    Both are of the same images, which makes them alike: taken as independent, the interval is rather too wide.
    """
    gaps = _resampled(best, images, seed=0) - _resampled(other, images, seed=1)
    low, high = np.quantile(gaps, _INTERVAL)
    return Lead(best - other, float(low), float(high))


def lead_by_seeds(best: Sequence[float], other: Sequence[float], *, sign: float = 1.0) -> Lead:
    """The lead of the mean over seeds, resampled over the seeds of each; `sign` is -1 where less is better."""
    rng = np.random.default_rng(0)
    means = [rng.choice(values, (DRAWS, len(values))).mean(axis=1) for values in (best, other)]
    low, high = np.quantile(sign * (means[0] - means[1]), _INTERVAL)
    return Lead(sign * float(np.mean(best) - np.mean(other)), float(low), float(high))


def rivals(best: float, others: Sequence[float], images: int) -> int:
    """How many of the others, best first, may be as good for all that the images tell."""
    return bisect_left(others, True, key=lambda value: lead_by_images(best, value, images).sure)


def _resampled(accuracy: float, images: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.binomial(images, min(1.0, max(0.0, accuracy)), DRAWS) / images)
