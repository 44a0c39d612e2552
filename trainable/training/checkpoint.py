"""A trial's state in one safetensors file: tensors by name, counters as JSON in its header. No pickle."""

import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from trainable.errors import CheckpointError
from trainable.files import write_atomically
from trainable.training.parallel import held_like

FILE_NAME = "checkpoint.safetensors"


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write `folder`/checkpoint.safetensors from whole tensors on the CPU; a crash leaves the one before it."""
    metadata = {"state": json.dumps(state)}
    write_atomically(folder / FILE_NAME, lambda path: save_file(tensors, path, metadata))


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state that `write_checkpoint` took. Raises `CheckpointError`."""
    path = folder / FILE_NAME
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return tensors, json.loads(file.metadata()["state"])
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"a checkpoint must be a whole safetensors file, but {path} is not: {error}") from error


def optimizer_tensors(model: nn.Module, optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by parameter name: `optimizer/<parameter>/<key>`."""
    return {
        f"optimizer/{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(model: nn.Module, optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give `optimizer` the state that `optimizer_tensors` took.

    Moments get their parameter's memory format, because the fused optimiser walks both as raw memory, and its shards.
    """
    for name, parameter in model.named_parameters():
        prefix = f"optimizer/{name}/"
        for key, value in tensors.items():
            if key.startswith(prefix):
                is_moment = value.shape == parameter.shape
                moment = torch.empty_like(parameter).copy_(held_like(parameter, value)) if is_moment else None
                state = value.to(parameter.device, copy=True) if moment is None else moment
                optimizer.state[parameter][key.removeprefix(prefix)] = state
