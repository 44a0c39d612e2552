"""The Ray cluster a search runs on: connect, what it holds, how many trials fit."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trainable.errors import GlanceError, ResourceError

T = TypeVar("T")
CONNECT_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one machine offers to trials."""

    cpus: float
    gpus: float
    accelerator: str | None = None
    """Name of its GPUs."""


@dataclass(frozen=True, kw_only=True)
class TrialResources:
    """What one trial takes."""

    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0

    def __str__(self) -> str:
        cpus = f"{_count(self.workers, 'worker')} x {_count(self.cpus_per_worker, 'CPU')}"
        gpus = f" and {self.workers} x {_count(self.gpus_per_worker, 'GPU')}" if self.gpus_per_worker else ""
        return cpus + gpus


def resources_of(
    nodes: list[Node], *, workers: int, cpus_per_worker: int | None, gpus_per_worker: float | None
) -> TrialResources:
    """What a trial takes, with the defaults filled in: one CPU, and one GPU where the cluster has any."""
    has_gpus = any(node.gpus for node in nodes)
    return TrialResources(
        workers=workers,
        cpus_per_worker=1 if cpus_per_worker is None else cpus_per_worker,
        gpus_per_worker=float(has_gpus) if gpus_per_worker is None else gpus_per_worker,
    )


def count_slots(nodes: list[Node], resources: TrialResources) -> int:
    """How many trials run at one time; raises `ResourceError` with the arithmetic where not even one does.

    A worker needs its CPUs and GPUs on one node; the workers of a trial may lie on several.
    """
    slots = sum(_workers_on(node, resources) for node in nodes) // resources.workers
    if slots == 0:
        raise ResourceError(_arithmetic(nodes, resources))
    return slots


@contextlib.contextmanager
def connected(say: Callable[[str], None] = print) -> Iterator[list[Node]]:
    """Connect to the running cluster (RAY_ADDRESS, or `ray start` on this machine), else start a local one.

    Yields its nodes; `say` is told to which running cluster it connects. A local one is shut down at the end; a
    running one goes on without this search. Where this process is connected already, it stays so. Raises
    `ResourceError` where no cluster answers at the address.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    mine = not ray.is_initialized()
    if mine:
        _connect(say)
    try:
        yield [_node(entry["Resources"]) for entry in ray.nodes() if entry["Alive"]]
    finally:
        if mine:
            ray.shutdown()


def _connect(say: Callable[[str], None]) -> None:
    import ray

    local = False
    try:
        address = _running_cluster()
        local = address is None
        if address is not None:
            say(f"connecting to the Ray cluster at {address}")
            _require_listener(address)
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        if local:
            raise ResourceError(f"Ray must start on this machine, but: {_first_line(error)}.") from error
        raise ResourceError(
            f"a Ray cluster must answer at {_address_source()}, but: {_first_line(error)}. Start one there by "
            "`ray start`, or unset RAY_ADDRESS and run `ray stop` to search on this machine alone."
        ) from error


def _running_cluster() -> str | None:
    """The address that Ray will connect to; None where it will start a local cluster."""
    from ray._private.services import canonicalize_bootstrap_address

    address = os.environ.get("RAY_ADDRESS", "")
    return address if "://" in address else canonicalize_bootstrap_address(None)


def _require_listener(address: str) -> None:
    """Raise `OSError` at once where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_SECONDS).close()


def _address_source() -> str:
    address = os.environ.get("RAY_ADDRESS")
    return f"RAY_ADDRESS={address}" if address else "the address that `ray start` left on this machine"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def run_like_a_trial(function: Callable[..., T], *arguments: Any, nodes: list[Node], resources: TrialResources) -> T:
    """Run a function of `trainable.slot.tasks` where a trial would run, with one worker's resources.

    That is a task on the cluster; but where the cluster is this machine and trials take no GPU, this process does it
    too, and pays the imports once for all such calls. A `GlanceError` comes back as raised there; raises
    `ResourceError` where the task's process died.
    """
    options = {
        "threads": resources.cpus_per_worker,
        "gpu": resources.gpus_per_worker > 0,
        "working_folder": str(Path.cwd()),
    }
    if len(nodes) == 1 and not options["gpu"]:
        return function(*arguments, **options)
    import ray

    task = ray.remote(num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker, max_retries=0)(function)
    try:
        result: T = ray.get(task.remote(*arguments, **options))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GlanceError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ResourceError(
            f"a process with a trial's resources ({resources}) must live through one batch, but it was lost: "
            f"{type(error).__name__}: {_first_line(error)}. Look at its node's memory "
            "and logs; higher --cpus-per-worker puts fewer trials on a node."
        ) from error
    return result


def _node(resources: dict[str, float]) -> Node:
    names = [name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")]
    return Node(cpus=resources.get("CPU", 0.0), gpus=resources.get("GPU", 0.0), accelerator=names[0] if names else None)


def _workers_on(node: Node, resources: TrialResources) -> int:
    by_cpus = int(node.cpus // resources.cpus_per_worker)
    if not resources.gpus_per_worker:
        return by_cpus
    if resources.gpus_per_worker < 1:
        per_gpu = int(1 / resources.gpus_per_worker + 1e-6)
        return min(by_cpus, int(node.gpus) * per_gpu)
    return min(by_cpus, int(node.gpus // resources.gpus_per_worker))


def _arithmetic(nodes: list[Node], resources: TrialResources) -> str:
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    has = f"{_count(cpus, 'CPU')} and {_count(gpus, 'GPU')} on {_count(len(nodes), 'node')}"
    largest = max((node.cpus, node.gpus) for node in nodes) if nodes else (0.0, 0.0)
    most = f", at most {largest[0]:g} and {largest[1]:g} on one" if len(nodes) > 1 else ""
    return (
        f"a trial must fit into the cluster, but a trial takes {resources}, and the cluster has {has}{most}. "
        "Lower --workers-per-trial, --cpus-per-worker or --gpus-per-worker, or add nodes."
    )


def _count(count: float, noun: str) -> str:
    return f"{count:g} {noun}" if count == 1 else f"{count:g} {noun}s"
