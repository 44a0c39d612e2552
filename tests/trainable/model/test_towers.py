from pathlib import Path

import pytest
import torch
from transformers import AutoModel, ViTConfig

from trainable.model.towers import build_image_tower


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_tower_saved_in_half_precision_runs_in_single(tmp_path: Path, pretrained: bool) -> None:
    config = ViTConfig(
        image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    AutoModel.from_config(config).half().save_pretrained(tmp_path)

    tower = build_image_tower(str(tmp_path), 16, 1, pretrained=pretrained)

    assert tower(torch.zeros(2, 1, 16, 16)).dtype == torch.float32
