"""A node's agent in this process, without Ray: what it does for slots that are other processes, and short-lived."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.s3_server import Proxy
from trainable.data.fetched import identity, upload_store
from trainable.data.progress import unwatched
from trainable.data.store import Store
from trainable.errors import DataError
from trainable.slot import storage_actors
from trainable.slot.storage_actors import StorageAgent
from trainable.storage.storage import open_storage
from trainable.storage.trial_objects import TrialObjects

PLACE = "s3://glance/results"

SLOT = """
import json, sys
from pathlib import Path
from trainable.slot.slot import Slot, SlotOptions
from trainable.slot.trial_files import StoredFiles
class Runner:
    def start(self, config, folder, inherited=False):
        return 0
    def run_epoch(self):
        return {"epoch": 1, "val_accuracy": 0.5}
    def save(self, folder):
        folder.mkdir(parents=True)
        (folder / "checkpoint").write_text("after epoch 1")
    save_model = save
class Files(StoredFiles):
    def _ask(self, *message):
        print(json.dumps(message), flush=True)
        sys.stdin.readline()
options = SlotOptions(store="", checkpoints=sys.argv[1], metric="val_accuracy", mode="max")
slot = Slot(options, Runner(), Files("no desk", "demo/checkpoints"))
slot.begin("a", {"max_epochs": 4})
slot.step()
"""
"""A slot whose calls of the agent are lines on its standard output, and which waits for an answer to each."""


@pytest.fixture
def agent(s3: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageAgent]:
    """One that finds its credentials in what the desk gives it, and nowhere else."""
    credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in credentials:
        monkeypatch.delenv(name)
    monkeypatch.setattr(storage_actors, "ray", SimpleNamespace(get=lambda result: result))
    yield StorageAgent(SimpleNamespace(settings=SimpleNamespace(remote=lambda: (PLACE, credentials))))
    for name in credentials:
        os.environ.pop(name)


def test_what_a_slot_handed_over_is_delivered_though_it_is_killed(
    agent: StorageAgent, s3: Proxy, tmp_path: Path, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    command = [sys.executable, "-c", SLOT, str(tmp_path / "node")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slot:
        assert slot.stdout is not None
        verb, *message = json.loads(slot.stdout.readline())
        s3.go_down()
        agent.hand_over(*message)
        slot.kill()
    shutil.rmtree(tmp_path / "node" / "a")  # only what the agent was handed is left
    s3.come_up()
    trials = TrialObjects(open_storage(PLACE))

    assert verb == "hand_over"
    assert eventually(lambda: trials.state("demo/checkpoints/a") is not None)
    state = trials.fetch("demo/checkpoints/a", tmp_path / "fetched")
    assert state is not None
    assert state.epoch == 1
    assert (tmp_path / "fetched" / "last" / "checkpoint").read_text() == "after epoch 1"
    assert (tmp_path / "fetched" / "best" / "checkpoint").exists()
    assert agent.flush(30.0) == {}
    assert not list((tmp_path / "node" / ".outbox").iterdir())


def test_it_fetches_data_with_the_drivers_credentials(
    agent: StorageAgent, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLANCE_NODE_CACHE", str(tmp_path / "node"))
    store = Store.open(faces)
    upload_store(store, "s3://glance/faces", watch=unwatched)
    path = agent.fetch_store("s3://glance/faces", identity(store.manifest))

    assert Store.open(path).manifest == store.manifest
    assert agent.fetched_bytes() == (0, 0)
    with pytest.raises(DataError, match="another one lies there"):
        agent.fetch_store("s3://glance/faces", "0123")
