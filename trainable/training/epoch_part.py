"""What the part of an epoch that is trained has come to: all that its report needs of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from trainable.training.ranks import Ranks

SUMS = "part/sums"
"""The tensor's name in a checkpoint: the rows of all ranks, (world size, 2)."""


@dataclass
class EpochPart:
    """The steps of the current epoch so far, on one rank."""

    sums: Tensor  # (2,): losses, hits; on the device
    steps: int = 0
    norm_sum: float = 0.0
    """Of the gradients' norms before clipping, which are those of all ranks."""
    seconds: float = 0.0

    @classmethod
    def none(cls, device: torch.device) -> Self:
        """Nothing done yet."""
        return cls(torch.zeros(2, device=device))

    @classmethod
    def restored(
        cls, tensors: Mapping[str, Tensor], counters: Mapping[str, Any] | None, ranks: Ranks, device: torch.device
    ) -> Self:
        """The part in a checkpoint, where there is one.

        Of another number of ranks, rank 0 takes all: every hit, and the losses such that their mean stays what it was.
        """
        if not counters:
            return cls.none(device)
        rows = tensors[SUMS]
        own = rows[ranks.rank] if len(rows) == ranks.world_size else _joined(rows, ranks)
        return cls(own.to(device, copy=True), **counters)

    def add(self, loss: Tensor, hits: Tensor, norm: float) -> None:
        """One step more."""
        self.sums += torch.stack([loss, hits.float()])
        self.norm_sum += norm
        self.steps += 1

    def tensors(self, ranks: Ranks) -> dict[str, Tensor]:
        """For a checkpoint, on all ranks alike; empty between epochs."""
        return {SUMS: ranks.collect(self.sums[None]).cpu()} if self.steps else {}

    def counters(self) -> dict[str, Any] | None:
        """For a checkpoint's JSON; None between epochs."""
        return {"steps": self.steps, "norm_sum": self.norm_sum, "seconds": self.seconds} if self.steps else None


def _joined(rows: Tensor, ranks: Ranks) -> Tensor:
    if ranks.rank:
        return torch.zeros_like(rows[0])
    losses, hits = rows.sum(dim=0)
    return torch.stack([losses * ranks.world_size / len(rows), hits])
