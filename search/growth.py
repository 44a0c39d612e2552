"""How far a running cluster can still grow: the limits of its autoscaler.

Ray tells a driver nothing of them (`ray._private.state.state.get_cluster_config` is there, but no open-source
autoscaler fills it: ray#49501, #63012), so they are read where the autoscaler has them from: the file that `ray up` or
`ray start --autoscaling-config` gave it on the head. An autoscaler that runs elsewhere, such as KubeRay's, is not seen.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import yaml

from search.cluster import Growth
from trainable.slot.cluster import HEAD, Node

DEFAULT_MOST_WORKERS = 2
"""Ray's limit where the file has none."""


class NodeType(TypedDict):
    """One kind of node that an autoscaler starts."""

    resources: dict[str, float]
    most: int


class Limits(TypedDict):
    """What an autoscaler may start."""

    types: list[NodeType]
    most: int
    """Nodes of all kinds together, the head apart."""


def find_growth(nodes: Sequence[Node], say: Callable[[str], None]) -> Growth:
    """What may join `nodes`, those of the cluster that this process is connected to.

    A file of limits that cannot be read counts as none; `say` is told so.
    """
    try:
        limits = _ask_head()
    except (OSError, yaml.YAMLError) as error:
        say(f"taking the nodes that are up, because the limits of the cluster's autoscaler cannot be read: {error}")
        return Growth()
    return Growth() if limits is None else growth_within(limits, nodes)


def growth_within(limits: Limits, nodes: Sequence[Node]) -> Growth:
    """What the autoscaler may still start beside `nodes`; size and type of GPU tell which kind one of these is."""
    started = [node for node in nodes if not node.is_head]
    left = limits["most"] - len(started)
    to_come: list[Node] = []
    for kind in limits["types"]:
        node = Node.of(kind["resources"])
        here = [one for one in started if _may_be(one, node)][: kind["most"]]
        for one in here:
            started.remove(one)
        to_come += [node] * min(kind["most"] - len(here), left)
    most = min(left, len(to_come))
    return Growth(nodes=tuple(to_come), most=most) if most > 0 else Growth()


def _may_be(node: Node, kind: Node) -> bool:
    """Whether a node is of a kind: Ray names the GPUs of one that is up also where the file does not."""
    same_size = (node.cpus, node.gpus) == (kind.cpus, kind.gpus)
    return same_size and set(kind.accelerators) <= set(node.accelerators)


def _ask_head() -> Limits | None:
    """What `read_limits` finds on the cluster's head: in this process where it runs there, else by a task."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    heads = [entry["NodeID"] for entry in ray.nodes() if entry["Alive"] and HEAD in entry["Resources"]]
    if not heads:
        return None
    if heads[0] == ray.get_runtime_context().get_node_id():
        return read_limits()
    on_head = NodeAffinitySchedulingStrategy(heads[0], soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=on_head)(read_limits)
    try:
        limits: Limits | None = ray.get(task.remote())
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    return limits


def read_limits() -> Limits | None:
    """The limits of the autoscaler that serves this cluster, read on its head; None where there is none."""
    import ray

    for arguments in _command_lines():
        flags = dict(argument.split("=", 1) for argument in arguments if argument.startswith("--") and "=" in argument)
        config = flags.get("--autoscaling-config")
        if config and flags.get("--gcs-address") == ray.get_runtime_context().gcs_address:
            return read_config(Path(config).expanduser())
    return None


def read_config(path: Path) -> Limits:
    """The limits in a file of Ray's cluster launcher; a kind without CPU and GPU is passed over."""
    with path.open(encoding="utf-8") as file:
        config: dict[str, Any] = yaml.safe_load(file)
    most = config.get("max_workers", DEFAULT_MOST_WORKERS)
    types = []
    for name, kind in config.get("available_node_types", {}).items():
        resources = {resource: float(amount) for resource, amount in kind.get("resources", {}).items()}
        if resources.get("CPU") or resources.get("GPU"):
            default = 0 if name == config.get("head_node_type") else most
            types.append(NodeType(resources=resources, most=kind.get("max_workers", default)))
    return Limits(types=types, most=most)


def _command_lines() -> Iterator[list[str]]:
    """The arguments of every process of this machine."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended, or is another user's
            continue
