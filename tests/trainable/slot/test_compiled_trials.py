"""Trials of one slot whose towers are compiled, or keep fewer activations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainable.config import TrialConfig
from trainable.slot.runner import InProcessRunner

pytestmark = pytest.mark.e2e

CONFIG = TrialConfig(
    image_tower="vit-tiny", epoch_samples=64, batch_size=32, max_epochs=1, embedding_dim=8, precision="float32"
).to_dict()
TIMES = ("epoch_seconds", "images_per_second")


def trial(runner: InProcessRunner, **fields: Any) -> dict[str, Any]:
    """Run a trial of one epoch to its end; the report without the times."""
    runner.start({**CONFIG, **fields}, Path("none"))
    report = runner.run_epoch()
    assert runner.stop() is None  # it left no memory behind
    return {name: value for name, value in report.items() if name not in TIMES}


def test_the_next_trial_of_a_slot_takes_over_the_compiled_code(faces: Path, compiled_graphs: Callable[[], int]) -> None:
    runner = InProcessRunner(faces, threads=1)
    plain = trial(runner)

    first = trial(runner, compile=True)
    compiled = compiled_graphs()
    trial(runner, compile=True, learning_rate=1e-4, logit_scale=1.0, weight_init="xavier", seed=3, head_depth=2)
    again = trial(runner, compile=True)

    assert compiled >= 4  # both towers, in training and in evaluation
    assert compiled_graphs() == compiled
    assert again == first == pytest.approx(plain, rel=1e-4)


def test_a_trial_that_keeps_fewer_activations_reports_the_same(faces: Path) -> None:
    runner = InProcessRunner(faces, threads=1)
    for tower in ("vit-tiny", "resnet-tiny"):
        plain = trial(runner, image_tower=tower)
        assert trial(runner, image_tower=tower, activation_checkpointing=True) == plain
