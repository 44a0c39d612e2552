"""What all tests share: a cache folder of their own, a small store of faces, one Ray cluster."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.s3_server import BUCKET, Proxy

CACHE = tempfile.TemporaryDirectory(prefix="glance-tests-")
os.environ["GLANCE_CACHE"] = CACHE.name
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parent
LONGEST = [
    ROOT / "cluster" / "test_on_prem.py",
    ROOT / "search" / "test_run.py",
    ROOT / "search" / "test_resume_run.py",
    ROOT / "search" / "test_bucket_run.py",
]
"""The files that take minutes, in the order in which they are best begun."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first: of two processes, none then waits for the other's last file.

    After those follow the other files with `e2e` tests, and the quick ones fill what is left.
    """
    rank = {path: place for place, path in enumerate(LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: (rank.get(item.path, len(rank)), item.path not in slow))


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 280 training, 70 validation and 70 test faces."""
    from trainable.data.preparation import prepare_store
    from trainable.data.source import PrepareOptions

    options = PrepareOptions(synthetic_sizes=(280, 70, 70))
    return prepare_store("synthetic", out=tmp_path_factory.mktemp("data") / "faces", options=options, progress=False)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of a local cluster with 2 CPUs, one for each process of the tests.

    It has the dashboard's process, which Ray Train asks after the actors whose resources it gives back.
    """
    import ray

    from trainable.slot.cluster import local_address

    with local_address() as where:
        ray.init(where, num_cpus=2, num_gpus=0, include_dashboard=True, log_to_driver=False, logging_level="WARNING")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def eventually() -> Callable[..., bool]:
    """Look at a condition until it holds; False when it does not within a minute, or so many seconds."""

    def look(condition: Callable[[], bool], seconds: float = 60) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    return look


@pytest.fixture(scope="session")
def moto_address() -> Iterator[tuple[str, int]]:
    """Host and port of moto's S3 server, with nothing in it."""
    server = pytest.importorskip("moto.server", reason="needs moto's server (make setup installs it)")
    moto = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    yield moto.get_host_and_port()
    moto.stop()


@pytest.fixture
def s3(moto_address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before an S3 server with an empty bucket `glance`, to which this process's AWS_ variables lead."""
    import boto3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    proxy = Proxy(*moto_address)
    settings = {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "key-of-the-test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.session.Session(region_name="us-east-1").resource("s3").Bucket(BUCKET)
    bucket.create()
    bucket.objects.all().delete()
    yield proxy
    proxy.close()
