"""How a model is brought to several ranks, as far as one process shows it; the rest is in test_parity.py."""

import pytest
import torch
from torch import nn

from trainable.config import TrialConfig
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.model.tower_options import apply_tower_options
from trainable.training.parallel import LAYERS, distribute, held_like, whole, whole_tensors
from trainable.training.ranks import ONE_RANK, Ranks


def build(**fields: object) -> DualEncoder:
    config = TrialConfig.from_dict(fields)
    model = build_dual_encoder(config, image_size=48, channels=1, mean=0.5, std=0.25, classes=7)
    apply_tower_options(model, config, torch.device("cpu"))
    return model


@pytest.mark.parametrize("parallelism", ["ddp", "fsdp"])
def test_on_one_rank_the_model_is_called_as_it_is(parallelism: str) -> None:
    model = build()
    assert distribute(model, TrialConfig(parallelism=parallelism), ONE_RANK, torch.device("cpu")) is model


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("tower", "layers"), [("resnet-tiny", 4), ("vit-tiny", 4)])
def test_what_is_sharded_apart_holds_nearly_all_of_an_image_tower(tower: str, layers: int, checkpointing: bool) -> None:
    model = build(image_tower=tower, activation_checkpointing=checkpointing).image_tower
    apart = [part for part in model.modules() if isinstance(part, LAYERS)]

    assert len(apart) == layers
    assert sum(map(size, apart)) > 0.95 * size(model)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_tensor_that_is_not_sharded_is_whole_and_held_as_it_is() -> None:
    tensor = torch.arange(3.0)

    assert whole(tensor) is tensor
    assert held_like(torch.zeros(3), tensor) is tensor


def test_whole_tensors_are_kept_by_the_first_rank_alone() -> None:
    tensors = {"weight": torch.ones(2, 3).t().requires_grad_()}

    kept = whole_tensors(tensors, Ranks(0, 2))
    assert kept["weight"].is_contiguous()
    assert not kept["weight"].requires_grad
    assert whole_tensors(tensors, Ranks(1, 2)) == {}
