"""Exchanges between CPU ranks of one machine, in memory that all of them map.

Gloo sends even a few numbers through sockets and hands each over between threads, which takes a millisecond or more
where processors fall asleep in between. A ResNet's batch statistics cross ranks two dozen times a step, so here a rank
writes its rows, says so by a counter, and watches the counters of the others.
"""

import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.profiler import record_function

FOLDER = Path("/dev/shm")
SLOT_BYTES = 2**20
"""What a rank hands over at one time; more goes in several pieces."""
LINE_BYTES = 64
"""A cache line, so that no two ranks write to the same one."""
WATCH_SECONDS = 0.02
"""How long a rank watches without sleeping."""
NAP_SECONDS = 1e-4
TIMEOUT_SECONDS = 1800.0
"""Gloo's own limit."""
PROFILED = "exchange: shared memory"
"""The name of an exchange in torch's profiler."""
ORDERED = ("x86_64", "AMD64")
"""Processors that let others see stores in the order in which they were made, which the counters rely on."""


class SharedMemory:
    """A place for each rank's rows, twice: one round may be read while the next is written."""

    def __init__(self, path: Path, rank: int, world_size: int) -> None:
        self._rank = rank
        self._round = 0
        counters = LINE_BYTES * world_size
        size = counters + 2 * world_size * SLOT_BYTES
        memory = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
        self._counters = memory[:counters].view(world_size, LINE_BYTES).view(torch.int64)[:, 0].numpy()
        self._slots = memory[counters:].view(2, world_size, SLOT_BYTES)

    @classmethod
    def connect(cls, rank: int, world_size: int) -> Self | None:
        """Called by all ranks of the default process group at one time; None on all where one cannot take part."""
        proposed: list[Path | None] = [_create(world_size) if rank == 0 else None]
        dist.broadcast_object_list(proposed, src=0)
        path = proposed[0]
        memory = None if path is None else cls._open(path, rank, world_size)
        joined: list[bool] = [False] * world_size
        dist.all_gather_object(joined, memory is not None)
        if rank == 0 and path is not None:
            path.unlink(missing_ok=True)  # all have mapped it: nothing is left behind, however they end
        return memory if all(joined) else None

    @classmethod
    def _open(cls, path: Path, rank: int, world_size: int) -> Self | None:
        if platform.machine() not in ORDERED or not path.exists():
            return None
        return cls(path, rank, world_size)

    @property
    def rounds(self) -> int:
        """Exchanges that this rank has begun."""
        return self._round

    def gather(self, values: Tensor) -> Tensor:
        """The values of all ranks, in rank order: (...) -> (world size, ...). Raises `TimeoutError`."""
        with record_function(PROFILED):
            own = values.detach().contiguous().view(-1).view(torch.uint8)
            pieces = [self._exchange(piece).clone() for piece in own.split(SLOT_BYTES)]
            rows = torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]
            return rows.view(values.dtype).view(len(rows), *values.shape)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, the same to the last bit on each: (...) -> (...). Raises `TimeoutError`."""
        with record_function(PROFILED):
            own = values.detach().contiguous()
            total = torch.empty_like(own)
            numbers = SLOT_BYTES // values.element_size()
            for piece, out in zip(own.view(-1).split(numbers), total.view(-1).split(numbers), strict=True):
                torch.sum(self._exchange(piece.view(torch.uint8)).view(values.dtype), dim=0, out=out)
            return total

    def _exchange(self, own: Tensor) -> Tensor:
        """One piece: (bytes,) -> (world size, bytes), to be read before the next exchange."""
        self._round += 1
        slots = self._slots[self._round % 2, :, : len(own)]
        slots[self._rank] = own
        self._counters[self._rank] = self._round
        self._wait_for_all()
        return slots

    def _wait_for_all(self) -> None:
        start = time.monotonic()
        while self._counters.min() < self._round:
            waited = time.monotonic() - start
            if waited < WATCH_SECONDS:
                os.sched_yield()
            elif waited < TIMEOUT_SECONDS:
                time.sleep(NAP_SECONDS)
            else:
                raise TimeoutError(f"the other ranks must join an exchange within {TIMEOUT_SECONDS:g} s, but did not")


def _create(world_size: int) -> Path | None:
    """A file of zeros that the ranks will map; None where there is no room for it."""
    size = LINE_BYTES * world_size + 2 * world_size * SLOT_BYTES
    try:
        handle, name = tempfile.mkstemp(prefix="glance-ranks-", dir=FOLDER)
    except OSError:
        return None
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError:
        Path(name).unlink()
        return None
    finally:
        os.close(handle)
    return Path(name)
