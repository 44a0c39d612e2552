"""One model on several ranks: copied to each, or sharded over them."""

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.resnet.modeling_resnet import ResNetStage

from trainable.config import TrialConfig
from trainable.model.dual_encoder import DualEncoder
from trainable.model.tower_options import CheckpointedStage
from trainable.model.towers import IMAGE_TOWERS, TEXT_TOWERS
from trainable.training.ranks import Ranks
from trainable.training.sync_batch_norm import synchronise_batch_norms

LAYERS = (GradientCheckpointingLayer, ResNetStage, CheckpointedStage)
"""Parts of towers that are gathered, used and given back one after another."""


def distribute(model: DualEncoder, config: TrialConfig, ranks: Ranks, device: torch.device) -> nn.Module:
    """Bring a model to its device and to all ranks; returns what to call in training.

    On one rank that is the model itself, whatever `config.parallelism` is.
    """
    if ranks.world_size == 1:
        return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    synchronise_batch_norms(model, ranks, device)
    if config.parallelism == "fsdp":
        return _sharded(model.to(device), ranks)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _replicated(model, config, ranks)


def _replicated(model: DualEncoder, config: TrialConfig, ranks: Ranks) -> nn.Module:
    """DDP (arXiv 2006.15704) around the model, whose gradients cross ranks the way that everything else does.

    A tower from a hub may have weights that no loss reaches, such as an unused pooler; DDP then has to look for them
    in every step.
    """
    from_scratch = config.image_tower in IMAGE_TOWERS and config.text_tower in TEXT_TOWERS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # torch 2.13; 2.9 has no other
        replica = DistributedDataParallel(
            model, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=not from_scratch
        )
    if ranks.shared_memory is not None:
        replica.register_comm_hook(ranks, _average)
    return replica


def _average(
    ranks: Ranks,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """A bucket of gradients, averaged over the ranks: DDP's communication hook."""
    averaged: torch.futures.Future[Tensor] = torch.futures.Future()
    with record_function("exchange: gradients"):
        averaged.set_result(ranks.sum(bucket.buffer()).div_(ranks.world_size))
    return averaged


def _sharded(model: DualEncoder, ranks: Ranks) -> nn.Module:
    """FSDP2 (arXiv 2304.11277) on each layer of the towers, and on the rest as a whole.

    It shards contiguous weights alone, so convolutions are not in channels_last. All weights are given back after each
    use, also those of the root, which `state_dict` and the optimizer would otherwise find whole after an evaluation.
    """
    mesh = init_device_mesh(next(model.parameters()).device.type, (ranks.world_size,))
    layers = [part for part in model.modules() if isinstance(part, LAYERS)]
    for part in [*layers, model]:
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    for name in ("encode_images", "encode_texts"):
        register_fsdp_forward_method(model, name)
    return model


def exchanging_gradients(model: nn.Module, *, now: bool) -> AbstractContextManager[None]:
    """Around a forward and backward pass: whether the ranks' gradients are averaged at its end, or left to add up."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not now else nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor from all its shards, the same on all ranks; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_tensors(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """On the first rank all tensors, whole and on the CPU; none on the others, which must call it too."""
    kept = {}
    for name, tensor in tensors.items():
        value = whole(tensor.detach())
        if ranks.rank == 0:
            kept[name] = value.cpu().contiguous()
    return kept


def held_like(tensor: Tensor, value: Tensor) -> Tensor:
    """A whole `value` as this rank holds `tensor`: sharded where that is."""
    if not isinstance(tensor, DTensor):
        return value
    return distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None)
