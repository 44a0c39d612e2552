"""Tasks around a search whose results or data lie in a storage.

The probe of each node, the fetch of the data to all of them, and the test of the best trial.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from trainable.data.fetched import kept_store, split_reference
from trainable.data.progress import LINE_SECONDS, size
from trainable.errors import GlanceError
from trainable.slot.storage_actors import ANSWER_SECONDS, agent_here, answer_of, answered
from trainable.slot.tasks import evaluate_model

PROBE_SECONDS = 180.0


def probe_nodes(desk: Any) -> list[str]:
    """Try the storage from each node that may train; returns a sentence for each that fails."""
    nodes = _training_nodes()
    agents = [ray.get(desk.agent.remote(node_id)) for node_id in nodes]
    calls = [agent.probe.remote() for agent in agents]
    results = zip(calls, nodes.values(), answered(calls, PROBE_SECONDS), strict=True)
    return [sentence for call, node, answer in results if (sentence := _sentence(call, node, answer))]


def fetch_on_nodes(store: str, say: Callable[[str], None]) -> None:
    """Let each node that may train have a store in a bucket (its reference); `say` gets how far they are.

    Raises the `DataError` or `StorageError` of a node that cannot have it, with the node's name. A node that dies
    meanwhile is passed over, and one that comes later fetches the store when it needs it.
    """
    address, wanted, desk_name = split_reference(store)
    desk = ray.get_actor(desk_name)
    here = ray.get_runtime_context().get_node_id() if kept_store(wanted) else None
    nodes = [node for node_id, node in _training_nodes().items() if node_id != here]
    agents = [ray.get(desk.agent.remote(node["NodeID"])) for node in nodes]
    calls = [agent.fetch_store.remote(address, wanted) for agent in agents]
    waiting = list(calls)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LINE_SECONDS)
        for call in done:
            _require_fetched(call, nodes[calls.index(call)])
        if waiting:
            late = [agents[calls.index(call)] for call in waiting]
            told = answered([agent.fetched_bytes.remote() for agent in late], ANSWER_SECONDS)
            moved, total = (sum(pair[i] for pair in told if pair) for i in (0, 1))
            ready = f"{len(calls) - len(waiting)} of {len(calls)} nodes have it"
            say(f"fetching {address}: {ready}, the others {size(moved)} of {size(total)}")


def _require_fetched(call: Any, node: dict[str, Any]) -> None:
    try:
        answer_of(call)
    except GlanceError as error:
        raise type(error)(f"every node that trains must have the data, but on {_host(node)}: {error}") from error
    except ray.exceptions.RayActorError:
        return


def evaluate_stored(
    desk: str, prefix: str, store: str, split: str, *, threads: int, gpu: bool, working_folder: str | None = None
) -> dict[str, Any]:
    """What `evaluate_model` says of the weights that the storage holds below a prefix, fetched to this node."""
    with tempfile.TemporaryDirectory(prefix="glance-") as folder:
        answer_of(agent_here(desk).fetch_folder.remote(prefix, folder))
        return evaluate_model(str(Path(folder)), store, split, threads=threads, gpu=gpu, working_folder=working_folder)


def _training_nodes() -> dict[str, dict[str, Any]]:
    """The nodes that may train, by Ray's ids."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}


def _host(node: dict[str, Any]) -> str:
    return str(node["NodeManagerHostname"])


def _sentence(call: Any, node: dict[str, Any], answer: str | None) -> str | None:
    """What a probe said; None where all is well."""
    if answer is not None:
        return answer
    try:
        ray.get(call, timeout=0)
    except (ray.exceptions.RayError, TimeoutError) as error:
        return f"from {_host(node)}: no answer within {PROBE_SECONDS:.0f} s ({type(error).__name__})"
    return None
