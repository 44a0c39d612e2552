"""How many trials the cluster of a search holds, now and once it has grown, and single tasks where they run."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trainable.errors import GlanceError, ResourceError, close_match
from trainable.slot.cluster import Node, TrialResources, counted, first_line, holdings, size, workers_on

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The nodes that a cluster's autoscaler may still start; none by default."""

    nodes: tuple[Node, ...] = ()
    """Those that it has in store, kind by kind."""
    most: int = 0
    """How many of them it starts at most."""

    def best_for(self, resources: TrialResources) -> list[Node]:
        """The nodes that hold most workers of a trial, as many as may be started."""
        return sorted(self.nodes, key=lambda node: workers_on(node, resources), reverse=True)[: self.most]

    def of_kind(self, resources: TrialResources) -> "Growth":
        """What of it a trial can use."""
        usable = tuple(node for node in self.nodes if resources.goes_on(node))
        return Growth(nodes=usable, most=min(self.most, len(usable)))

    def __str__(self) -> str:
        kinds = Counter((node.cpus, node.gpus) for node in self.nodes).items()
        parts = [f"{counted(count, 'more node')} of {size(cpus, gpus)}" for (cpus, gpus), count in kinds]
        limit = f", {self.most} in all" if self.most < len(self.nodes) else ""
        return f"up to {' and '.join(parts)}{limit}"


def resources_of(
    nodes: Sequence[Node],
    growth: Growth,
    *,
    workers: int,
    cpus_per_worker: int | None,
    gpus_per_worker: float | None,
    accelerator: str | None = None,
) -> TrialResources:
    """What a trial takes, with the defaults filled in: one CPU, and one GPU where any node has or will have one.

    Raises `ResourceError` where no GPU is of the type that is asked for.
    """
    if accelerator is not None:
        _require_type(accelerator, nodes, growth)
    has_gpus = any(node.gpus for node in (*nodes, *growth.nodes))
    return TrialResources(
        workers=workers,
        cpus_per_worker=1 if cpus_per_worker is None else cpus_per_worker,
        gpus_per_worker=float(has_gpus) if gpus_per_worker is None else gpus_per_worker,
        accelerator=accelerator,
    )


def _require_type(accelerator: str, nodes: Sequence[Node], growth: Growth) -> None:
    here, to_come = _types(nodes), _types(growth.nodes)
    if accelerator in (*here, *to_come):
        return
    more = f", and its autoscaler may start {' and '.join(to_come)}" if to_come else ""
    raise ResourceError(
        f"--accelerator-type must be a type of GPU that the cluster has, but got {accelerator!r}, and the cluster has "
        f"{' and '.join(here) or 'no GPU of any type'}{more}.{close_match(accelerator, {*here, *to_come})}"
    )


def _types(nodes: Iterable[Node]) -> list[str]:
    return sorted({name for node in nodes for name in node.accelerators})


def slots_on(nodes: Sequence[Node], resources: TrialResources) -> int:
    """How many trials run at one time; a worker needs one node, the workers of a trial may lie on several."""
    return sum(workers_on(node, resources) for node in nodes) // resources.workers


def count_slots(nodes: Sequence[Node], resources: TrialResources, growth: Growth) -> int:
    """How many trials run at one time once the cluster has grown as far as it may.

    Raises `ResourceError` with the arithmetic where not even one does.
    """
    growth = growth.of_kind(resources)
    slots = slots_on([*nodes, *growth.best_for(resources)], resources)
    if slots == 0:
        raise ResourceError(
            f"a trial must fit into the cluster, but a trial takes {resources}, and the cluster has "
            f"{_usable(nodes, resources)}{f', and its autoscaler may start {growth}' if growth.most else ''}. "
            "Lower --workers-per-trial, --cpus-per-worker or --gpus-per-worker, or add nodes."
        )
    return slots


def explain_wait(nodes: Sequence[Node], resources: TrialResources, growth: Growth) -> str:
    """What a search waits for on a cluster that holds no trial yet."""
    return (
        f"waiting for the cluster to grow: a trial takes {resources}, the cluster has {_usable(nodes, resources)} now, "
        f"and its autoscaler may start {growth.of_kind(resources)}"
    )


def _usable(nodes: Sequence[Node], resources: TrialResources) -> str:
    """What the nodes have on which a trial may run."""
    usable = holdings([node for node in nodes if resources.goes_on(node)])
    return f"{usable} with {resources.accelerator}" if resources.accelerator else usable


def run_like_a_trial(function: Callable[..., T], *arguments: Any, nodes: list[Node], resources: TrialResources) -> T:
    """Run a function of `trainable.slot.tasks` where a trial would run, with one worker's resources.

    That is a task on the cluster, which waits until there is room for it; but where the cluster is this machine and
    trials take no GPU, this process does it too, and pays the imports once for all such calls. A `GlanceError` comes
    back as raised there; raises `ResourceError` where the task's process died.
    """
    options = {
        "threads": resources.cpus_per_worker,
        "gpu": resources.gpus_per_worker > 0,
        "working_folder": str(Path.cwd()),
    }
    if len(nodes) == 1 and not options["gpu"] and workers_on(nodes[0], resources):
        return function(*arguments, **options)
    import ray

    share = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}
    task = ray.remote(**share, accelerator_type=resources.accelerator, max_retries=0)(function)
    try:
        result: T = ray.get(task.remote(*arguments, **options))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GlanceError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ResourceError(
            f"a process with a trial's resources ({resources}) must live through one batch, but it was lost: "
            f"{type(error).__name__}: {first_line(error)}. Look at its node's memory "
            "and logs; higher --cpus-per-worker puts fewer trials on a node."
        ) from error
    return result
