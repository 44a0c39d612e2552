"""What may still join a cluster: the file of its autoscaler, and a search that waits for a node."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from search import growth
from search.cluster import Growth
from search.growth import Limits, NodeType, find_growth, growth_within, read_config, read_limits
from trainable.slot.cluster import Node

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
cluster_name: two-kinds
max_workers: 5
provider: {type: fake_multinode}
available_node_types:
  head:
    resources: {CPU: 8}
    node_config: {}
  big:
    resources: {CPU: 96, GPU: 8, "accelerator_type:A100": 1}
    node_config: {}
    min_workers: 0
    max_workers: 4
  small:
    resources: {CPU: 8, memory: 32000000000}
    node_config: {}
  unknown:
    node_config: {}
    max_workers: 9
head_node_type: head
"""
HEAD = Node(cpus=8, gpus=0, is_head=True)
BIG = Node(cpus=96, gpus=8, accelerators=("A100",))
SMALL = Node(cpus=8, gpus=0)
FOUR = Node(cpus=4, gpus=0)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "autoscaling.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def limits(most: int, **kinds: tuple[dict[str, float], int]) -> Limits:
    return Limits(types=[NodeType(resources=resources, most=count) for resources, count in kinds.values()], most=most)


def test_the_limits_stand_in_the_launchers_file(config: Path) -> None:
    big = {"CPU": 96.0, "GPU": 8.0, "accelerator_type:A100": 1.0}
    small = {"CPU": 8.0, "memory": 32e9}

    assert read_config(config) == limits(5, head=({"CPU": 8.0}, 0), big=(big, 4), small=(small, 5))


def test_the_cluster_that_is_shipped_grows_by_four_nodes_of_eight_gpus() -> None:
    found = read_config(ROOT / "cluster" / "a100.yaml")

    assert growth_within(found, [Node(cpus=0, gpus=0, is_head=True)]) == Growth(nodes=(BIG,) * 4, most=4)


def test_a_node_counts_for_the_kind_that_has_its_type_of_gpu() -> None:
    """Ray itself names the GPUs of a node that is up, whether or not the file does."""
    size = {"CPU": 8.0, "GPU": 1.0}
    kinds = limits(9, t4=({**size, "accelerator_type:T4": 1.0}, 2), unnamed=(size, 2))
    t4, v100, unnamed = (Node(cpus=8, gpus=1, accelerators=names) for names in (("T4",), ("V100",), ()))

    assert growth_within(kinds, [HEAD, v100]) == Growth(nodes=(t4, t4, unnamed), most=3)
    assert growth_within(kinds, [HEAD, t4]) == Growth(nodes=(t4, unnamed, unnamed), most=3)
    assert growth_within(kinds, [HEAD, t4, t4, t4]) == Growth(nodes=(unnamed,), most=1)


def test_without_a_limit_ray_starts_two_nodes(config: Path) -> None:
    config.write_text(CONFIG.replace("max_workers: 5\n", ""), encoding="utf-8")

    assert read_config(config)["most"] == 2


def of_file(config: Path, nodes: list[Node]) -> Growth:
    return growth_within(read_config(config), nodes)


def test_nodes_that_are_up_are_no_longer_to_come(config: Path) -> None:
    assert of_file(config, [HEAD]) == Growth(nodes=(BIG,) * 4 + (SMALL,) * 5, most=5)
    assert of_file(config, [HEAD, BIG]) == Growth(nodes=(BIG,) * 3 + (SMALL,) * 4, most=4)
    assert of_file(config, [HEAD, BIG, BIG, BIG, BIG]) == Growth(nodes=(SMALL,), most=1)
    assert of_file(config, [HEAD, BIG, BIG, BIG, BIG, SMALL]) == Growth()


def test_a_node_counts_for_one_of_two_kinds_of_its_size() -> None:
    cpus = {"CPU": 4.0}
    two_kinds = limits(9, spot=(cpus, 2), on_demand=(cpus, 1))
    node = Node(cpus=4, gpus=0)

    assert growth_within(two_kinds, [HEAD, node]) == Growth(nodes=(node,) * 2, most=2)
    assert growth_within(two_kinds, [HEAD, node, node, node]) == Growth()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What this process knows of its cluster, whose head it is on, and the processes that run there."""
    fake = SimpleNamespace(address="10.0.0.1:6379", lines=[["/usr/bin/python", "-c", "pass"], [""]], head="a")
    entries = [{"NodeID": "a", "Alive": True, "Resources": {"CPU": 8.0, "node:__internal_head__": 1.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: entries)
    context = SimpleNamespace(gcs_address=fake.address, get_node_id=lambda: fake.head)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(growth, "_command_lines", lambda: iter(fake.lines))
    return fake


def monitor(address: str, config: Path) -> list[str]:
    """How Ray starts its autoscaler (2.60: `ray._private.services.start_monitor`)."""
    return [
        "python",
        "-u",
        "monitor.py",
        "--logs-dir=/tmp",
        f"--gcs-address={address}",
        f"--autoscaling-config={config}",
    ]


def test_the_file_is_that_of_the_autoscaler_which_serves_this_cluster(cluster: SimpleNamespace, config: Path) -> None:
    cluster.lines += [monitor("10.0.0.2:6379", config.parent / "other"), monitor(cluster.address, config)]

    assert read_limits() == read_config(config)
    assert find_growth([HEAD], pytest.fail) == Growth(nodes=(BIG,) * 4 + (SMALL,) * 5, most=5)


def test_a_cluster_without_an_autoscaler_does_not_grow(cluster: SimpleNamespace, config: Path) -> None:
    cluster.lines += [monitor("10.0.0.2:6379", config), monitor(cluster.address, config)[:-1]]

    assert find_growth([HEAD], pytest.fail) == Growth()


@pytest.mark.parametrize("text", [None, "a: ["])
def test_limits_that_cannot_be_read_are_none_and_said(cluster: SimpleNamespace, config: Path, text: str | None) -> None:
    config.unlink() if text is None else config.write_text(text)
    cluster.lines.append(monitor(cluster.address, config))
    said: list[str] = []

    assert find_growth([HEAD], said.append) == Growth()
    assert said[0].startswith("taking the nodes that are up, because the limits of the cluster's autoscaler cannot be")
    assert str(config) in said[0]


@pytest.fixture
def autoscaler(ray_cluster: str, tmp_path: Path) -> Iterator[None]:
    """A process that looks like the autoscaler of the tests' cluster, which may start one node of 4 CPUs."""
    file = tmp_path / "autoscaling.yaml"
    file.write_text("max_workers: 1\navailable_node_types: {four: {resources: {CPU: 4}}}\n", encoding="utf-8")
    waiting = [sys.executable, "-c", "import time; time.sleep(600)", *monitor(ray_cluster, file)[-2:]]
    with subprocess.Popen(waiting) as process:
        yield
        process.kill()


@pytest.mark.e2e
def test_a_search_that_runs_elsewhere_asks_the_head(autoscaler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "another"))

    assert find_growth([Node(cpus=2, gpus=0, is_head=True)], pytest.fail) == Growth(nodes=(FOUR,), most=1)


@pytest.mark.e2e
def test_a_search_waits_for_a_node_that_the_autoscaler_may_start(
    autoscaler: None, ray_cluster: str, add_node: Callable[..., object], faces: Path, tmp_path: Path
) -> None:
    short = ["--trials", "2", "--max-epochs", "1", "--set", "epoch_samples=64", "--set", "embedding_dim=16"]
    where = ["--data-path", str(faces), "--storage", str(tmp_path), "--name", "grown"]
    search = subprocess.Popen(
        [sys.executable, str(ROOT / "search" / "run.py"), "--cpus-per-worker", "3", *short, *where],
        env={**os.environ, "RAY_ADDRESS": ray_cluster},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert search.stdout is not None
        lines = [search.stdout.readline() for _ in range(3)]
        add_node(cpus=4)
        output, _ = search.communicate(timeout=200)
    finally:
        search.kill()

    assert lines[1] == "checking that a trial works (1 worker x 3 CPUs; 1 at a time)\n"
    assert lines[2] == (
        "waiting for the cluster to grow: a trial takes 1 worker x 3 CPUs, the cluster has 2 CPUs and 0 GPUs on 1 node "
        "now, and its autoscaler may start up to 1 more node of 4 CPUs and 0 GPUs\n"
    )
    assert search.returncode == 0, output
    resources = json.loads((tmp_path / "grown" / "experiment.json").read_text())["resources"]
    assert (resources["slots"], resources["nodes"], resources["cluster_cpus"]) == (1, 2, 6)
