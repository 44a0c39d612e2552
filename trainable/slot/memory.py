"""Whether a trial gave its memory back."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_STATM = Path("/proc/self/statm")

HOST_MARGIN_BYTES = 512 * 2**20
"""Growth of the memory over the baseline that is no leak: allocator caches, trials of different sizes."""
DEVICE_MARGIN_BYTES = 64 * 2**20
"""The same for CUDA tensors, which a released trial gives back to the last byte."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that this process holds."""

    host_bytes: int
    """Resident set without the pages of mapped files, which the system takes back; 0 where it does not tell."""
    device_bytes: int
    """CUDA tensors that are alive; 0 without a GPU."""


class MemoryGuard:
    """Compares the footprint after each trial with the one after the first that came to a report.

    That one sets the baseline, because it paid once for imports, caches and data on the device; a trial that failed
    before may not have. `measure` is what reads the footprint, after the garbage was collected.
    """

    def __init__(self, measure: "Callable[[], Footprint] | None" = None) -> None:
        self._measure = measure or measure_footprint
        self._baseline: Footprint | None = None

    def leak(self, *, reported: bool) -> str | None:
        """Call after a trial, which `reported` or did not, was released; says what grew past its margin, or None."""
        now = self._measure()
        if self._baseline is None:
            if not reported:
                return None
            self._baseline = now
            gc.freeze()  # what lives now, imports above all, need not be looked through after each trial
        host_growth = now.host_bytes - self._baseline.host_bytes
        device_growth = now.device_bytes - self._baseline.device_bytes
        if host_growth > HOST_MARGIN_BYTES:
            return f"the process holds {host_growth / 2**20:.0f} MiB more than after its first trial"
        if device_growth > DEVICE_MARGIN_BYTES:
            return f"the GPU holds {device_growth / 2**20:.0f} MiB more than after the first trial"
        return None


def measure_footprint() -> Footprint:
    """Collect garbage, hand free pages back to the system, and read what is left."""
    gc.collect()
    _trim_heap()
    return Footprint(_private_bytes(), _device_bytes())


def _private_bytes() -> int:
    if not _STATM.exists():
        return 0
    resident, shared = map(int, _STATM.read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _device_bytes() -> int:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    torch.cuda.empty_cache()
    return int(torch.cuda.memory_allocated())


def _trim_heap() -> None:
    """glibc keeps freed blocks below the top of its heap; `malloc_trim` returns them, elsewhere there is no need."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
