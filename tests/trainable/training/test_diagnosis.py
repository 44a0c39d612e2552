"""Verdicts on recorded runs over 256 synthetic faces: every sixth epoch or so of what the trainer reported."""

import pytest

from trainable.config import TrialConfig
from trainable.training.diagnosis import PASS_ACCURACY, diagnose, has_learned

LN100 = 4.605170249938965  # as float32 rounds it

COLUMNS = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "predicted_classes",
    "logit_scale_now",
    "gradient_norm",
)

LEARNED = [
    (2.1040, 0.160, 1.9517, 0.133, 3, 2.658, 7.23),
    (1.7881, 0.309, 1.7626, 0.344, 6, 2.635, 6.19),
    (0.4822, 0.859, 0.2768, 0.914, 7, 2.642, 18.9),
    (0.0868, 0.988, 0.0170, 1.000, 7, 2.652, 6.67),
    (0.0878, 1.000, 0.0718, 0.984, 7, 2.652, 7.97),
]
RATE_1E_9 = [
    (2.1074, 0.164, 1.9557, 0.133, 4, 2.659, 7.35),
    (2.1141, 0.148, 1.9547, 0.207, 4, 2.659, 7.30),
    (2.1412, 0.156, 1.9521, 0.176, 4, 2.659, 9.53),
    (2.1059, 0.148, 1.9515, 0.172, 4, 2.659, 7.26),
    (2.1023, 0.141, 1.9522, 0.168, 4, 2.659, 7.25),
]
RATE_1E_5 = [
    (2.1071, 0.164, 1.9555, 0.133, 4, 2.659, 7.26),
    (2.0112, 0.141, 1.9388, 0.195, 5, 2.659, 6.08),
    (1.9361, 0.172, 1.9014, 0.273, 5, 2.658, 4.10),
    (1.9152, 0.188, 1.8648, 0.320, 6, 2.658, 4.31),
    (1.9005, 0.230, 1.8518, 0.348, 6, 2.658, 4.08),
]
RATE_1E_4_CUT_SHORT = [
    (2.1055, 0.164, 1.9554, 0.133, 4, 2.658, 7.24),
    (1.8430, 0.250, 1.8020, 0.508, 7, 2.658, 5.30),
    (1.5308, 0.457, 1.3359, 0.793, 7, 2.661, 11.3),
    (0.9611, 0.684, 0.6083, 0.938, 7, 2.666, 19.3),
]
RATE_01 = [  # no single class: to a model that sees no difference, rounding decides
    (3.1509, 0.148, 1.9513, 0.145, 1, 2.622, 13.5),
    (1.9461, 0.145, 1.9456, 0.148, 2, 1.993, 0.00517),
    (1.9452, 0.145, 1.9460, 0.145, 2, 1.800, 0.000264),
    (1.9452, 0.129, 1.9458, 0.137, 2, 1.796, 0.000217),
    (1.9452, 0.141, 1.9460, 0.129, 2, 1.560, 0.000368),
]
RATE_1 = [
    (2.7049, 0.156, 1.9457, 0.168, 4, 2.311, 4.41),
    (1.9453, 0.145, 1.9459, 0.133, 2, 0.000, 0.000271),
    (1.9452, 0.137, 1.9459, 0.141, 2, 0.000, 6.52e-05),
    (1.9452, 0.145, 1.9459, 0.137, 3, 0.000, 5.36e-06),
]
RATE_100 = [  # the loss hardly moved and the gradient came back, yet the rate is anything but too low
    (1.9802, 0.148, 1.9459, 0.145, 1, 0.000, 1.77),
    (1.9452, 0.141, 1.9459, 0.160, 2, 0.000, 6.28e-06),
    (1.9452, 0.145, 1.9459, 0.117, 2, 0.000, 41.0),
    (1.9452, 0.137, 1.9459, 0.148, 2, 0.000, 97.3),
]
ONE_CONFIDENT_CLASS = [
    (9.2007, 0.145, 2.2044, 0.145, 2, 2.658, 268.0),
    (5.4711, 0.148, 2.0637, 0.141, 1, 2.656, 107.0),
    (5.4690, 0.148, 2.0640, 0.141, 1, 2.656, 90.0),
]
RISING = [
    (2.1, 0.16, 1.95, 0.14, 3, 2.66, 7.0),
    (3.9, 0.25, 4.10, 0.21, 3, 2.90, 90.0),
    (6.2, 0.23, 8.80, 0.22, 2, 3.40, 400.0),
]
CLAMPED = [
    (2.1, 0.16, 1.95, 0.14, 3, 3.9, 7.0),
    (1.7, 0.41, 1.90, 0.39, 7, 4.4, 30.0),
    (1.4, 0.52, 1.60, 0.50, 7, LN100, 60.0),
    (1.3, 0.53, 1.70, 0.49, 7, LN100, 66.0),
]
STALLED = [
    (2.1, 0.16, 1.95, 0.14, 3, 2.66, 7.0),
    (1.2, 0.54, 1.20, 0.55, 6, 2.70, 9.0),
    (1.0, 0.57, 1.00, 0.57, 6, 2.71, 9.0),
    (1.0, 0.57, 1.01, 0.56, 6, 2.71, 9.0),
]


def reports(rows):
    columns = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    return [{"epoch": n, "samples_seen": 12 * 256 * n, **report} for n, report in enumerate(columns, start=1)]


def verdict(rows, *, classes=7, divergence=None, **config):
    return diagnose(reports(rows), TrialConfig(**config), classes=classes, divergence=divergence)


@pytest.mark.parametrize(
    ("cause", "rows", "config", "words"),
    [
        ("learned", LEARNED, {}, "loss from 2.104 to 0.088"),
        ("flat", RATE_1E_9, {"learning_rate": 1e-9}, "learning rate too low: flat"),
        ("slow", RATE_1E_4_CUT_SHORT, {"learning_rate": 1e-4}, "learning rate too low, or too few epochs"),
        ("collapsed", RATE_01, {"learning_rate": 0.1}, "predictions all one class"),
        ("collapsed", RATE_1, {"learning_rate": 1.0}, "logit scale is stuck at its clamp (0) as well"),
        ("collapsed", RATE_100, {"learning_rate": 100.0}, "learning_rate (100) is too high"),
        ("collapsed", ONE_CONFIDENT_CLASS, {}, "predictions all one class"),
        ("diverged", RISING, {"learning_rate": 0.02}, "learning rate too high: the training loss rose from 2.100"),
        ("clamped", CLAMPED, {"logit_scale": 3.8}, "logit scale stuck at its clamp (4.61)"),
        ("stalled", STALLED, {}, "the training loss stopped at 1.000"),
    ],
)
def test_a_recorded_run_gets_its_cause(cause, rows, config, words):
    diagnosis = verdict(rows, **config)
    assert (diagnosis.cause, diagnosis.passed) == (cause, cause == "learned")
    assert words in diagnosis.sentence


def test_numbers_that_are_not_finite_come_first_whatever_was_reported():
    diagnosis = verdict([], divergence="the loss is nan.", learning_rate=1e30)
    assert (diagnosis.cause, diagnosis.passed) == ("diverged", False)
    assert diagnosis.sentence == "learning rate too high: diverged. The loss is nan."
    assert verdict(LEARNED, divergence="the loss is nan.").cause == "diverged"


def test_a_slow_run_is_not_taken_for_a_flat_or_collapsed_one():
    assert verdict(RATE_1E_5, learning_rate=1e-5).cause not in ("flat", "collapsed", "learned")


def test_guessing_depends_on_the_number_of_classes():
    assert verdict(ONE_CONFIDENT_CLASS, classes=7).cause == "collapsed"
    assert verdict(ONE_CONFIDENT_CLASS, classes=100).cause != "collapsed"


def test_an_untrained_model_that_guesses_one_class_is_flat_rather_than_collapsed():
    rows = [(*row[:4], 1, *row[5:]) for row in RATE_1E_9]
    assert verdict(rows, learning_rate=1e-9).cause == "flat"


def test_an_untrained_model_of_low_logit_scale_is_flat_rather_than_collapsed():
    rows = [(1.952, 0.152, 1.9457, 0.137, 3, 1.0, 0.75), (1.951, 0.148, 1.9456, 0.145, 3, 1.0, 0.73)]
    assert verdict(rows, learning_rate=1e-9, logit_scale=1.0).cause == "flat"


def test_a_rate_too_low_is_the_cause_also_where_the_logit_scale_starts_at_its_clamp():
    rows = [(*row[:5], LN100, row[6]) for row in RATE_1E_9]
    assert verdict(rows, learning_rate=1e-9, logit_scale=4.605).cause == "flat"


def test_a_fixed_logit_scale_is_called_fixed():
    rows = [(*row[:5], 0.0, row[6]) for row in CLAMPED]
    fixed = verdict(rows, logit_scale=0.0, learn_logit_scale=False)
    assert fixed.cause == "clamped"
    assert "It is fixed at 0; choose a higher logit_scale" in fixed.sentence


def test_one_epoch_is_enough_for_a_verdict():
    assert verdict(RATE_1E_9[:1], learning_rate=1e-9).cause == "flat"


def test_learned_means_nearly_all_of_the_images():
    assert has_learned({"train_accuracy": PASS_ACCURACY})
    assert not has_learned({"train_accuracy": 252 / 256})
