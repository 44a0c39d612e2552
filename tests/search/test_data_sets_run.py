"""The command on AffectNet's eight classes and on KOTE's 44 labels, to predictions of the best model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.run import main
from tests.trainable.data.test_affectnet import write_folders as write_affectnet
from tests.trainable.test_data_sets import write_kote
from trainable.data.vocabulary import VOCABULARIES, canonical_name
from trainable.predict import main as predict

KOTE = VOCABULARIES["kote44"]
UNSEEN = KOTE[::4], KOTE[1::4]
"""A quarter of KOTE's labels for validation, another for the test."""


@pytest.mark.e2e
@pytest.mark.usefixtures("free_resources", "ray_cluster")
@pytest.mark.parametrize(
    ("dataset", "write", "labels", "flags"),
    [
        ("affectnet", write_affectnet, "affectnet8", ["--metric", "balanced_accuracy"]),
        ("folder", write_kote, "kote44", ["--metric", "unseen_accuracy", "--unseen", ":".join(map(",".join, UNSEEN))]),
    ],
)
def test_its_labels_are_searched_and_predicted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dataset: str,
    write: Callable[[Path], Path],
    labels: str,
    flags: list[str],
) -> None:
    where = ["--dataset", dataset, "--data-path", str(write(tmp_path / "data")), "--storage", str(tmp_path)]
    sets = [part for one in ("epoch_samples=44", "batch_size=22", "embedding_dim=8") for part in ("--set", one)]
    budget = ["--algo", "random", "--trials", "1", "--max-epochs", "1", "--set", "language=ko"]
    assert main([*where, "--name", "x", *flags, *sets, *budget]) == 0

    best = json.loads((tmp_path / "x" / "best.json").read_text())
    unseen = {canonical_name(name) for group in (best.get("unseen") or {}).values() for name in group}
    assert unseen == ({name for group in UNSEEN for name in group} if dataset == "folder" else set())
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)).save(picture)
    capsys.readouterr()
    model = str(tmp_path / "x" / "best")
    assert predict(["--model", model, "--labels", labels, "--top", "44", "--json", str(picture)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {canonical_name(guess["label"]) for guess in answer["predictions"]} == set(VOCABULARIES[labels])
    assert sum(guess["probability"] for guess in answer["predictions"]) == pytest.approx(1, abs=1e-4)
