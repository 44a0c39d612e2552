import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from trainable.errors import ResourceError
from trainable.slot.cluster import Node, connected, local_address


def test_a_node_is_read_from_the_resources_that_ray_gives_it() -> None:
    resources = {"CPU": 96.0, "GPU": 8.0, "accelerator_type:A100": 1.0, "memory": 1e9, "node:10.0.0.1": 1.0}

    assert Node.of(resources) == Node(cpus=96, gpus=8, accelerators=("A100",))
    two_names = {"accelerator_type:A100-80G": 1.0, "accelerator_type:A100": 1.0}
    assert Node.of(two_names).accelerators == ("A100", "A100-80G")
    assert Node.of({"memory": 1e9, "node:__internal_head__": 1.0}) == Node(cpus=0, gpus=0, is_head=True)


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


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), Exception("The current node timed out during startup.")]
)
def test_a_local_cluster_that_does_not_start_is_a_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def init(**options: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with (
        pytest.raises(ResourceError, match=r"Ray must start on this machine, but: .*(No space|timed out)"),
        connected(print),
    ):
        pass


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:port", "ray://127.0.0.1:port"])
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("tried"))
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ResourceError, match=f"RAY_ADDRESS={address}"), connected(lambda _: None):
        pass


def test_a_cluster_that_asks_for_a_token_says_how_to_give_it(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        raise ConnectionError("Failed to connect.") from RuntimeError("RPC error: InvalidAuthToken: it is missing")

    port.listen()
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ResourceError, match="got none: set RAY_AUTH_MODE=token"), connected(lambda _: None):
        pass


def test_the_processes_of_a_local_cluster_are_told_its_address_and_this_one_keeps_what_it_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.delenv("RAY_GCS_SERVER_PORT", raising=False)
    with local_address() as where:
        host, _, port = os.environ["RAY_ADDRESS"].rpartition(":")
        assert where == "local"
        assert port == os.environ["RAY_GCS_SERVER_PORT"]
        with socket.socket() as gcs:
            gcs.bind((host, int(port)))
    assert os.environ["RAY_ADDRESS"] == "local"
    assert "RAY_GCS_SERVER_PORT" not in os.environ
