"""A search on four raylets, of which one goes in the middle, and to which another comes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from search.experiment import Experiment
from search.ledger import LEDGER_NAME, fold_trials, read_ledger

SCRIPT = Path(__file__).with_name("gated_search.py")
EPOCHS = 3
TRIALS = 5
LIMIT_SECONDS = 120


@pytest.fixture
def room_for_one_on_the_head(ray_cluster: str) -> Iterator[None]:
    """One of the head's two CPUs is taken."""
    taken = placement_group([{"CPU": 1}])
    assert taken.wait(30)
    yield
    remove_placement_group(taken)


def node_id_of(node: Any) -> str:
    """Ray's name of a raylet that was started by this process."""
    alive = [entry for entry in ray.nodes() if entry["Alive"]]  # a socket's name may have been another's before
    (node_id,) = [entry["NodeID"] for entry in alive if entry["RayletSocketName"] == node.raylet_socket_name]
    return str(node_id)


@pytest.mark.e2e
@pytest.mark.usefixtures("room_for_one_on_the_head")
def test_a_search_loses_a_node_and_gets_another(
    ray_cluster: str, add_node: Callable[..., Any], faces: Path, tmp_path: Path, eventually: Callable[..., bool]
) -> None:
    """Four trials run, one on each node, and wait in their second epoch until the new node has the one that was cut."""
    nodes = {node_id_of(node): node for node in [add_node(cpus=1) for _ in range(3)]}
    ledger = tmp_path / "x" / LEDGER_NAME

    def events(kind: str) -> list[dict[str, Any]]:
        return [event for event in read_ledger(ledger) if event["event"] == kind] if ledger.exists() else []

    def waits(condition: Callable[[], bool]) -> bool:
        return eventually(lambda: search.poll() is not None or condition(), seconds=LIMIT_SECONDS)

    flags = ["--data-path", str(faces), "--storage", str(tmp_path), "--name", "x", "--algo", "random"]
    flags += ["--trials", str(TRIALS), "--max-epochs", str(EPOCHS), "--max-concurrent", "4"]
    flags += ["--set", "epoch_samples=64", "--set", "image_tower=vit-tiny"]
    search = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path), *flags],
        env={**os.environ, "RAY_ADDRESS": ray_cluster},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert waits(lambda: len(events("report")) == 4)
        cut = next(event for event in events("started") if event["node_id"] in nodes)
        nodes[cut["node_id"]].kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        assert waits(lambda: bool(events("retried")))
        # What waits is what the autoscaler sees.
        assert waits(lambda: "PENDING" in {group["state"] for group in placement_group_table().values()})
        come = node_id_of(add_node(cpus=1))
        assert waits(lambda: come in {event["node_id"] for event in events("started")})
        (tmp_path / "open").touch()
        output, _ = search.communicate(timeout=LIMIT_SECONDS)
    finally:
        search.kill()

    assert search.returncode == 0, output
    trials = fold_trials(read_ledger(ledger))
    assert [trial.state for trial in trials] == ["FINISHED"] * TRIALS
    assert [[report["epoch"] for report in trial.reports] for trial in trials] == [[*range(1, EPOCHS + 1)]] * TRIALS
    assert Experiment.open(tmp_path / "x").best_path.exists()

    attempts = [
        (event["attempt"], event["node_id"]) for event in events("started") if event["trial_id"] == cut["trial_id"]
    ]
    assert attempts == [(1, cut["node_id"]), (2, come)]
    assert [trial.trial_id for trial in trials if trial.attempts > 1] == [cut["trial_id"]]
    trained = (tmp_path / "trained.txt").read_text().splitlines()
    assert sorted(trained) == [f"{trial.trial_id} {epoch}" for trial in trials for epoch in range(1, EPOCHS + 1)]
