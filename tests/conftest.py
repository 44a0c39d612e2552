"""What all tests share: a cache folder of their own, a small store of faces, one Ray cluster."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CACHE = tempfile.TemporaryDirectory(prefix="glance-tests-")
os.environ["GLANCE_CACHE"] = CACHE.name
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 280 training, 70 validation and 70 test faces."""
    from trainable.data.preparation import prepare_store
    from trainable.data.source import PrepareOptions

    options = PrepareOptions(synthetic_sizes=(280, 70, 70))
    return prepare_store("synthetic", out=tmp_path_factory.mktemp("data") / "faces", options=options, progress=False)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of a local cluster with 2 CPUs. Two clusters on one host disturb each other: share this one.

    It has the dashboard's process, which Ray Train asks after the actors whose resources it gives back.
    """
    import ray

    ray.init(num_cpus=2, num_gpus=0, include_dashboard=True, log_to_driver=False, logging_level="WARNING")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Look at a condition until it holds; False when it does not within a minute."""

    def look(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 60
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    return look
