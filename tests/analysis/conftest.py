"""A generated experiment: seeded learning curves under asynchronous successive halving, in virtual time."""

import heapq
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.ledger import LedgerWriter
from search.ledger_file import plain

SPACE = {
    "learning_rate": "loguniform(0.0001,0.01)",
    "logit_scale": "uniform(1,4)",
    "embedding_dim": "choice(2,4,8,16,32,64,128)",
    "weight_init": "choice(trunc_normal,xavier,kaiming,orthogonal)",
}
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
START = 1_790_000_000.0
DIVERGED = {
    "kind": "DivergedError",
    "message": "the loss must be finite, but is nan at step 12. Lower the learning rate.",
    "where": "trainable/training/trainer.py:123",
    "traceback_file": "failures/1f0c.txt",
}
TRACEBACK = (
    'Traceback (most recent call last):\n  File "trainer.py", line 123, in train_epoch\nDivergedError: nan <loss>\n'
)

Event = tuple[float, int, str, dict[str, Any]]


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """One trial's config."""
    return {
        "learning_rate": float(np.exp(rng.uniform(np.log(1e-4), np.log(1e-2)))),
        "logit_scale": float(rng.uniform(1, 4)),
        "embedding_dim": int(rng.choice([2, 4, 8, 16, 32, 64, 128])),
        "weight_init": str(rng.choice(["trunc_normal", "xavier", "kaiming", "orthogonal"])),
        "head_depth": 1,
        "batch_size": 64,
        "seed": 0,
    }


def curve(config: dict[str, Any], max_epochs: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Every epoch's report of a trial that nobody stops."""
    lr_gap = math.log10(config["learning_rate"] / 2e-3)
    quality = math.exp(-1.3 * lr_gap**2) * (1 - 0.45 / config["embedding_dim"] ** 0.5)
    quality *= {"kaiming": 1.0, "orthogonal": 0.97, "xavier": 0.92}.get(config["weight_init"], 0.85)
    reports = []
    for epoch in range(1, max_epochs + 1):
        progress = 1 - math.exp(-epoch / (2.2 + 2 * abs(lr_gap)))
        train = 1 / 7 + (0.99 - 1 / 7) * quality * progress
        val = max(0.1, train * (1 - 0.06 * progress) + rng.normal(0, 0.008))
        reports.append(
            {
                "epoch": epoch,
                "samples_seen": epoch * 2800,
                "epoch_seconds": float(rng.uniform(3.5, 4.5)),
                "images_per_second": float(rng.uniform(650, 800)),
                "train_loss": 4.1 - 2.2 * train,
                "train_accuracy": train,
                "val_loss": 1.95 * (1 - val) + 0.08 * progress,
                "val_accuracy": val,
                "val_balanced_accuracy": val - 0.004,
                "learning_rate_now": config["learning_rate"] * (1 - epoch / max_epochs),
                "logit_scale_now": config["logit_scale"] + 0.02 * epoch,
                "gradient_norm": float(rng.uniform(0.5, 2.0)),
                "predicted_classes": 7,
            }
        )
    return reports


def events(
    trials: int, max_epochs: int, slots: int, rng: np.random.Generator, edit: Callable[..., None]
) -> Iterator[Event]:
    """Events in the order of time; rungs at 1, 3, 9 … epochs, the upper third goes on."""
    free = [(0.0, slot) for slot in range(slots)]
    rungs: dict[int, list[float]] = {}
    found: list[Event] = []
    for number in range(trials):
        start, slot = heapq.heappop(free)
        config = draw(rng)
        reports = curve(config, max_epochs, rng)
        edit(number, config, reports)
        found += [
            (start, number, "created", {"number": number, "config": config}),
            (start + 0.1, number, "started", {}),
        ]
        now, state, failure = start + 0.3, "FINISHED", None
        for report in reports:
            now += report["epoch_seconds"]
            if "failure" in report or config["learning_rate"] > (7e-3 if report["epoch"] == 1 else 5e-3):
                state, failure = "FAILED", report.get("failure", DIVERGED)
                break
            found.append((now, number, "report", report))
            if report["epoch"] in (1, 3, 9) and report["epoch"] < max_epochs:
                rung = rungs.setdefault(report["epoch"], [])
                rung.append(report["val_accuracy"])
                if report["val_accuracy"] < np.quantile(rung, 2 / 3):
                    state = "STOPPED"
                    break
        found.append((now + 0.01, number, "ended", {"state": state, "failure": failure}))
        heapq.heappush(free, (now + 0.05, slot))
    return iter(sorted(found, key=lambda event: event[:2]))


def make_experiment(
    path: Path,
    *,
    trials: int = 16,
    max_epochs: int = 8,
    slots: int = 2,
    seed: int = 2,
    until_seconds: float = math.inf,
    edit: Callable[..., None] = lambda number, config, reports: None,
    **manifest: Any,
) -> Path:
    """Write an experiment folder as a search would; `edit(number, config, reports)` may change a trial.

    A report with a `failure` ends its trial as FAILED in that epoch.
    """
    (path / "failures").mkdir(parents=True)
    (path / DIVERGED["traceback_file"]).write_text(TRACEBACK)
    now = START
    with LedgerWriter(path / "ledger.jsonl", clock=lambda: now) as ledger:
        ledger.search_started()
        for seconds, number, kind, values in events(trials, max_epochs, slots, np.random.default_rng(seed), edit):
            if seconds > until_seconds:
                break
            now, trial_id = START + seconds, f"t{number:04d}"
            if kind == "created":
                ledger.created(trial_id, **values)
            elif kind == "started":
                ledger.started(trial_id, attempt=1, node="host", pid=100)
            elif kind == "report":
                ledger.report(trial_id, values)
            else:
                ledger.ended(trial_id, values["state"], values["failure"])
        if until_seconds == math.inf:
            ledger.search_ended("COMPLETED")
    written = {**manifest_of(path.name, trials, max_epochs, seed), **manifest}
    (path / "experiment.json").write_text(json.dumps(plain(written), ensure_ascii=False))
    return path


def manifest_of(name: str, trials: int, max_epochs: int, seed: int) -> dict[str, Any]:
    """What a search writes into experiment.json."""
    return {
        "version": 1,
        "name": name,
        "created": "2026-11-23T10:00:00+00:00",
        "command": ["python", "search/run.py", "--algo", "asha", "--trials", str(trials), "--name", name],
        "algorithm": "asha",
        "scheduler": "asha",
        "space_name": "scratch",
        "space": SPACE,
        "fixed": {"batch_size": 64, "head_depth": 1},
        "metric": "val_accuracy",
        "mode": "max",
        "trials": trials,
        "max_epochs": max_epochs,
        "grace_epochs": 1,
        "reduction_factor": 3,
        "seed": seed,
        "dataset": {
            "name": "synthetic",
            "path": None,
            "store": "stores/synthetic-1a2b",
            "content_hash": "9f2c" * 16,
            "classes": list(CLASSES),
            "counts": {
                split: dict.fromkeys(CLASSES, n) for split, n in (("train", 400), ("validation", 60), ("test", 60))
            },
        },
        "resources": {
            "slots": 2,
            "workers_per_trial": 1,
            "cpus_per_worker": 1,
            "gpus_per_worker": 0,
            "cluster_cpus": 2,
            "cluster_gpus": 0,
        },
        "versions": {"python": "3.11.2", "glance-tune": "0.1.0", "torch": "2.13.0", "ray": "2.60.0"},
        "git_commit": "0964d70aa11bb22cc33dd44ee55ff66778899aa0",
        "hardware": {"cpu": "x86_64", "cores": 2},
    }


def write_best(path: Path, test_accuracy: float | None = 0.861) -> None:
    """Write best.json from the ledger's best report."""
    from search.ledger import read_trials
    from search.trials import best_report

    found = best_report(read_trials(path), "val_accuracy", "max")
    assert found is not None
    trial, report = found
    metrics = {"val_accuracy": report["val_accuracy"], "test_accuracy": test_accuracy}
    document = {"trial_id": trial.trial_id, "epoch": report["epoch"], "config": trial.config, "metrics": metrics}
    (path / "best.json").write_text(json.dumps(document))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search of 16 trials: some stopped, some diverged, one best."""
    path = make_experiment(tmp_path_factory.mktemp("results") / "demo")
    write_best(path)
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Builds an experiment folder of the given name: `make("name", trials=…, edit=…, …)`."""
    return lambda name="made", **options: make_experiment(tmp_path / name, **options)
