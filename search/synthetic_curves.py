"""Learning curves from a formula, for searches in the simulator that need more configs than were ever recorded.

The accuracy after epoch e is a power law, pow3 of Domhan et al. (IJCAI 2015, table 1), and noise:

    accuracy(e) = a - (a - 1/7) · e^(-c) + 0.01 · N(0, 1)        a = 0.6 - 0.45 · d²

d² is the mean squared distance of the config from `OPTIMUM`, 1 for the corner of `SYNTHETIC_SPACE` farthest from the
optimum of a dimension that has it at its end. c lies in [0.4, 1.0], so curves cross. All chance of a curve follows from
the seed and the trial's number, never from when it is asked for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.dimensions import Choice, LogUniform, Uniform
from search.spaces import Space

SYNTHETIC_SPACE = Space(
    {
        "learning_rate": LogUniform(1e-4, 1e-2),
        "weight_decay": LogUniform(1e-4, 1.0),
        "augmentation": Uniform(0.0, 1.0),
        "embedding_dim": Choice((2, 4, 8, 16, 32, 64, 128)),
    }
)
OPTIMUM = {"learning_rate": 0.6, "weight_decay": 0.4, "augmentation": 0.3, "embedding_dim": 0.8}
"""Where each dimension is best, in [0, 1] from its lower to its upper end."""
CHANCE = 1 / 7
SAMPLES_PER_EPOCH = 1000


@dataclass(frozen=True)
class SyntheticCurve:
    """What becomes of one trial."""

    reports: list[dict[str, float]]
    """One per epoch; fewer where it fails."""
    failure: str | None = None
    """Why it fails in the epoch after its last report; None where it does not."""


@dataclass(frozen=True, kw_only=True)
class SyntheticCurves:
    """Config and trial number -> curve of `epochs` epochs, of 5 to 15 seconds each."""

    epochs: int
    seed: int = 0
    nan_share: float = 0.0
    """This share of the trials reports NaN for every metric from some epoch on."""
    failing_share: float = 0.0
    """This share of the others fails in some epoch."""

    def __call__(self, config: Mapping[str, Any], number: int) -> SyntheticCurve:
        """The curve of a trial; `config` must have every dimension of `SYNTHETIC_SPACE`."""
        rng = np.random.default_rng((self.seed, number))
        accuracies = self._accuracies(config, rng)
        seconds = float(rng.uniform(5.0, 15.0))
        kind, epoch = float(rng.random()), int(rng.integers(1, self.epochs, endpoint=True))
        reports = [_report(n, accuracy, seconds) for n, accuracy in enumerate(accuracies, start=1)]
        if kind < self.nan_share:
            return SyntheticCurve(reports[: epoch - 1] + [_diverged(report) for report in reports[epoch - 1 :]])
        if kind < self.nan_share + (1 - self.nan_share) * self.failing_share:
            return SyntheticCurve(reports[: epoch - 1], f"the loss of epoch {epoch} is not finite.")
        return SyntheticCurve(reports)

    def _accuracies(self, config: Mapping[str, Any], rng: np.random.Generator) -> list[float]:
        """The accuracy after each epoch."""
        asymptote = 0.6 - 0.45 * squared_distance(config)
        rate = rng.uniform(0.4, 1.0)
        epochs = np.arange(1, self.epochs + 1, dtype=np.float64)
        smooth = asymptote - (asymptote - CHANCE) * epochs**-rate
        noisy: list[float] = np.clip(smooth + 0.01 * rng.standard_normal(self.epochs), 0.0, 1.0).tolist()
        return noisy


def squared_distance(config: Mapping[str, Any]) -> float:
    """Mean over the dimensions of the squared distance from the optimum, each range being 1 long."""
    places = {
        "learning_rate": math.log10(config["learning_rate"] / 1e-4) / 2,
        "weight_decay": math.log10(config["weight_decay"] / 1e-4) / 4,
        "augmentation": config["augmentation"],
        "embedding_dim": math.log2(config["embedding_dim"] / 2) / 6,
    }
    return sum((places[name] - best) ** 2 for name, best in OPTIMUM.items()) / len(OPTIMUM)


def _report(epoch: int, accuracy: float, seconds: float) -> dict[str, float]:
    return {
        "epoch": epoch,
        "samples_seen": epoch * SAMPLES_PER_EPOCH,
        "epoch_seconds": seconds,
        "train_loss": 2.0 * (1 - accuracy),
        "val_loss": 2.2 * (1 - accuracy),
        "val_accuracy": accuracy,
    }


def _diverged(report: Mapping[str, float]) -> dict[str, float]:
    """The report of an epoch whose weights were not finite."""
    return {**report, "train_loss": math.nan, "val_loss": math.nan, "val_accuracy": math.nan}
