import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from search.cluster import Node, TrialResources, connected, count_slots, resources_of, run_like_a_trial
from trainable.errors import ResourceError

LAPTOP = [Node(cpus=8, gpus=0)]
CLUSTER = [Node(cpus=4, gpus=0), Node(cpus=96, gpus=8, accelerator="A100"), Node(cpus=96, gpus=8, accelerator="A100")]


def trial(cpus: int = 1, gpus: float = 0.0, workers: int = 1) -> TrialResources:
    return TrialResources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)


@pytest.mark.parametrize(
    ("nodes", "resources", "slots"),
    [
        (LAPTOP, trial(), 8),
        (LAPTOP, trial(cpus=3), 2),
        (CLUSTER, trial(gpus=1), 16),
        (CLUSTER, trial(cpus=24, gpus=1), 8),
        (CLUSTER, trial(gpus=0.25), 64),
        (CLUSTER, trial(gpus=0.3), 48),
        (CLUSTER, trial(gpus=0.6), 16),
        (CLUSTER, trial(gpus=8), 2),
        (CLUSTER, trial(gpus=3), 4),
        (CLUSTER, trial(gpus=1, workers=4), 4),
        (CLUSTER, trial(gpus=1, workers=16), 1),
        (CLUSTER, trial(cpus=64), 2),
    ],
)
def test_slots_are_what_fits_on_each_node(nodes: list[Node], resources: TrialResources, slots: int) -> None:
    assert count_slots(nodes, resources) == slots


def test_what_does_not_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ResourceError) as info:
        count_slots([Node(cpus=16, gpus=1)], trial(gpus=1, workers=4))

    assert "4 workers x 1 CPU and 4 x 1 GPU" in str(info.value)
    assert "the cluster has 16 CPUs and 1 GPU on 1 node" in str(info.value)


def test_what_fits_on_all_nodes_together_but_on_none_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"196 CPUs and 16 GPUs on 3 nodes, at most 96 and 8 on one"):
        count_slots(CLUSTER, trial(cpus=100))


def test_a_cluster_without_nodes_is_refused() -> None:
    with pytest.raises(ResourceError, match="0 CPUs and 0 GPUs on 0 nodes"):
        count_slots([], trial())


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        (LAPTOP, (None, None), trial()),
        (CLUSTER, (None, None), trial(gpus=1)),
        (CLUSTER, (4, 0.5), trial(cpus=4, gpus=0.5)),
        (CLUSTER, (None, 0.0), trial()),
    ],
)
def test_defaults_are_one_cpu_and_one_gpu_where_there_are_any(
    nodes: list[Node], asked: tuple[int | None, float | None], expected: TrialResources
) -> None:
    assert resources_of(nodes, workers=1, cpus_per_worker=asked[0], gpus_per_worker=asked[1]) == expected


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port of this machine that RAY_ADDRESS names, bound and not listened to."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))  # Ray asks for 127.0.0.1 by the name of the node
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{bound.getsockname()[1]}")
        yield bound


def test_an_address_where_nothing_listens_is_refused_before_ray_tries(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("tried"))
    with pytest.raises(ResourceError, match=r"at RAY_ADDRESS=127.0.0.1:\d+, but: .*refused"), connected(lambda _: None):
        pass


def test_a_cluster_that_does_not_answer_is_refused(port: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise ConnectionError("ray did not answer.\nmore")

    port.listen()
    monkeypatch.setattr(ray, "init", init)
    said: list[str] = []
    with pytest.raises(ResourceError, match=r"RAY_ADDRESS=.*, but: ray did not answer\. Start"), connected(said.append):
        pass
    assert said[0].startswith("connecting to the Ray cluster at ")


def test_a_local_cluster_that_does_not_start_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(ResourceError, match=r"Ray must start on this machine, but: .*No space left"), connected(print):
        pass


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:port", "ray://127.0.0.1:port"])
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("tried"))
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ResourceError, match=f"RAY_ADDRESS={address}"), connected(lambda _: None):
        pass


def test_a_lost_task_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(reference: object) -> None:
        raise ray.exceptions.OutOfMemoryError("killed for memory\nmore")

    task = SimpleNamespace(remote=lambda *arguments, **options: None)
    monkeypatch.setattr(ray, "remote", lambda **options: lambda function: task)
    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(ResourceError, match=r"it was lost: OutOfMemoryError: killed for memory\. Look"):
        run_like_a_trial(print, nodes=CLUSTER, resources=trial())
