"""The actors through which the nodes of a cluster reach a storage: one agent a node, and one desk that knows them.

Uploads go on in the agents, whatever becomes of the slots: a slot that retires, dies or ends with its search leaves
what it handed over. Nobody else on a node needs credentials. They go from the driver's environment to the desk, and
from there to the agents, as arguments of calls, which Ray keeps in memory alone.
"""

import contextlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainable.data.progress import Lines
from trainable.errors import GlanceError, StorageError
from trainable.storage.keeper import Keeper
from trainable.storage.probe import probe
from trainable.storage.retry import PATIENCE_SECONDS
from trainable.storage.storage import Moved, Storage, open_storage
from trainable.storage.transfer import fetch_folder
from trainable.storage.trial_objects import Snapshot
from trainable.storage.uploader import Uploader

PASSED_ON = ("AWS_", "GOOGLE_", "GCS_", "AZURE_", "FSSPEC_", "STORAGE_EMULATOR_HOST")
"""Beginnings of the environment's variables by which storages are found."""
CALLS = 64
"""Calls that an agent answers at one time; those that fetch may take long."""
ANSWER_SECONDS = 10.0


class StorageDesk:
    """What all nodes must know of one search's storage, and the agent of each node."""

    def __init__(self) -> None:
        self._settings: tuple[str, dict[str, str]] = ("", {})
        self._agents: dict[str, Any] = {}

    def open(self, uri: str, environment: Mapping[str, str]) -> None:
        """Serve the storage at an address, and data in buckets, which the environment's variables lead to.

        The address is empty where trials are kept in a folder.
        """
        self._settings = uri, dict(environment)

    def settings(self) -> tuple[str, dict[str, str]]:
        """The address and the environment."""
        return self._settings

    def agent(self, node_id: str) -> Any:
        """The agent of a node (Ray's id of it), started where there is none."""
        if node_id not in self._agents:
            here = NodeAffinitySchedulingStrategy(node_id, soft=False)
            options = {"num_cpus": 0, "max_concurrency": CALLS, "max_restarts": -1, "max_task_retries": -1}
            desk = ray.get_runtime_context().current_actor
            self._agents[node_id] = ray.remote(StorageAgent).options(**options, scheduling_strategy=here).remote(desk)
        return self._agents[node_id]

    def agents(self) -> dict[str, Any]:
        """The agents so far, by node."""
        return dict(self._agents)


class StorageAgent:
    """Keeps the trials of one node in the storage, and fetches data. `desk` is the actor that has its settings."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk
        self._uri, environment = ray.get(desk.settings.remote())
        os.environ.update(environment)
        self._keeper: Keeper | None = None
        self._lines: Lines | None = None

    def probe(self) -> str | None:
        """Try every verb from this node; returns what is wrong, in a sentence."""
        try:
            probe(self._open())
        except StorageError as error:
            return f"from {platform.node()}: {error}"
        return None

    def hand_over(self, trial: str, folder: str, epoch: float) -> None:
        """Upload a snapshot, in the background."""
        self._trials().hand_over(trial, Snapshot(Path(folder), epoch))

    def fetch(self, trial: str, folder: str, epochs: float) -> float:
        """Bring a trial's folder to its newest state, as `Keeper.fetch` does."""
        return self._trials().fetch(trial, Path(folder), epochs, elsewhere=self._waiting_elsewhere)

    def fetch_folder(self, prefix: str, folder: str) -> None:
        """Put every object below a prefix into a folder."""
        storage = self._open()
        fetch_folder(storage, Path(folder), storage.sizes(f"{prefix}/"), f"{prefix}/")

    def fetch_store(self, address: str, wanted: str) -> str:
        """Let this node have a store, as `trainable.data.fetched.fetch_store` does; returns its path."""
        from trainable.data.fetched import fetch_store

        return str(fetch_store(address, wanted, watch=self._watch, patience=PATIENCE_SECONDS).path)

    def fetched_bytes(self) -> tuple[int, int]:
        """How much of the store that is being fetched is there, and how much it is in all."""
        return (0, 0) if self._lines is None else (self._lines.moved, self._lines.total)

    def waiting_epoch(self, trial: str) -> float:
        """The epoch of a trial that this node has still to upload; 0 where it has nothing."""
        return 0 if self._keeper is None else self._keeper.waiting_epoch(trial)

    def flush(self, timeout: float) -> dict[str, str]:
        """Wait until all is uploaded, at most so many seconds; trial -> folder of what is not."""
        return {} if self._keeper is None else self._keeper.flush(timeout)

    def clean(self, folder: str) -> None:
        """Remove the folder where slots of this node wrote their trials, unless something is still to be uploaded."""
        if self._keeper is None or not self._keeper.flush(0.0):
            shutil.rmtree(folder, ignore_errors=True)

    def _waiting_elsewhere(self, trial: str) -> float:
        agents = ray.get(self._desk.agents.remote())
        here = ray.get_runtime_context().get_node_id()
        others = [agent.waiting_epoch.remote(trial) for node_id, agent in agents.items() if node_id != here]
        return max((epoch for epoch in answered(others, ANSWER_SECONDS) if epoch is not None), default=0)

    @contextlib.contextmanager
    def _watch(self, title: str, total: int) -> Iterator[Moved]:
        self._lines = Lines(title, total)
        try:
            yield self._lines
        finally:
            self._lines = None

    def _open(self) -> Storage:
        return open_storage(self._uri)

    def _trials(self) -> Keeper:
        if self._keeper is None:
            self._keeper = Keeper(self._open(), Uploader(say=_say))
        return self._keeper


def start_desk(name: str, uri: str = "") -> Any:
    """Start the desk of a search under a name by which its slots find it; without address it leads to data alone."""
    desk = ray.remote(StorageDesk).options(name=name, num_cpus=0, max_concurrency=CALLS).remote()
    environment = {key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)}
    ray.get(desk.open.remote(uri, environment))
    return desk


def close_desk(desk: Any) -> None:
    """End a desk and its agents, whatever they are doing."""
    with contextlib.suppress(ray.exceptions.RayError):
        for agent in ray.get(desk.agents.remote()).values():
            ray.kill(agent)
    ray.kill(desk)


@contextlib.contextmanager
def data_desk(name: str) -> Iterator[None]:
    """While it lasts, a desk leads nodes to data in a bucket."""
    desk = start_desk(name)
    try:
        yield
    finally:
        close_desk(desk)


def agent_here(desk_name: str) -> Any:
    """The agent of this process's node."""
    desk = ray.get_actor(desk_name)
    return ray.get(desk.agent.remote(ray.get_runtime_context().get_node_id()))


def answer_of(call: Any) -> Any:
    """The result of a call; a `GlanceError` that it raised there is raised here as it was, without Ray's wrapping."""
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GlanceError):
            raise error.cause from None
        raise


def answered(calls: list[Any], seconds: float) -> list[Any]:
    """The results of calls, within so many seconds; None for one that did not answer."""
    ray.wait(calls, num_returns=len(calls), timeout=seconds) if calls else None
    results = []
    for call in calls:
        try:
            results.append(ray.get(call, timeout=0))
        except (ray.exceptions.RayError, TimeoutError):
            results.append(None)
    return results


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
