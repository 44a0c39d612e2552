"""What a failed trial tells: kind, message, where, and the full traceback, as plain text."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from trainable import errors

OUT_OF_MEMORY = "OutOfMemoryError"
SIZES = ("image_tower", "text_tower", "embedding_dim", "batch_size", "accumulation", "precision")
"""Hyperparameters that decide how much memory a trial needs."""

PROJECT = Path(__file__).parents[2]
"""The folder that holds the project's packages."""
CHECKS = PROJECT / "trainable" / "errors.py"
"""Raises what others found, so that a frame in it says nothing."""


class Failure(TypedDict):
    """Why a trial failed, ready to cross a process boundary."""

    kind: str
    message: str
    where: str
    """`file:line` of the last frame inside this project; of the last frame of all where none is."""
    traceback: str


class WorkerError(Exception):
    """A worker of a trial failed, in another process: `failure` is how it described that."""

    def __init__(self, failure: Failure, *, user_error: bool, device_broken: bool) -> None:
        super().__init__(failure["message"])
        self.failure = failure
        self.user_error = user_error
        """Whether it was a `GlanceError`."""
        self.device_broken = device_broken

    def original(self) -> Exception:
        """The `GlanceError` that the worker raised; itself where that was another exception."""
        return getattr(errors, self.failure["kind"])(self.failure["message"]) if self.user_error else self


def describe_failure(error: BaseException) -> Failure:
    """Put an exception into words; a worker's failure is in words already."""
    if isinstance(error, WorkerError):
        return error.failure
    return Failure(
        kind=OUT_OF_MEMORY if is_out_of_memory(error) else type(error).__name__,
        message=str(error).strip() or type(error).__name__,
        where=_where(error),
        traceback="".join(traceback.format_exception(error)),
    )


def with_sizes(failure: Failure, config: Mapping[str, Any], workers: int) -> Failure:
    """The failure; where memory ran out, with the sizes that decide how much a trial needs."""
    if failure["kind"] != OUT_OF_MEMORY:
        return failure
    sizes = ", ".join(f"{name}={config[name]}" for name in SIZES if name in config)
    remedy = "lower batch_size, raise accumulation, or set activation_checkpointing=true"
    return Failure(**{**failure, "message": f"{failure['message']} [{sizes}, workers={workers}: {remedy}]"})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a host or a device ran out of memory; torch says it in several ways."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "CUDA error: out of memory" in text)


def is_device_broken(error: BaseException) -> bool:
    """Whether the CUDA context of this process may be unusable from now on.

    After an asynchronous CUDA error (illegal address, device-side assert) each later call fails too; running out of
    memory leaves the context whole.
    """
    if isinstance(error, WorkerError):
        return error.device_broken
    if is_out_of_memory(error):
        return False
    if type(error).__name__ == "AcceleratorError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        word in text for word in ("CUDA error", "CUBLAS_STATUS", "cuDNN error")
    )


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) != CHECKS]
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.is_relative_to(PROJECT) and "site-packages" not in path.parts:
            return f"{path.relative_to(PROJECT).as_posix()}:{frame.lineno}"
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
