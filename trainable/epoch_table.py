"""The lines that `trainable/train.py` prints as it goes, one per epoch."""

from collections.abc import Callable, Mapping

Report = Mapping[str, float]

COLUMNS: tuple[tuple[str, int, Callable[[Report], str]], ...] = (
    ("epoch", 5, lambda report: f"{report['epoch']:.0f}"),
    ("train loss", 12, lambda report: f"{report['train_loss']:.4f}"),
    ("train acc", 11, lambda report: f"{report['train_accuracy']:.4f}"),
    ("val loss", 10, lambda report: f"{report['val_loss']:.4f}"),
    ("val acc", 9, lambda report: f"{report['val_accuracy']:.4f}"),
    ("lr", 11, lambda report: f"{report['learning_rate_now']:.2e}"),
    ("logit scale", 13, lambda report: f"{report['logit_scale_now']:.3f}"),
    ("images/s", 10, lambda report: f"{report['images_per_second']:,.0f}"),
    ("seconds", 9, lambda report: f"{report['epoch_seconds']:.1f}"),
)
"""Title, width and text of each column of the lines that are printed per epoch."""


def epoch_header() -> str:
    """The titles above the epochs' lines."""
    return "".join(title.rjust(width) for title, width, _ in COLUMNS)


def epoch_line(report: Report, *, improved: bool = False) -> str:
    """One epoch as an aligned line; a star marks the best so far."""
    return "".join(text(report).rjust(width) for _, width, text in COLUMNS) + ("  *" if improved else "")
