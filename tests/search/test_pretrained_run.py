"""A whole search with towers of their own on votes: the command, Ray, and predictions with its best model."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.run import main
from tests.trainable.data.test_ferplus import write_csv
from tests.trainable.model.test_pretrained import write_vit
from tests.trainable.model.test_tokenizers import SPECIAL, write_kobert
from trainable.data.vocabulary import VOCABULARIES, prompts
from trainable.model.pretrained import Preprocessing
from trainable.predict import main as predict

pytestmark = pytest.mark.e2e


@pytest.mark.usefixtures("free_resources", "ray_cluster")
def test_half_frozen_towers_learn_from_votes_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {letter for label in ("affectnet8", "kote44") for letter in _letters(label)}
    image, text = write_vit(tmp_path / "vit"), write_kobert(tmp_path / "kobert", [*SPECIAL, "▁", *sorted(words)])
    Preprocessing(32, (0.5,) * 3, (0.25,) * 3).write(tmp_path / "vit")
    flags = ["--dataset", "ferplus", "--data-path", str(write_csv(tmp_path / "data")), "--storage", str(tmp_path)]
    towers = [f"image_tower={image}", f"text_tower={text}", "freeze=choice(both:1,text)", "layer_decay=0.5"]
    fixed = ["language=ko", "soft_targets=true", "batch_size=8", "embedding_dim=8"]
    sets = [part for one in (*towers, *fixed) for part in ("--set", one)]
    budget = ["--trials", "2", "--max-epochs", "1", "--max-concurrent", "1"]

    assert main([*flags, "--space", "pretrained", "--name", "votes", *sets, *budget]) == 0

    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)).save(picture)
    capsys.readouterr()
    best = str(tmp_path / "votes" / "best")
    assert predict(["--model", best, "--labels", "kote44", "--top", "44", "--json", str(picture)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len({guess["label"] for guess in answer["predictions"]}) == 44


def _letters(vocabulary: str) -> set[str]:
    return {
        letter for row in prompts(VOCABULARIES[vocabulary], "ko") for line in row for letter in line if letter != " "
    }
