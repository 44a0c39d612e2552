"""A Ray cluster: connect to it, what its nodes hold, and how many workers of a trial fit on one."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from trainable.errors import ResourceError

CONNECT_TIMEOUT_SECONDS = 5.0
HEAD = "node:__internal_head__"
"""The resource by which Ray marks the head of a cluster."""
ACCELERATOR = "accelerator_type:"
"""What the resources begin with by which Ray names a node's GPUs."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one machine offers to trials."""

    cpus: float
    gpus: float
    accelerators: tuple[str, ...] = ()
    """The names that its GPUs have: Ray gives one, and who starts the node may add others."""
    is_head: bool = False

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Self:
        """The node that has these resources, as Ray names them."""
        return cls(
            cpus=resources.get("CPU", 0.0),
            gpus=resources.get("GPU", 0.0),
            accelerators=tuple(sorted(x.removeprefix(ACCELERATOR) for x in resources if x.startswith(ACCELERATOR))),
            is_head=HEAD in resources,
        )


@dataclass(frozen=True, kw_only=True)
class TrialResources:
    """What one trial takes."""

    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    accelerator: str | None = None
    """A name that the GPUs must have; None: any will do."""

    def __str__(self) -> str:
        cpus = f"{counted(self.workers, 'worker')} x {counted(self.cpus_per_worker, 'CPU')}"
        gpus = f" and {self.workers} x {counted(self.gpus_per_worker, 'GPU')}" if self.gpus_per_worker else ""
        return cpus + gpus + (f" of type {self.accelerator}" if self.accelerator else "")

    def goes_on(self, node: Node) -> bool:
        """Whether a node is of the kind that was asked for."""
        return self.accelerator is None or self.accelerator in node.accelerators


def workers_on(node: Node, resources: TrialResources) -> int:
    """How many workers one node holds; a GPU that is shared has room for whole shares only."""
    by_cpus = int(node.cpus // resources.cpus_per_worker) if resources.goes_on(node) else 0
    if not resources.gpus_per_worker:
        return by_cpus
    return min(by_cpus, int(node.gpus) * int(1 / resources.gpus_per_worker + 1e-6))


@contextlib.contextmanager
def connected(say: Callable[[str], None] = print, *, dashboard: bool = False) -> Iterator[list[Node]]:
    """Connect to the running cluster (RAY_ADDRESS, or `ray start` on this machine), else start a local one.

    Yields its nodes; `say` is told to which running cluster it connects. A local one is shut down at the end; a
    running one goes on without this process. Where this process is connected already, it stays so. A local one has
    Ray's `dashboard` process where that is asked for: groups of workers need it, because Ray Train asks it after dead
    actors, and gives nothing back of a group whose slot was killed without it. Raises `ResourceError` where no cluster
    answers at the address.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    mine = not ray.is_initialized()
    if mine:
        _connect(say, dashboard)
    try:
        yield current_nodes()
    finally:
        if mine:
            ray.shutdown()


def current_nodes() -> list[Node]:
    """The nodes of the cluster that this process is connected to, as they are now."""
    import ray

    return [Node.of(entry["Resources"]) for entry in ray.nodes() if entry["Alive"]]


def _connect(say: Callable[[str], None], dashboard: bool) -> None:
    import ray

    local = False
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # it warns of its default, a token
    try:
        address = _running_cluster()
        local = address is None
        if address is not None:
            say(f"connecting to the Ray cluster at {address}")
            _require_listener(address)
        with local_address() if local else contextlib.nullcontext(None) as where:
            ray.init(address=where, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # what Ray raises has no common class: a raylet that is slow to start is `Exception`
        if local:
            raise ResourceError(f"Ray must start on this machine, but: {first_line(error)}.") from error
        if "InvalidAuthToken" in str(error.__cause__):
            raise ResourceError(
                f"the Ray cluster at {_address_source()} must be given its token, but got none: set "
                "RAY_AUTH_MODE=token, and have the token in ~/.ray/auth_token or in RAY_AUTH_TOKEN."
            ) from error
        raise ResourceError(
            f"a Ray cluster must answer at {_address_source()}, but: {first_line(error)}. Start one there by "
            "`ray start`, or unset RAY_ADDRESS and run `ray stop` to use this machine alone."
        ) from error


@contextlib.contextmanager
def local_address() -> Iterator[str]:
    """What makes `ray.init` start a local cluster, whose processes are told its address.

    Ray Train looks for the cluster among the machine's processes, and finds none where there are two.
    """
    from ray._private.services import get_node_ip_address

    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    told = {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"{get_node_ip_address()}:{port}"}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield "local"
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


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


def holdings(nodes: Sequence[Node]) -> str:
    """What nodes have in all, and the largest has alone."""
    has = f"{size(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))} on {counted(len(nodes), 'node')}"
    largest = max(((node.cpus, node.gpus) for node in nodes), default=(0.0, 0.0))
    return has + (f", at most {largest[0]:g} and {largest[1]:g} on one" if len(nodes) > 1 else "")


def size(cpus: float, gpus: float) -> str:
    """CPUs and GPUs in words."""
    return f"{counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}"


def counted(number: float, noun: str) -> str:
    """A number with its noun."""
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
