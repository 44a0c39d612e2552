"""What a trial says of itself after each epoch: a flat dict of numbers."""

import math
from collections.abc import Mapping

from trainable.errors import DivergedError

REPORT_KEYS = (
    "epoch",
    "samples_seen",
    "epoch_seconds",
    "images_per_second",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_balanced_accuracy",
    "predicted_classes",
    "learning_rate_now",
    "logit_scale_now",
    "gradient_norm",
)
"""`*_now` is the value at the epoch's end; `predicted_classes` counts the distinct classes predicted on validation."""

UNSEEN_KEYS = (
    "val_unseen_accuracy",
    "val_unseen_balanced_accuracy",
    "val_generalised_seen_accuracy",
    "val_generalised_seen_balanced_accuracy",
    "val_generalised_unseen_accuracy",
    "val_generalised_unseen_balanced_accuracy",
    "val_harmonic_accuracy",
    "val_harmonic_balanced_accuracy",
    "val_chance",
    "val_unseen_chance",
    "val_generalised_chance",
)
"""What comes with unseen classes for validation: `unseen` is among these, `generalised` among all, `harmonic` the mean
of the generalised accuracies on seen and unseen; `chance` is 1 / candidates, also of a balanced accuracy."""
_UNPREFIXED = ("predicted_classes",)


def prefixed(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The accuracies and the loss that a split gave, as a report (`val`) or `best.json` (`test`) names them."""
    return {f"{prefix}_{name}": value for name, value in metrics.items() if name not in _UNPREFIXED}


def require_finite(report: Mapping[str, float]) -> None:
    """Raise `DivergedError` where a number is not finite: no scheduler, searcher or table ever sees such a report."""
    broken = {name: value for name, value in report.items() if not math.isfinite(value)}
    if broken:
        raise DivergedError(
            f"a report must hold finite numbers, but epoch {report['epoch']} ended with {broken}; lower learning_rate."
        )
