"""What a config may ask of towers that are built: activation checkpointing and compiled code.

Neither changes what a tower computes, nor the names of its weights; compiled dropout draws other random numbers.
"""

import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from transformers import ResNetModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainable.config import TrialConfig
from trainable.errors import ConfigError
from trainable.model.dual_encoder import DualEncoder

RECOMPILE_LIMIT = 64
"""Most variants of a tower's code that one process keeps; torch's own 8 are soon spent, since all image towers of a
search share them, each with one for training, one for evaluation and one for batches that vary."""


def apply_tower_options(model: DualEncoder, config: TrialConfig, device: torch.device) -> None:
    """Switch on what the config asks for, on a model whose weights lie on `device`.

    Raises `ConfigError` where a tower cannot checkpoint its activations, or nothing can be compiled for `device`.
    """
    if config.activation_checkpointing:
        checkpoint_activations(model.image_tower.backbone, "image_tower", config.image_tower)
        checkpoint_activations(model.text_tower.backbone, "text_tower", config.text_tower)
    if config.compile:
        _require_no_sharded_convolutions(model.image_tower.backbone, config)
        require_compiler(device)
        model.image_tower.compile(recompile_limit=RECOMPILE_LIMIT)
        model.text_tower.compile(recompile_limit=RECOMPILE_LIMIT)


def checkpoint_activations(backbone: nn.Module, field: str, name: str) -> None:
    """Let each layer of a backbone keep its input alone, and compute the rest again in the backward pass.

    See arXiv 1604.06174. Raises `ConfigError` that names the tower where its backbone cannot do so.
    """
    if isinstance(backbone, ResNetModel):
        stages: Any = backbone.encoder.stages
        for i, stage in enumerate(stages):
            stages[i] = CheckpointedStage(stage.layers)
        return
    backbone.config.use_cache = False  # type: ignore[union-attr]  # states of a text to be continued, which none is
    try:
        _require_no_running_statistics(backbone)
        backbone.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    except (AttributeError, ValueError) as error:
        reason = str(error).strip().rstrip(".")
        raise ConfigError(
            f"activation_checkpointing must have towers that support it, but {field} {name!r} does not ({reason}); "
            "choose another tower or activation_checkpointing=false."
        ) from error


class CheckpointedStage(nn.Module):
    """A ResNet stage whose blocks keep their inputs alone, under the same names of weights."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, states: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, more channels, H', W')."""
        for block in self.layers:
            states = _checkpointed(block, states) if self.training else block(states)
        return states


def _checkpointed(block: nn.Module, states: Tensor) -> Tensor:
    """The block's output; a second pass through it counts nothing into the running statistics of batch norms.

    Compiled code needs no such care: of a second pass it holds what the gradient needs alone.
    """
    passes = itertools.count()

    def run(states: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or next(passes) == 0:
            return block(states)
        with buffers_kept(block):
            return block(states)

    return checkpoint(run, states, use_reentrant=False)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Give the buffers of `module` back the values that they had, running statistics above all."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def _require_no_running_statistics(backbone: nn.Module) -> None:
    layers = [layer for layer in backbone.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if any(isinstance(part, _BatchNorm) for layer in layers for part in layer.modules()):
        raise ValueError("its layers hold batch norms, whose running statistics would count each batch twice")


def _require_no_sharded_convolutions(backbone: nn.Module, config: TrialConfig) -> None:
    """Shards part the compiled code between a ResNet's stages, which torch 2.13 then fails to differentiate."""
    if config.parallelism == "fsdp" and isinstance(backbone, ResNetModel):
        raise ConfigError(
            f"compile must go with parallelism=ddp where the image tower is a ResNet, such as {config.image_tower!r}, "
            "but parallelism is fsdp; choose ddp, a ViT, or compile=false."
        )


@functools.cache
def require_compiler(device: torch.device) -> None:
    """Compile a few operations for `device`, once per process. Raises `ConfigError` where that fails."""
    try:
        torch.compile(_probe, options={"fx_graph_cache": False})(torch.ones(16, device=device))
    except torch._dynamo.exc.TorchDynamoException as error:
        needed = "g++ and Python's headers" if device.type == "cpu" else "triton, gcc and Python's headers"
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ConfigError(
            f"compile must have {needed} where trials run, but nothing could be compiled for {device} ({reason}); "
            "install them or choose compile=false."
        ) from error


def _probe(values: Tensor) -> Tensor:
    return (values.sin() + values).relu()
