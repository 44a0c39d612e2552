"""The store of a trial on the node where it runs, whether it lies in a folder or in a bucket."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from trainable.data.fetched import kept_store, split_reference
from trainable.data.store import Store
from trainable.slot.runner import WorkersLostError
from trainable.storage.storage import is_remote


def new_desk_name() -> str:
    """A name for an actor that leads nodes to buckets."""
    return f"glance-storage-{uuid.uuid4().hex[:12]}"


def open_data(store: str) -> Store:
    """Open a store by what `trainable.data.fetched.reference` says of it.

    One in a bucket is fetched by the node's agent where the node does not have it yet. Raises `DataError` or
    `StorageError`, and `WorkersLostError` where the agent died.
    """
    if not is_remote(store):
        return Store.open(Path(store))
    address, wanted, desk = split_reference(store)
    return kept_store(wanted) or Store.open(Path(_fetch(address, wanted, desk)))


@contextlib.contextmanager
def reached(store: str, say: Callable[[str], None] = print) -> Iterator[None]:
    """While it lasts, the nodes of the cluster reach a store, and those of now have it; nothing to do for a path."""
    if not is_remote(store):
        yield
        return
    from trainable.slot.storage_actors import data_desk
    from trainable.slot.stored_tasks import fetch_on_nodes

    with data_desk(split_reference(store)[2]):
        fetch_on_nodes(store, say)
        yield


def _fetch(address: str, wanted: str, desk: str) -> str:
    import ray

    from trainable.slot.storage_actors import agent_here, answer_of

    try:
        path: str = answer_of(agent_here(desk).fetch_store.remote(address, wanted))
    except ray.exceptions.RayActorError as error:
        raise WorkersLostError(f"the agent that fetches data to this node was lost: {error}") from error
    return path
