"""Whole searches whose results lie in a bucket: moto's S3 server behind a proxy that fails and goes away."""

import json
import os
import platform
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.report import main as analyse
from search.bucket import scratch_folder, working_folder
from search.ledger import read_ledger, read_trials, search_state
from search.run import main
from tests.s3_server import Proxy
from trainable.data.fetched import upload_store
from trainable.data.progress import unwatched
from trainable.data.store import Store
from trainable.storage.pieces import read_growing
from trainable.storage.retry import persist
from trainable.storage.storage import open_storage
from trainable.storage.trial_objects import TrialObjects
from trainable.storage.working_copy import fetch_to_read
from trainable.training.predictor import saved_epoch

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PLACE = "s3://glance/results"
QUICK = ["--set", "epoch_samples=64", "--set", "embedding_dim=16"]
OUTAGE_SECONDS = float(os.environ.get("GLANCE_TEST_OUTAGE_SECONDS", "60"))


class Bucket:
    """Runs searches whose results lie in the bucket."""

    def __init__(self, faces: Path, tmp_path: Path) -> None:
        self.faces = faces
        self.tmp_path = tmp_path
        self.storage = open_storage(PLACE)

    def run(self, name: str, *more: str) -> int:
        return main(["--storage", PLACE, "--name", name, "--data-path", str(self.faces), *QUICK, *more])

    def here(self, name: str) -> Path:
        """The working copy."""
        return working_folder(PLACE) / name

    def fetched(self, name: str) -> Path:
        """What a report reads, fetched from the bucket."""
        folder = self.tmp_path / f"fetched {time.monotonic_ns()}"
        fetch_to_read(f"{PLACE}/{name}", folder)
        return folder

    def keys(self, name: str) -> list[str]:
        return sorted(key.removeprefix(f"{name}/") for key in self.storage.sizes(f"{name}/"))


@pytest.fixture
def bucket(
    s3: Proxy, faces: Path, tmp_path: Path, ray_cluster: str, free_resources: None, monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    monkeypatch.setenv("GLANCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Bucket(faces, tmp_path)


def test_a_search_leaves_everything_in_the_bucket(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    assert bucket.run("x", "--algo", "asha", "--trials", "4", "--max-epochs", "2", "--keep-best", "2") == 0
    output = capfd.readouterr().out
    keys = bucket.keys("x")
    folder = bucket.fetched("x")
    trials = read_trials(folder)

    assert {"experiment.json", "ledger.jsonl", "best.json", "best/model.safetensors", "log/ray.log"} <= set(keys)
    assert (folder / "best" / "evaluation.json").is_file()
    assert not (folder / "best" / "model.safetensors").exists()
    assert "lease.json" not in keys
    assert not any(key.startswith("log/tune") for key in keys)
    assert (folder / "ledger.jsonl").read_bytes() == (bucket.here("x") / "ledger.jsonl").read_bytes()
    assert len(trials) == 4
    assert search_state(read_ledger(folder / "ledger.jsonl")) == "COMPLETED"
    best = json.loads((folder / "best.json").read_text())
    assert best["metrics"]["val_accuracy"] == max(r["val_accuracy"] for t in trials for r in t.reports)
    assert 0 <= best["metrics"]["test_accuracy"] <= 1
    kept = {key.split("/")[1] for key in keys if key.startswith("checkpoints/")}
    assert len(kept) == 2
    assert best["trial_id"] in kept
    assert not any("/last/" in key for key in keys)
    assert not list(scratch_folder().rglob("*.safetensors"))
    assert f"glance-report {PLACE}/x" in output
    assert bucket.run("x") == 2
    assert f"--resume {PLACE}/x" in capfd.readouterr().err


def test_the_keys_reach_no_disk(bucket: Bucket, s3: Proxy) -> None:
    import ray

    assert bucket.run("x", "--algo", "random", "--trials", "1", "--max-epochs", "1") == 0
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    files = [path for folder in (session, Path(os.environ["GLANCE_CACHE"])) for path in folder.rglob("*")]
    holding = [path for path in files if path.is_file() and path.suffix != ".arrow" and secret in path.read_bytes()]

    assert files
    assert holding == []
    assert not any(secret in bucket.storage.get(key) for key in bucket.storage.sizes())


def test_a_node_that_cannot_use_the_bucket_ends_the_search_before_its_first_trial(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainable.slot.storage_actors.PASSED_ON", ("AWS_EC2_METADATA_DISABLED",))

    assert bucket.run("x", "--trials", "1") == 2
    error = capfd.readouterr().err
    assert f"every node that trains must be able to use the storage, but from {platform.node()}" in error
    assert "needs credentials" in error
    assert not bucket.here("x").exists()


def test_workers_of_one_trial_keep_it_in_the_bucket(bucket: Bucket) -> None:
    assert bucket.run("x", "--algo", "random", "--trials", "1", "--max-epochs", "2", "--workers-per-trial", "2") == 0

    trial = read_trials(bucket.fetched("x"))[0]
    assert (trial.state, trial.epochs) == ("FINISHED", 2)
    state = TrialObjects(bucket.storage).state("x/checkpoints/trial_0000")
    assert state is not None
    assert state.document("report.json")["epoch"] == state.epoch == 2
    assert any(name.startswith("best/") for name in state.objects)


def test_data_in_a_bucket_serve_a_search_in_a_folder(bucket: Bucket, s3: Proxy) -> None:
    """The driver and the slots have caches of their own here, as on two nodes, and slots have no credentials."""
    data, results = "s3://glance/stores/faces", bucket.tmp_path / "results"
    store = Store.open(bucket.faces)
    upload_store(store, data, watch=unwatched)
    s3.passed.clear()
    asked = ["--storage", str(results), "--name", "x", "--algo", "random", "--trials", "2", "--max-epochs", "1", *QUICK]
    assert main([*asked, "--data-path", data]) == 0

    trials = read_trials(results / "x")
    dataset = json.loads((results / "x" / "experiment.json").read_text())["dataset"]
    assert [trial.state for trial in trials] == ["FINISHED"] * 2
    assert (dataset["path"], dataset["content_hash"]) == (data, store.manifest.content_hash)
    assert (results / "x" / "best" / "model.safetensors").exists()
    assert 1 <= sum(path.endswith("/train.arrow") for _, path in s3.passed) <= 2


class Outage:
    """Lets the storage be away for a while in the middle of a search, and asks the search to end some time after it."""

    def __init__(self, bucket: Bucket, name: str, s3: Proxy) -> None:
        self.reports_meanwhile = 0
        self.caught_up = False
        self._bucket, self._name, self._s3 = bucket, name, s3
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go)

    def __enter__(self) -> "Outage":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _go(self) -> None:
        try:
            if self._until(lambda: self._reports() >= 4 and self._s3.failed > 0):
                self._take_away()
        finally:
            if not self._over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    def _take_away(self) -> None:
        before = self._reports()
        self._s3.go_down()
        self._over.wait(OUTAGE_SECONDS)
        self._until(lambda: self._reports() >= before + 4)
        self.reports_meanwhile = self._reports() - before
        self._s3.come_up()
        ledger = (self._bucket.here(self._name) / "ledger.jsonl").read_bytes()
        wanted = ledger[: ledger.rfind(b"\n") + 1]
        self.caught_up = self._until(lambda: self._remote_ledger().startswith(wanted))

    def _until(self, condition: Callable[[], bool]) -> bool:
        """Look at a condition until it holds; False where it does not within minutes, or the search is over."""
        deadline = time.monotonic() + 240
        while not condition():
            if time.monotonic() > deadline or self._over.wait(0.1):
                return False
        return True

    def _remote_ledger(self) -> bytes:
        return persist(lambda: read_growing(self._bucket.storage, f"{self._name}/ledger.jsonl"))

    def _reports(self) -> int:
        ledger = self._bucket.here(self._name) / "ledger.jsonl"
        return sum(e["event"] == "report" for e in read_ledger(ledger)) if ledger.exists() else 0


def fetched_epochs(s3: Proxy, trial_id: str) -> list[int]:
    """The epochs of the checkpoints of a trial that were read."""
    paths = [path for method, path in s3.passed if method == "GET" and f"/{trial_id}/last/e" in path]
    return [int(path.partition("/last/e")[2][:5]) for path in paths]


def test_a_storage_that_fails_and_goes_away_stops_no_training_and_loses_nothing(bucket: Bucket, s3: Proxy) -> None:
    s3.share = 0.2
    asked = ["--algo", "random", "--max-epochs", "6", "--keep-best", "2", "--max-concurrent", "1"]
    with Outage(bucket, "x", s3) as outage:
        assert bucket.run("x", *asked, "--trials", "1000") == 130
    assert outage.caught_up
    cut_off = [trial for trial in read_trials(bucket.here("x")) if trial.state == "RUNNING"]
    ledger = (bucket.here("x") / "ledger.jsonl").read_bytes()
    assert outage.reports_meanwhile >= 4
    assert s3.failed > 10
    assert s3.refused > 0

    shutil.rmtree(working_folder(PLACE))  # the head's disk is gone, and so are those of all nodes
    shutil.rmtree(scratch_folder(), ignore_errors=True)
    s3.passed.clear()
    begun = sum(json.loads(line)["event"] == "created" for line in ledger.splitlines())
    assert main(["--resume", f"{PLACE}/x", "--trials", str(begun)]) == 0
    s3.share = 0.0
    folder = bucket.fetched("x")
    trials = read_trials(folder)

    assert (folder / "ledger.jsonl").read_bytes().startswith(ledger)
    assert [trial.state for trial in trials] == ["FINISHED"] * begun
    assert all([report["epoch"] for report in trial.reports] == [1, 2, 3, 4, 5, 6] for trial in trials)
    assert all(trial.attempts == 1 for trial in trials if trial.trial_id not in {cut.trial_id for cut in cut_off})
    for trial in cut_off:
        assert max(fetched_epochs(s3, trial.trial_id), default=0) >= trial.epochs
    best = json.loads((folder / "best.json").read_text())
    assert best["metrics"]["val_accuracy"] == max(r["val_accuracy"] for t in trials for r in t.reports)
    bucket.storage.get_file("x/best/model.safetensors", bucket.tmp_path / "best" / "model.safetensors")
    assert saved_epoch(bucket.tmp_path / "best") == best["epoch"]
    assert analyse([f"{PLACE}/x"]) == 0
