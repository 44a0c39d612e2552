"""Tasks around a search whose results lie in a storage: the probe of each node, and the test of the best trial."""

import tempfile
from pathlib import Path
from typing import Any

import ray

from trainable.slot.storage_actors import agent_here, answer_of, answered
from trainable.slot.tasks import evaluate_model

PROBE_SECONDS = 180.0


def probe_nodes(desk: Any) -> list[str]:
    """Try the storage from each node that may train; returns a sentence for each that fails."""
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}
    agents = [ray.get(desk.agent.remote(node_id)) for node_id in nodes]
    calls = [agent.probe.remote() for agent in agents]
    results = zip(calls, nodes.values(), answered(calls, PROBE_SECONDS), strict=True)
    return [sentence for call, node, answer in results if (sentence := _sentence(call, node, answer))]


def evaluate_stored(
    desk: str, prefix: str, store: str, split: str, *, threads: int, gpu: bool, working_folder: str | None = None
) -> dict[str, Any]:
    """What `evaluate_model` says of the weights that the storage holds below a prefix, fetched to this node."""
    with tempfile.TemporaryDirectory(prefix="glance-") as folder:
        answer_of(agent_here(desk).fetch_folder.remote(prefix, folder))
        return evaluate_model(str(Path(folder)), store, split, threads=threads, gpu=gpu, working_folder=working_folder)


def _sentence(call: Any, node: dict[str, Any], answer: str | None) -> str | None:
    """What a probe said; None where all is well."""
    if answer is not None:
        return answer
    try:
        ray.get(call, timeout=0)
    except (ray.exceptions.RayError, TimeoutError) as error:
        return f"from {node['NodeManagerHostname']}: no answer within {PROBE_SECONDS:.0f} s ({type(error).__name__})"
    return None
