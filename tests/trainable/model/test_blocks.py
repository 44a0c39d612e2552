import pytest
import torch
from torch import nn
from transformers import AutoModel, BertConfig, CLIPVisionConfig, ResNetConfig, ViTConfig

from trainable.config import TrialConfig
from trainable.errors import ConfigError
from trainable.model.blocks import levels_of, rate_factors
from trainable.model.dual_encoder import build_dual_encoder
from trainable.training.trainer import build_optimizer

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
BACKBONES = {
    "vit": (ViTConfig(image_size=16, patch_size=8, **SIZES), 3),
    "clip": (CLIPVisionConfig(image_size=16, patch_size=8, **SIZES), 3),
    "bert": (BertConfig(vocab_size=9, **SIZES), 3),
    "resnet": (ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[2, 1], layer_type="basic"), 2),
}


@pytest.mark.parametrize("kind", sorted(BACKBONES))
def test_every_weight_has_its_level(kind: str) -> None:
    config, blocks = BACKBONES[kind]
    backbone = AutoModel.from_config(config)
    levels = levels_of(backbone, "the tower")
    names = {weight: name for name, weight in backbone.named_parameters()}

    assert levels.blocks == blocks
    assert set(levels.of) == set(names)
    for weight, level in levels.of.items():
        name = names[weight]
        if 1 <= level <= blocks:
            assert f".{level - 1}." in f".{name}"
        else:
            assert any(part in name for part in (("embed", "pre_layrnorm") if level == 0 else ("norm", "pooler")))
    assert {0, 1, blocks} <= set(levels.of.values())


def test_each_block_learns_a_share_of_the_rate_of_the_one_above_it() -> None:
    backbone = AutoModel.from_config(BACKBONES["vit"][0], add_pooling_layer=False)
    levels = levels_of(backbone, "the tower").of
    factors = dict(rate_factors(backbone, "the tower", 0.5, 0.8))
    by_level = {level: {round(factors[w], 9) for w, own in levels.items() if own == level} for level in range(5)}
    assert by_level == {level: {round(0.5 * 0.8 ** (4 - level), 9)} for level in range(5)}


def test_a_tower_without_blocks_has_no_levels() -> None:
    with pytest.raises(ConfigError, match=r"must have a tower of blocks, but text_tower 'x' has none"):
        levels_of(nn.Sequential(nn.Linear(2, 2)), "text_tower 'x'")
    assert len(dict(rate_factors(nn.Linear(2, 2), "text_tower 'x'", 1.0, 1.0))) == 2


def test_towers_and_heads_have_rates_of_their_own_and_what_is_frozen_no_state() -> None:
    config = TrialConfig(image_learning_rate_factor=0.3, text_learning_rate_factor=0.2, layer_decay=0.5)
    model = build_dual_encoder(config, image_size=48, channels=1, mean=0.5, std=0.25, classes=7)
    model.text_tower.freeze(1, "text_tower")
    optimizer = build_optimizer(model, config)

    names = {weight: name for name, weight in model.named_parameters()}
    factor = {names[w]: group["factor"] for group in optimizer.param_groups for w in group["params"]}
    assert factor["image_head.0.weight"] == factor["logit_scale"] == 1.0
    assert factor["image_tower.backbone.encoder.stages.3.layers.0.layer.0.convolution.weight"] == pytest.approx(0.15)
    assert factor["image_tower.backbone.embedder.embedder.convolution.weight"] == pytest.approx(0.3 * 0.5**5)
    text = {name for name in factor if name.startswith("text_tower.")}
    assert {name.split(".")[4] for name in text} == {"1"}
    assert {factor[name] for name in text} == {0.1}

    images, (tokens, mask) = torch.rand(2, 1, 48, 48), model.text_tower.tokenize(["happy", "sad"])
    sum(output.sum() for output in model(images, tokens, mask)[:2]).backward()
    optimizer.step()
    assert {names[w] for w in optimizer.state} == set(factor) - {"logit_scale"}
    assert all(w.grad is None for w, name in names.items() if name not in factor)
