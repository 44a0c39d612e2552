"""The agent of a real cluster's node, which fetches data for slots that have no credentials."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.s3_server import Proxy
from trainable.data.fetched import node_stores_folder, reference, upload_store
from trainable.data.preparation import prepare_store
from trainable.data.progress import unwatched
from trainable.data.source import PrepareOptions
from trainable.data.store import Store
from trainable.errors import DataError
from trainable.slot.node_data import new_desk_name, open_data
from trainable.slot.storage_actors import answer_of, close_desk, start_desk
from trainable.slot.stored_tasks import fetch_on_nodes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PLACE = "s3://glance/results"
DATA = "s3://glance/faces"


@pytest.fixture
def desk(ray_cluster: str, s3: Proxy) -> Iterator[str]:
    name = new_desk_name()
    actor = start_desk(name, PLACE)
    yield name
    close_desk(actor)


def slot_of(desk: str) -> Any:
    """A process that opens stores as a slot does, and has no credentials."""

    class Process:
        def __init__(self) -> None:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[name]

        def open(self, store: str) -> str:
            return str(open_data(store).path)

    return ray.remote(num_cpus=0)(Process).remote()


def test_a_slot_without_credentials_gets_the_data_by_its_nodes_agent(
    desk: str, s3: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = PrepareOptions(synthetic_sizes=(14, 7, 7), seed=58)  # a store that no other test has had fetched
    store = Store.open(prepare_store("synthetic", out=tmp_path / "few", options=few, progress=False))
    upload_store(store, DATA, watch=unwatched)
    s3.passed.clear()
    slots = [slot_of(desk) for _ in range(2)]
    paths = ray.get([slot.open.remote(reference(store, DATA, desk)) for slot in slots])

    assert len(set(paths)) == 1
    assert Store.open(paths[0]).manifest == store.manifest
    assert sum(path.endswith("/train.arrow") for _, path in s3.passed) == 1
    s3.go_down()
    monkeypatch.setenv("GLANCE_NODE_CACHE", str(Path(paths[0]).parents[1]))
    assert node_stores_folder() == Path(paths[0]).parent
    assert str(open_data(reference(store, DATA, "no desk")).path) == paths[0]


def test_a_node_that_cannot_have_the_data_is_named_before_the_first_trial(
    desk: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLANCE_NODE_CACHE", str(tmp_path / "the driver's"))
    nowhere = f"s3://glance/nowhere#0123@{desk}"

    with pytest.raises(DataError, match=r"every node that trains must have the data, but on .*nowhere must be a store"):
        fetch_on_nodes(nowhere, print)
    with pytest.raises(DataError, match="must be a store"):
        answer_of(slot_of(desk).open.remote(nowhere))
