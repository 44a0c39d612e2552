"""The small-data check: can a config learn a few images by heart? Whatever cannot do that cannot learn more.

The run differs from a trial in four ways, each of which would hide the answer: nothing is augmented, no weight decays,
the learning rate stays at its peak after the warm-up, and a batch holds at most a quarter of the images, so that an
epoch has four steps at least.
"""

from collections.abc import Callable
from dataclasses import replace

from trainable.config import TrialConfig
from trainable.errors import DivergedError
from trainable.training.device_data import DeviceData
from trainable.training.diagnosis import Diagnosis, diagnose, has_learned
from trainable.training.trainer import Trainer

DEFAULT_EPOCHS = 100
"""Several times what the built-in towers need at their defaults (20 epochs of 256 images)."""
HORIZON = 10
"""The schedule is laid out for this many times the epochs: over its first tenth a cosine falls by 2.4 % only."""
STEPS_PER_EPOCH = 4


def small_data_config(config: TrialConfig, images: int, *, classes: int, epochs: int) -> TrialConfig:
    """What of a config is checked: everything but augmentation, weight decay, and the end of the schedule."""
    return replace(
        config,
        augmentation=0.0,
        weight_decay=0.0,
        epoch_samples=0,
        batch_size=min(config.batch_size, max(images // STEPS_PER_EPOCH, classes, 2)),
        max_epochs=epochs * HORIZON,
        warmup_fraction=config.warmup_fraction / HORIZON,
    )


def check_small_data(
    config: TrialConfig,
    data: DeviceData,
    images: int,
    *,
    epochs: int = DEFAULT_EPOCHS,
    reported: Callable[[dict[str, float]], None] = lambda report: None,
) -> Diagnosis:
    """Train on `images` of the training split until they are learned, for `epochs` epochs at most.

    Each report is handed to `reported`; in it validation is the same images. Raises `ConfigError` where there are too
    few images or more than the split has.
    """
    few = data.overfit(images, seed=config.seed)
    checked = small_data_config(config, images, classes=len(few.classes), epochs=epochs)
    trainer = Trainer(checked, few)
    reports: list[dict[str, float]] = []
    divergence = None
    try:
        while len(reports) < epochs and not (reports and has_learned(reports[-1])):
            reports.append(trainer.run_epoch())
            reported(reports[-1])
    except DivergedError as error:
        divergence = str(error)
    return diagnose(reports, checked, classes=len(few.classes), divergence=divergence)
