from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainable.config import TrialConfig
from trainable.data.vocabulary import prompts
from trainable.errors import ConfigError
from trainable.model.dual_encoder import build_dual_encoder
from trainable.model.label_vectors import write_label_vectors
from trainable.model.towers import build_text_tower

VECTORS = {"fear": np.array([3.0, 0.0, 4.0]), "disgust": np.array([0.0, 0.1, 0.0])}


def test_every_prompt_of_a_class_gives_its_vector(tmp_path: Path) -> None:
    write_label_vectors(tmp_path, VECTORS)
    tower = build_text_tower(str(tmp_path), pretrained=True)

    for name, lines in zip(VECTORS, prompts(list(VECTORS), "both"), strict=True):
        features = tower(*tower.tokenize(lines))
        expected = torch.tensor(VECTORS[name]).float().expand(len(lines), 3)
        torch.testing.assert_close(F.normalize(features), F.normalize(expected), atol=1e-4, rtol=0)


def test_prompts_of_other_classes_are_refused(tmp_path: Path) -> None:
    write_label_vectors(tmp_path, VECTORS)

    with pytest.raises(ConfigError, match="unknown to the tokenizer"):
        build_text_tower(str(tmp_path), pretrained=True).tokenize(["a sad face"])


def test_the_table_keeps_its_values_in_a_model_that_freezes_it(tmp_path: Path) -> None:
    write_label_vectors(tmp_path, VECTORS)
    config = TrialConfig(text_tower=str(tmp_path), weight_init="pretrained", freeze="text")

    model = build_dual_encoder(config, image_size=24, channels=1, mean=0.5, std=0.25, classes=2)

    assert not any(weight.requires_grad for weight in model.text_tower.parameters())
    assert model.text_head[0].weight.requires_grad


@pytest.mark.parametrize("wrong", [np.zeros(3), np.array([np.nan, 1, 1]), np.ones(2)])
def test_vectors_that_say_nothing_or_differ_in_length_are_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="label vector"):
        write_label_vectors(tmp_path, {**VECTORS, "sad": wrong})
