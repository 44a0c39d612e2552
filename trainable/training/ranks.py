"""The processes that train one trial together, and what they exchange."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Ranks:
    """This process among those of its trial. All of them must make the same exchanges in the same order.

    With one rank every exchange is the identity, and no process group is needed.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def current(cls) -> "Ranks":
        """This process's place in torch's default process group; one rank where there is none."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def gather(self, features: Tensor) -> Tensor:
        """The rows of all ranks, in rank order, with gradient: (B, ...) -> (G, ...).

        The gradient of a row is the sum over the ranks of what each made of it. DDP averages the weights' gradients
        over the ranks, so what is minimised is the mean of the ranks' losses, with no factor of the world size.
        """
        return features if self.world_size == 1 else _Gather.apply(features.contiguous(), self)

    def collect(self, values: Tensor) -> Tensor:
        """The rows of all ranks, in rank order, without gradient: (B, ...) -> (G, ...)."""
        if self.world_size == 1:
            return values
        rows = values.new_empty((self.world_size, *values.shape))
        dist.all_gather(list(rows), values.contiguous())
        return rows.flatten(0, 1) if values.ndim else rows

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the ranks, without gradient and without changing `values`."""
        if self.world_size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total


ONE_RANK = Ranks()


class _Gather(torch.autograd.Function):
    """All-gather; the functional collectives of torch 2.13 do the same on gloo in three times the time."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.collect(features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        own = gradient.new_empty((len(gradient) // ctx.ranks.world_size, *gradient.shape[1:]))
        dist.reduce_scatter(own, list(gradient.contiguous().chunk(ctx.ranks.world_size)))
        return own, None
