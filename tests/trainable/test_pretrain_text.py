import csv
import json

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModel, BertConfig, ByT5Tokenizer

from trainable.config import TrialConfig
from trainable.data.kote import LABELS
from trainable.model.dual_encoder import build_dual_encoder
from trainable.model.towers import build_text_tower
from trainable.pretrain_text import main

FEW = ["--epochs", "1", "--least-steps", "0", "--batch-size", "16"]


@pytest.fixture(scope="module")
def kote(tmp_path_factory):
    """Generated comments in KOTE's layout: two of all labels each, and the names of those as text."""
    folder = tmp_path_factory.mktemp("kote")
    random = np.random.default_rng(0)
    for split, count in (("val", 120), ("test", 30)):
        with (folder / f"{split}.tsv").open("w", encoding="utf-8", newline="") as handle:
            rows = csv.writer(handle, delimiter="\t", lineterminator="\n")
            for number in range(count):
                labels = random.permutation(len(LABELS))[:2]
                rows.writerow([number, f"{LABELS[labels[0]]} {LABELS[labels[1]]} {number}", ",".join(map(str, labels))])
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tower(kote):
    out = kote / "tower"
    assert main(["--data-path", str(kote), "--out", str(out), *FEW]) == 0
    return out


def test_the_tower_says_what_it_is_worth(tower):
    document = json.loads((tower / "quality.json").read_text(encoding="utf-8"))

    assert document["comments"] == {"source": "val.tsv", "train": 96, "held_out": 24, "test": 30}
    assert set(document["quality"]) == {"text tower", "TF-IDF"}
    for quality in document["quality"].values():
        assert set(quality) == {"mean_average_precision", "label_ranking", "macro_f1", "micro_f1"}
        assert all(0 <= value <= 1 for value in quality.values())
    assert np.diag(document["labels"]["similarity"]) == pytest.approx(np.ones(44), abs=1e-3)
    assert np.shape(document["labels"]["correlation"]) == (44, 44)
    assert -1 <= document["labels"]["rank_correlation"] <= 1
    assert Image.open(tower / "labels.png").size == (1900, 1000)


def test_a_trial_starts_from_the_tower(tower):
    config = TrialConfig(text_tower=str(tower), weight_init="pretrained")
    model = build_dual_encoder(config, image_size=24, channels=1, mean=0.5, std=0.25, classes=7)
    weights = AutoModel.from_pretrained(tower).get_input_embeddings().weight
    assert model.text_tower.has_weights
    assert model.text_tower.backbone.get_input_embeddings().weight.equal(weights)


def test_a_pretrained_tower_can_be_the_start(kote, tmp_path, capsys):
    config = BertConfig(
        vocab_size=len(ByT5Tokenizer()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=48,
    )
    AutoModel.from_config(config).save_pretrained(tmp_path / "start")
    ByT5Tokenizer().save_pretrained(tmp_path / "start")
    arguments = ["--data-path", str(kote), "--out", str(tmp_path / "out"), "--text-tower", str(tmp_path / "start")]

    assert main([*arguments, "--language", "ko", "--learning-rate", "1e-3", "--distillation", "0", *FEW]) == 0

    trained, start = (build_text_tower(str(tmp_path / name), pretrained=True) for name in ("out", "start"))
    assert trained.width == 16
    moved = trained.backbone.embeddings.word_embeddings.weight - start.backbone.embeddings.word_embeddings.weight
    assert 0 < moved.abs().max() < 0.1
    assert "TF-IDF" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--held-out", "1"], "0 < --held-out < 1 must hold, but got 1.0"),
        (["--epochs", "0"], "epochs > 0 must hold, but got 0"),
        (["--text-tower", "nowhere/at-all"], "nowhere/at-all"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(kote, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["--data-path", str(kote), "--out", str(tmp_path / "new"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_folder_that_exists_is_left_alone(kote, tmp_path, capsys):
    assert main(["--data-path", str(kote), "--out", str(tmp_path)]) == 2
    assert "--out must not exist yet" in capsys.readouterr().err
