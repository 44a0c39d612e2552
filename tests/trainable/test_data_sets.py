"""Each data set's labels, from its files over a few steps of training to predictions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainable.data.test_affectnet import write_folders as write_affectnet
from tests.trainable.data.test_ferplus import write_csv as write_ferplus
from trainable.config import TrialConfig
from trainable.data.preparation import prepare_store
from trainable.data.source import PrepareOptions
from trainable.data.store import Store
from trainable.data.vocabulary import VOCABULARIES, canonical_name
from trainable.predict import main as predict
from trainable.training.device_data import DeviceData
from trainable.training.predictor import save_model
from trainable.training.trainer import Trainer

CONFIG = TrialConfig(epoch_samples=88, batch_size=88, embedding_dim=16, language="ko", augmentation=0.0)


def write_kote(root: Path) -> Path:
    """Folders named by KOTE's 44 labels, with _ for / in them, and three pictures each."""
    for number, label in enumerate(VOCABULARIES["kote44"]):
        folder = root / label.replace("/", "_")
        folder.mkdir(parents=True)
        for picture in range(3):
            pixels = np.random.default_rng((number, picture)).integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{picture}.png")
    return root


@pytest.mark.parametrize(
    ("dataset", "write", "vocabulary", "soft"),
    [
        ("affectnet", write_affectnet, "affectnet8", False),
        ("ferplus", write_ferplus, "affectnet8", False),
        ("ferplus", write_ferplus, "affectnet8", True),
        ("folder", write_kote, "kote44", False),
    ],
)
def test_its_labels_are_trained_and_predicted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dataset: str,
    write: Callable[[Path], Path],
    vocabulary: str,
    soft: bool,
) -> None:
    write(tmp_path / "data")
    options = PrepareOptions(image_size=16)
    store = Store.open(prepare_store(dataset, tmp_path / "data", options=options, progress=False))
    assert {canonical_name(name) for name in store.manifest.classes} == set(VOCABULARIES[vocabulary])

    config = TrialConfig.from_dict(CONFIG.to_dict() | {"soft_targets": soft})
    trainer = Trainer(config, DeviceData(store, torch.device("cpu")))
    assert trainer.run_epoch()["epoch"] == 1
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", trainer.model, config, trainer.data, epoch=1)
    picture = tmp_path / "picture.png"
    Image.fromarray(store.split("test").images[0]).save(picture)
    assert predict(["--model", str(tmp_path / "model"), "--top", "99", "--json", str(picture)]) == 0
    (answer,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert {guess["label"] for guess in answer["predictions"]} == set(store.manifest.classes)
    assert sum(guess["probability"] for guess in answer["predictions"]) == pytest.approx(1, abs=1e-4)
