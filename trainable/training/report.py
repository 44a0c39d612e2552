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


def require_finite(report: Mapping[str, float]) -> None:
    """Raise `DivergedError` where a number is not finite: no scheduler, searcher or table ever sees such a report."""
    broken = {name: value for name, value in report.items() if not math.isfinite(value)}
    if broken:
        raise DivergedError(
            f"a report must hold finite numbers, but epoch {report['epoch']} ended with {broken}; lower learning_rate."
        )
