"""Searches whose driver dies, and that go on: the command, Ray, real training on a few faces."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.ledger import LEDGER_NAME, read_ledger, read_trials, search_state
from search.run import main
from search.trials import TrialRecord

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
ASKED = [
    *("--algo", "asha", "--trials", "6", "--max-epochs", "4", "--reduction-factor", "2", "--max-concurrent", "1"),
    *("--set", "epoch_samples=64", "--set", "embedding_dim=16", "--set", "image_tower=vit-tiny"),
]
MEASURED = ("val_accuracy", "val_loss", "train_loss", "gradient_norm")

Eventually = Callable[..., bool]


def arguments(faces: Path, storage: Path, *more: str) -> list[str]:
    return ["--storage", str(storage), "--name", "x", "--data-path", str(faces), *ASKED, *more]


def told(experiment: Path) -> list[tuple[Any, ...]]:
    """Every report of every trial, in order of trial and epoch, and how each trial ended."""
    trials = read_trials(experiment)
    reports = [(t.number, r["epoch"], *(r[name] for name in MEASURED)) for t in trials for r in t.reports]
    return reports + [(trial.number, trial.state) for trial in trials]


def trials_of(experiment: Path) -> list[TrialRecord]:
    return read_trials(experiment) if (experiment / LEDGER_NAME).exists() else []


def run_until_killed(argv: list[str], experiment: Path, reports: int, address: str, eventually: Eventually) -> None:
    """Run the command in a process of its own, and kill that once the ledger has so many reports."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "search" / "run.py"), *argv],
        env={**os.environ, "RAY_ADDRESS": address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(lambda: sum(trial.epochs for trial in trials_of(experiment)) >= reports, seconds=180)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def lived(faces: Path, ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that came to its end in one go."""
    storage = tmp_path_factory.mktemp("lived")
    assert main(arguments(faces, storage)) == 0
    return storage / "x"


@pytest.mark.usefixtures("free_resources")
def test_a_search_whose_driver_is_killed_twice_tells_what_one_that_lived_tells(
    lived: Path,
    faces: Path,
    tmp_path: Path,
    ray_cluster: str,
    eventually: Eventually,
    capfd: pytest.CaptureFixture[str],
) -> None:
    experiment = tmp_path / "killed" / "x"
    run_until_killed(arguments(faces, tmp_path / "killed"), experiment, 2, ray_cluster, eventually)
    run_until_killed(["--resume", str(experiment)], experiment, 5, ray_cluster, eventually)
    assert search_state(read_ledger(experiment / LEDGER_NAME)) == "RUNNING"

    assert main(["--resume", str(experiment)]) == 0
    assert told(experiment) == told(lived)
    assert search_state(read_ledger(experiment / LEDGER_NAME)) == "COMPLETED"
    assert (experiment / "best" / "model.safetensors").exists()
    assert "The search is complete." in capfd.readouterr().out


@pytest.mark.usefixtures("free_resources", "ray_cluster")
def test_a_search_that_is_complete_goes_on_where_more_trials_are_asked_for(faces: Path, tmp_path: Path) -> None:
    assert main(arguments(faces, tmp_path, "--scheduler", "asha-promote", "--trials", "3")) == 0
    before = told(tmp_path / "x")
    assert {state for *_, state in before[-3:]} <= {"FINISHED", "STOPPED"}

    assert main(["--resume", str(tmp_path / "x"), "--trials", "5"]) == 0
    trials = read_trials(tmp_path / "x")
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]
    assert [entry for entry in told(tmp_path / "x") if entry[0] < 3] == before
    assert len({trial.config["learning_rate"] for trial in trials}) == 5


def test_only_one_driver_may_go_on_with_a_search(lived: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from search.ledger import LedgerWriter

    with LedgerWriter(lived / LEDGER_NAME):
        assert main(["--resume", str(lived), "--trials", "7"]) == 2

    assert "only one search may write to" in capfd.readouterr().err


def test_what_was_asked_cannot_change(faces: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import json

    (tmp_path / "experiment.json").write_text(json.dumps({"options": {"overrides": [], "warm_start": [], "seed": 0}}))

    assert main(["--resume", str(tmp_path), "--seed", "1"]) == 2
    assert "--seed must stay what it was where a search goes on, but it was 0 and now is 1" in capfd.readouterr().err
