"""A runner for one config alone, without a search: in this process, or in a group of workers."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainable.errors import ResourceError
from trainable.slot.cluster import Node, TrialResources, connected, holdings, workers_on
from trainable.slot.node_data import reached
from trainable.slot.notice import NOTICE, catch_sigterm
from trainable.slot.runner import Cut, InProcessRunner, Runner


@contextlib.contextmanager
def standalone_runner(
    store: str,
    *,
    workers: int,
    unseen: Mapping[str, Sequence[str]] | None = None,
    max_lost_seconds: float | None = None,
) -> Iterator[tuple[Runner, str]]:
    """Yield a runner and, in words, where it trains.

    One worker is this process, with all its CPU threads and its first GPU. More are spread over the running Ray
    cluster, or over this machine where there is none. `store` is a path, or the reference of a store in a bucket;
    `unseen` are the classes that are not trained. Epochs are cut after `max_lost_seconds`, and upon SIGTERM. Raises
    `ResourceError` where the workers do not fit.
    """
    if workers == 1:
        yield from _this_process(store, unseen=unseen, max_lost_seconds=max_lost_seconds)
        return
    from trainable.slot.worker_group import WorkerGroup, WorkerGroupOptions

    with connected(dashboard=True) as nodes, reached(store):
        resources = share_of_each(nodes, workers)
        options = WorkerGroupOptions(
            store=store,
            unseen=unseen,
            workers=workers,
            threads=resources.cpus_per_worker,
            gpus=resources.gpus_per_worker,
            working_folder=str(Path.cwd()),
            max_lost_seconds=max_lost_seconds,
        )
        catch_sigterm()
        group = WorkerGroup(options)
        try:
            yield group, str(resources)
        finally:
            group.close()


def run_whole_epoch(runner: Runner, save: Callable[[], None]) -> dict[str, Any]:
    """One epoch; `save` is called where it is cut. Raises `KeyboardInterrupt` after that upon SIGTERM."""
    while True:
        with NOTICE.awaited():
            report = runner.run_epoch()
        if not isinstance(report, Cut):
            return report
        save()
        if report.notice is not None:
            raise KeyboardInterrupt(report.notice)


def share_of_each(nodes: Sequence[Node], workers: int) -> TrialResources:
    """The most CPUs that each of so many workers can have, and a GPU where the cluster has any.

    Raises `ResourceError` where the workers do not fit even with one CPU each.
    """
    gpus = float(any(node.gpus for node in nodes))
    most = int(max((node.cpus for node in nodes), default=0))
    for cpus in range(most, 0, -1):
        resources = TrialResources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)
        if sum(workers_on(node, resources) for node in nodes) >= workers:
            return resources
    least = TrialResources(workers=workers, gpus_per_worker=gpus)
    raise ResourceError(
        f"the workers must fit into the cluster, but they take {least}, and the cluster has {holdings(nodes)}. "
        "Lower --workers, or add nodes."
    )


def _this_process(store: str, **training: Any) -> Iterator[tuple[Runner, str]]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    runner = InProcessRunner(store, threads=torch.get_num_threads(), device=device, **training)
    catch_sigterm()
    try:
        yield runner, device
    finally:
        runner.close()
