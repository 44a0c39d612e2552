"""A search whose trials are trained by groups of workers, from the command to the ledger, and what it leaves behind."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from ray.util.state import list_actors

from search.ledger import LEDGER_NAME, read_ledger, read_trials
from search.run import main

pytestmark = pytest.mark.e2e


def kill_a_worker(after_reports: int, ledger: Path, address: str) -> None:
    """Wait for the search to come so far, then end one of its workers as the system would."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if ledger.exists() and sum(event["event"] == "report" for event in read_ledger(ledger)) >= after_reports:
            workers = list_actors(address, filters=[("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")])
            os.kill(int(workers[-1].pid), signal.SIGKILL)
            return
        time.sleep(0.05)


@pytest.mark.usefixtures("free_resources")
def test_a_search_survives_a_killed_worker_and_leaves_nothing_behind(
    faces: Path, tmp_path: Path, ray_cluster: str
) -> None:
    experiment = tmp_path / "x"
    killer = threading.Thread(target=kill_a_worker, args=(3, experiment / LEDGER_NAME, ray_cluster))
    killer.start()
    arguments = ["--storage", str(tmp_path), "--name", "x", "--data-path", str(faces), "--algo", "asha"]
    arguments += ["--trials", "4", "--max-epochs", "3", "--reduction-factor", "2", "--workers-per-trial", "2"]
    status = main([*arguments, "--set", "epoch_samples=128", "--set", "image_tower=vit-tiny"])
    killer.join()

    assert status == 0
    trials = read_trials(experiment)
    assert {trial.state for trial in trials} <= {"FINISHED", "STOPPED"}
    assert len(trials) == 4
    assert "STOPPED" in {trial.state for trial in trials}
    (retried,) = [event for event in read_ledger(experiment / LEDGER_NAME) if event["event"] == "retried"]
    assert retried["failure"]["kind"] == "WorkersLostError"
    assert [trial.attempts for trial in trials if trial.trial_id == retried["trial_id"]] == [2]
    assert all([report["epoch"] for report in trial.reports] == [*range(1, trial.epochs + 1)] for trial in trials)
