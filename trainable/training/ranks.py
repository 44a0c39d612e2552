"""The processes that train one trial together, and what they exchange."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainable.training.shared_memory import SharedMemory


@dataclass(frozen=True)
class Ranks:
    """This process among those of its trial. All of them must make the same exchanges in the same order.

    With one rank every exchange is the identity, and no process group is needed.
    """

    rank: int = 0
    world_size: int = 1
    shared_memory: SharedMemory | None = field(default=None, repr=False, compare=False)
    """Takes the place of the process group for tensors on the CPU, where all ranks are on one machine."""

    @classmethod
    def current(cls) -> "Ranks":
        """This process's place in torch's default process group; one rank where there is none.

        The first call on a group is an exchange: all ranks must make it.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return _ranks_of(dist.distributed_c10d._get_default_group())

    @property
    def exchanges(self) -> int:
        """How many exchanges this rank has begun with the others; torch counts those of its groups itself."""
        if self.world_size == 1:
            return 0
        group: Any = dist.distributed_c10d._get_default_group()
        begun = int(group._get_sequence_number_for_group())
        return begun + (0 if self.shared_memory is None else self.shared_memory.rounds)

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
        rows = self._gathered(values)
        return rows.flatten(0, 1) if values.ndim else rows

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the ranks, without gradient and without changing `values`."""
        if self.world_size == 1:
            return values
        if self._through_memory(values):
            assert self.shared_memory is not None
            return self.shared_memory.sum(values)
        total = values.clone()
        dist.all_reduce(total)
        return total

    def own_share_of_sum(self, values: Tensor) -> Tensor:
        """This rank's rows of the sum over the ranks: (G, ...) -> (B, ...)."""
        if self._through_memory(values):
            return self.sum(values).chunk(self.world_size)[self.rank]
        shares = values.contiguous().chunk(self.world_size)
        own = torch.empty_like(shares[self.rank])
        dist.reduce_scatter(own, list(shares))
        return own

    def _through_memory(self, values: Tensor) -> bool:
        return self.shared_memory is not None and values.device.type == "cpu"

    def _gathered(self, values: Tensor) -> Tensor:
        """The values of all ranks: (...) -> (world size, ...)."""
        if self._through_memory(values):
            assert self.shared_memory is not None
            return self.shared_memory.gather(values)
        rows = values.new_empty((self.world_size, *values.shape))
        dist.all_gather(list(rows), values.contiguous())
        return rows


ONE_RANK = Ranks()


@cache
def _ranks_of(group: Any) -> Ranks:
    """The ranks of a process group, connected once."""
    rank, world_size = dist.get_rank(group), dist.get_world_size(group)
    on_cpu = dist.get_backend(group) == "gloo" and world_size > 1
    return Ranks(rank, world_size, SharedMemory.connect(rank, world_size) if on_cpu else None)


class _Gather(torch.autograd.Function):
    """All-gather; the functional collectives of torch 2.13 do the same on gloo in three times the time."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.collect(features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.own_share_of_sum(gradient), None
