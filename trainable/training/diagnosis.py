"""Why a config could, or could not, learn a handful of images by heart: read off its reports alone.

The thresholds were set on recorded runs over 256 synthetic faces, learning rates 1e-9 to 1e30 and logit scales over
their whole range; `tests/trainable/training/test_diagnosis.py` holds a few of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from trainable.config import MAX_LOGIT_SCALE, TrialConfig

PASS_ACCURACY = 0.99
"""Training accuracy of an epoch from which on the images count as learned."""
WINDOW_SHARE = 0.25
"""Share of the epochs, at the end, over which the outcome is judged: single epochs are noisy."""
MOVED_SHARE = 0.03
"""A loss has moved once it differs by this share; drawing other batches alone changes it by half of that."""
RISEN_FACTOR = 1.5
"""A loss this many times the first epoch's is rising."""
CHANCE_FACTOR = 1.5
"""An accuracy below this many times 1 / C is chance."""
SETTLED_NATS = 0.005
"""A validation loss this close to ln C is that of a model to which all images are alike."""
VANISHED_SHARE = 0.01
"""A gradient norm below this share of its largest one has vanished."""
FAR_REACH = 1.0
"""Weights are far below 1, so that a run which could move each of them this far did not have too low a rate."""
CLAMP_TOLERANCE = 1e-3
"""How near the logit scale must lie to an end of [0, ln 100] to be at its clamp."""

Report = Mapping[str, float]


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a small-data check."""

    cause: str
    """`learned`, or what went wrong: `diverged`, `collapsed`, `flat`, `clamped`, `slow`, `stalled`."""
    sentence: str
    """The verdict for a reader: what was seen, and what to do."""

    @property
    def passed(self) -> bool:
        """Whether the config learned the images by heart."""
        return self.cause == "learned"


def has_learned(report: Report) -> bool:
    """Whether an epoch ended with the images learned by heart."""
    return report["train_accuracy"] >= PASS_ACCURACY


def diagnose(
    reports: Sequence[Report], config: TrialConfig, *, classes: int, divergence: str | None = None
) -> Diagnosis:
    """Judge a run on a few images of C = `classes` classes, validation being the same images.

    `reports` are the trainer's, in order; `divergence` is what ended the run where its numbers were not finite. The
    first cause that fits is given, in the order: diverged, collapsed, flat, clamped, slow, stalled.
    """
    if divergence is not None:
        return Diagnosis("diverged", f"learning rate too high: diverged. {_capitalised(divergence)}")
    seen = _Evidence.of(reports, config, classes)
    if any(has_learned(report) for report in reports):
        return Diagnosis("learned", _learned(reports))
    if seen.risen:
        return Diagnosis("diverged", _rising(seen, config))
    if seen.collapsed:
        return Diagnosis("collapsed", _collapsed(seen, config))
    if not seen.moved:
        return Diagnosis("flat", _flat(seen, config))
    if seen.clamp is not None:
        return Diagnosis("clamped", _clamped(seen, config))
    return Diagnosis("slow", _slow(seen, config)) if seen.falling else Diagnosis("stalled", _stalled(seen, config))


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """What the reports show; `last` values are means over the last `WINDOW_SHARE` of the epochs."""

    epochs: int
    first_loss: float
    last_loss: float
    last_accuracy: float
    at_chance: bool
    """Neither training nor validation accuracy is better than guessing."""
    one_class: bool
    """Every image is predicted to be of the same class."""
    settled: bool
    """The validation loss is that of a model which gives every class the same probability."""
    vanished: bool
    """The gradient is gone."""
    reach: float
    """How far each weight can have moved: Adam's step is at most about the rate (arXiv 1412.6980, section 2.1)."""
    clamp: float | None
    """The end of [0, ln 100] at which the logit scale stayed."""
    falling: bool
    """The loss still falls from window to window."""

    @classmethod
    def of(cls, reports: Sequence[Report], config: TrialConfig, classes: int) -> "_Evidence":
        width = max(1, int(len(reports) * WINDOW_SHARE))
        window, before = reports[-width:], reports[-2 * width : -width]
        last_loss = _mean(window, "train_loss")
        return cls(
            epochs=len(reports),
            first_loss=reports[0]["train_loss"],
            last_loss=last_loss,
            last_accuracy=_mean(window, "train_accuracy"),
            at_chance=max(_mean(window, "train_accuracy"), _mean(window, "val_accuracy")) < CHANCE_FACTOR / classes,
            one_class=all(report["predicted_classes"] <= 1 for report in window),
            settled=abs(_mean(window, "val_loss") - math.log(classes)) < SETTLED_NATS,
            vanished=_median_gradient(window) < VANISHED_SHARE * max(report["gradient_norm"] for report in reports),
            reach=config.learning_rate * reports[-1]["samples_seen"] / config.batch_size,
            clamp=_clamp(window),
            falling=bool(before) and last_loss < (1 - MOVED_SHARE) * _mean(before, "train_loss"),
        )

    @property
    def moved(self) -> bool:
        return abs(self.last_loss - self.first_loss) > MOVED_SHARE * self.first_loss

    @property
    def risen(self) -> bool:
        return self.last_loss > RISEN_FACTOR * self.first_loss

    @property
    def collapsed(self) -> bool:
        """Guessing, and not because nothing has happened yet: a fresh model guesses as well."""
        left_start = self.moved or self.vanished or self.reach > FAR_REACH
        return self.at_chance and ((self.settled and left_start) or (self.one_class and self.moved))


def _learned(reports: Sequence[Report]) -> str:
    return (
        f"{len(reports)} epochs brought the training loss from {reports[0]['train_loss']:.3f} to "
        f"{reports[-1]['train_loss']:.3f} and the training accuracy to {reports[-1]['train_accuracy']:.3f}."
    )


def _rising(seen: _Evidence, config: TrialConfig) -> str:
    return (
        f"learning rate too high: the training loss rose from {seen.first_loss:.3f} to {seen.last_loss:.3f}. Lower "
        f"learning_rate ({config.learning_rate:.3g})."
    )


def _collapsed(seen: _Evidence, config: TrialConfig) -> str:
    clamp = "" if seen.clamp is None else f" The logit scale is stuck at its clamp ({seen.clamp:.3g}) as well."
    return (
        f"predictions all one class: all images have become alike to the model (training accuracy "
        f"{seen.last_accuracy:.3f}, which is guessing).{clamp} Most often learning_rate ({config.learning_rate:.3g}) "
        f"is too high; lower it, or text_learning_rate_factor ({config.text_learning_rate_factor:.3g})."
    )


def _flat(seen: _Evidence, config: TrialConfig) -> str:
    return (
        f"learning rate too low: flat. In {seen.epochs} epochs the training loss went from {seen.first_loss:.3f} to "
        f"{seen.last_loss:.3f} only. Raise learning_rate ({config.learning_rate:.3g})."
    )


def _clamped(seen: _Evidence, config: TrialConfig) -> str:
    start = "started" if config.learn_logit_scale else "is fixed"
    end = "higher" if seen.clamp == 0.0 else "lower"
    return (
        f"logit scale stuck at its clamp ({seen.clamp:.3g}), training accuracy {seen.last_accuracy:.3f}. It {start} at "
        f"{config.logit_scale:.3g}; choose a {end} logit_scale, or another learning_rate ({config.learning_rate:.3g})."
    )


def _slow(seen: _Evidence, config: TrialConfig) -> str:
    return (
        f"learning rate too low, or too few epochs: the training loss was still falling ({seen.first_loss:.3f} to "
        f"{seen.last_loss:.3f}) after {seen.epochs}, training accuracy {seen.last_accuracy:.3f}. Raise learning_rate "
        f"({config.learning_rate:.3g}) or --max-epochs."
    )


def _stalled(seen: _Evidence, config: TrialConfig) -> str:
    return (
        f"no single cause: the training loss stopped at {seen.last_loss:.3f} after {seen.epochs} epochs, training "
        f"accuracy {seen.last_accuracy:.3f}. Try a lower learning_rate ({config.learning_rate:.3g}), a larger "
        f"embedding_dim ({config.embedding_dim}), or a larger tower ({config.image_tower})."
    )


def _clamp(window: Sequence[Report]) -> float | None:
    for end in (0.0, MAX_LOGIT_SCALE):
        if all(abs(report["logit_scale_now"] - end) < CLAMP_TOLERANCE for report in window):
            return end
    return None


def _mean(reports: Sequence[Report], key: str) -> float:
    return fmean(report[key] for report in reports)


def _median_gradient(reports: Sequence[Report]) -> float:
    return median(report["gradient_norm"] for report in reports)


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
