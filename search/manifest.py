"""What `experiment.json` says of a search before its first trial."""

import sys
from collections.abc import Sequence
from typing import Any

from search.experiment import hardware
from search.options import METRICS, SearchOptions
from search.spaces import Space
from trainable.data.store import Store
from trainable.data.unseen import UnseenClasses
from trainable.provenance import describe_data
from trainable.slot.cluster import Node, TrialResources


def build_manifest(
    options: SearchOptions,
    space: Space,
    store: Store,
    unseen: UnseenClasses,
    *,
    nodes: Sequence[Node],
    resources: TrialResources,
    slots: int,
    argv: Sequence[str] | None,
) -> dict[str, Any]:
    """What was asked, of which data, on what; `Experiment.create` adds name, time, versions and commit."""
    return {
        "options": options.to_dict(),
        "command": [*sys.argv[:1], *(sys.argv[1:] if argv is None else argv)],
        "algorithm": options.algo,
        "scheduler": options.scheduler,
        "space_name": options.space,
        "space": {name: str(dimension) for name, dimension in space.draws().items()},
        "fixed": space.fixed(),
        "metric": options.metrics[0],
        "mode": options.mode,
        "metrics": {name: METRICS[name] for name in options.metrics},
        "trials": options.trials,
        "max_epochs": options.max_epochs,
        "grace_epochs": options.grace_epochs,
        "reduction_factor": options.reduction_factor,
        "max_concurrent": options.max_concurrent,
        "max_failures": options.max_failures,
        "keep_best": options.keep_best,
        "time_budget_seconds": options.time_budget_seconds,
        "budget_hours": options.budget_hours,
        "price_per_hour": options.price_per_hour,
        "seed": options.seed,
        "dataset": describe_data(store, options.data_path, unseen),
        "resources": {
            "slots": slots,
            "workers_per_trial": resources.workers,
            "cpus_per_worker": resources.cpus_per_worker,
            "gpus_per_worker": resources.gpus_per_worker,
            "accelerator_type": resources.accelerator,
            "nodes": len(nodes),
            "cluster_cpus": sum(node.cpus for node in nodes),
            "cluster_gpus": sum(node.gpus for node in nodes),
        },
        "hardware": hardware([name for node in nodes for name in node.accelerators]),
    }
