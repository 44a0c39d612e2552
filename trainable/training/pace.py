"""When an epoch is cut, so that a checkpoint can be written within it: at one step on all ranks."""

import time
from collections.abc import Callable

import torch

from trainable.training.ranks import Ranks

LOOK_SECONDS = 1.0
"""How often several ranks agree, about: each time takes one exchange of two numbers."""


class Pace:
    """Says after each step whether work is to be cut: after `limit_seconds`, or as soon as it is `wanted` on any rank.

    A rank alone looks after every step. Several agree: rank 0 alone goes by its clock, and says with each look after
    how many steps the next one comes, as many as it did of late in `LOOK_SECONDS`. All ranks must ask after the same
    steps. The work of a step is cut before the limit is over, if no step takes longer than `LOOK_SECONDS`.
    """

    def __init__(
        self,
        ranks: Ranks,
        device: torch.device,
        *,
        limit_seconds: float | None = None,
        wanted: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ranks = ranks
        self._device = device
        self._limit = limit_seconds
        self._wanted = wanted
        self._clock = clock
        self._began = self._looked = clock()
        self._stride = self._left = 1

    def is_over(self, ahead_seconds: float = 0.0) -> bool:
        """Whether to cut after this step; `ahead_seconds` is how long what comes next cannot be cut.

        It must be 0 on all ranks, or on none: with it the ranks agree now.
        """
        if self._ranks.world_size == 1:
            return self._wants_cut(ahead_seconds)
        self._left -= 1
        if self._left > 0 and not ahead_seconds:
            return False
        first = self._ranks.rank == 0
        mine = [float(self._wants_cut(ahead_seconds)), float(self._next_stride()) if first else 0.0]
        cuts, stride = self._ranks.sum(torch.tensor(mine, dtype=torch.float64, device=self._device)).tolist()
        self._stride = self._left = int(stride)
        return cuts > 0

    def _wants_cut(self, ahead_seconds: float) -> bool:
        if self._wanted():
            return True
        if self._limit is None or self._ranks.rank != 0:
            return False
        return self._clock() - self._began + ahead_seconds + LOOK_SECONDS >= self._limit

    def _next_stride(self) -> int:
        """How many steps take `LOOK_SECONDS`; at most twice as many as last time, for the first ones say little."""
        now = self._clock()
        seconds, self._looked = now - self._looked, now
        steps = self._stride - max(0, self._left)
        return max(1, min(2 * self._stride, int(steps * LOOK_SECONDS / max(seconds, 1e-9))))
