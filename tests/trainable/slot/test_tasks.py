"""The probe of configs that several workers will train together."""

from pathlib import Path
from typing import Any

import pytest

from trainable.config import TrialConfig
from trainable.slot.tasks import probe_configs
from trainable.training import trainer

CONFIG = TrialConfig(embedding_dim=16, epoch_samples=280, max_epochs=5).to_dict()


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "workers", "rows"), [(64, 1, 1, 64), (64, 4, 2, 32), (2, 1, 2, 2)]
)
def test_a_probe_trains_one_workers_share_of_one_batch(
    faces: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, accumulation: int, workers: int, rows: int
) -> None:
    probed: list[TrialConfig] = []

    class Recorder:
        def __init__(self, config: TrialConfig, data: Any) -> None:
            probed.append(config)

        def train_epoch(self) -> None:
            pass

    monkeypatch.setattr(trainer, "Trainer", Recorder)
    asked = {**CONFIG, "batch_size": batch_size, "accumulation": accumulation, "parallelism": "fsdp"}
    assert probe_configs(str(faces), [asked], workers, threads=1, gpu=False) == []

    changed = {"batch_size": rows, "epoch_samples": rows, "max_epochs": 1, "parallelism": "ddp"}
    assert [config.to_dict() for config in probed] == [{**asked, **changed}]


@pytest.mark.e2e
def test_a_config_for_sharded_workers_is_probed_by_one_process(faces: Path) -> None:
    sharded = {**CONFIG, "parallelism": "fsdp", "batch_size": 32, "accumulation": 2}

    assert probe_configs(str(faces), [sharded], 4, threads=1, gpu=False) == []


def test_a_probe_refuses_a_batch_that_does_not_divide(faces: Path) -> None:
    uneven = {**CONFIG, "batch_size": 24, "accumulation": 5}
    (failure,) = probe_configs(str(faces), [uneven], 2, threads=1, gpu=False)

    assert failure["user_error"]
    assert failure["config"] == uneven
