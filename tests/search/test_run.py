"""Whole searches: the command, Ray, real training on a few faces."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.ledger import read_ledger, read_trials, search_state
from search.run import main
from search.trials import TrialRecord
from trainable.data.store import Store
from trainable.training.predictor import ZeroShotPredictor

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--max-epochs", "2", "--set", "epoch_samples=64", "--set", "embedding_dim=16", "--max-concurrent", "1"]

Eventually = Callable[[Callable[[], bool]], bool]


class Bench:
    """Runs searches below one results folder."""

    def __init__(self, storage: Path, faces: Path) -> None:
        self.storage = storage
        self.faces = faces

    def arguments(self, name: str, *more: str) -> list[str]:
        where = ["--storage", str(self.storage), "--name", name, "--data-path", str(self.faces)]
        return [*where, *QUICK, *more]

    def run(self, name: str, *more: str) -> int:
        return main(self.arguments(name, *more))

    def trials(self, name: str) -> list[TrialRecord]:
        ledger = self.storage / name / "ledger.jsonl"
        return read_trials(ledger.parent) if ledger.exists() else []

    def read(self, name: str, file: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.storage / name / file).read_text())
        return document

    def state(self, name: str) -> str:
        return search_state(read_ledger(self.storage / name / "ledger.jsonl"))


@pytest.fixture
def bench(tmp_path: Path, faces: Path, ray_cluster: str) -> Bench:
    return Bench(tmp_path / "results", faces)


@pytest.mark.usefixtures("free_resources")
@pytest.mark.parametrize("algorithm", ["asha", "random", "optuna", "hyperopt"])
def test_each_algorithm_runs_to_its_end(bench: Bench, algorithm: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert bench.run("x", "--algo", algorithm, "--trials", "4") == 0
    trials, best = bench.trials("x"), bench.read("x", "best.json")

    assert len(trials) == 4
    assert {trial.state for trial in trials} <= {"FINISHED", "STOPPED"}
    assert all(trial.epochs == 2 for trial in trials if trial.state == "FINISHED")
    assert bench.state("x") == "COMPLETED"
    assert best["metrics"]["val_accuracy"] == max(r["val_accuracy"] for t in trials for r in t.reports)
    assert 0 <= best["metrics"]["test_accuracy"] <= 1
    assert {"model.safetensors", "config.json", "model.json", "evaluation.json"} <= {
        file.name for file in (bench.storage / "x" / "best").iterdir()
    }
    check_best_model(bench, best)
    check_best_weights(bench, best)
    check_manifest(bench.read("x", "experiment.json"), algorithm)
    output = capfd.readouterr().out
    assert "glance-report" in output
    assert "tensorboard --logdir" in output
    assert "Ray" not in output
    assert "Tune" not in output


def check_best_model(bench: Bench, best: dict[str, Any]) -> None:
    shown = bench.read("x", "best/evaluation.json")
    right = sum(row[label] for label, row in enumerate(shown["confusion"]))
    assert right / shown["macro"]["support"] == pytest.approx(best["metrics"]["test_accuracy"])
    (run,) = (bench.storage / "x" / "tensorboard").glob(f"{best['number']:04d} */test epoch {best['epoch']}")
    assert (run / "projector_config.pbtxt").is_file()


def check_best_weights(bench: Bench, best: dict[str, Any]) -> None:
    """Loaded as a user loads them, they give the test accuracy."""
    store = Store.open(bench.faces)
    split = store.split("test")
    predictor = ZeroShotPredictor.load(bench.storage / "x" / "best")
    predicted = predictor.predict(split.images, store.manifest.seen_classes).argmax(axis=1)
    labels = [store.manifest.seen_classes.index(store.manifest.classes[label]) for label in split.labels]
    assert (predicted == labels).mean() == pytest.approx(best["metrics"]["test_accuracy"])


def check_manifest(manifest: dict[str, Any], algorithm: str) -> None:
    assert manifest["algorithm"] == algorithm
    assert manifest["scheduler"] == ("none" if algorithm == "random" else "asha")
    assert manifest["space"]["learning_rate"] == "loguniform(0.0001,0.01)"
    assert manifest["fixed"] == {"embedding_dim": 16, "epoch_samples": 64, "max_epochs": 2}
    assert (manifest["keep_best"], manifest["max_concurrent"]) == (3, 1)
    assert manifest["resources"]["slots"] == 1
    assert manifest["dataset"]["counts"]["test"]["angry"] == 10


def test_diverged_trials_are_failed_with_their_reason_and_none_is_best(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    diverging = ["--set", "learning_rate=choice(1e-3,1e30)", "--max-epochs", "1", "--seed", "1"]
    assert bench.run("x", "--algo", "random", "--trials", "8", *diverging) == 0
    by_rate: dict[float, set[str]] = {}
    for trial in bench.trials("x"):
        by_rate.setdefault(trial.config["learning_rate"], set()).add(trial.state)

    assert by_rate == {1e-3: {"FINISHED"}, 1e30: {"FAILED"}}
    failed = [trial.failure for trial in bench.trials("x") if trial.failure is not None]
    assert {failure["kind"] for failure in failed} == {"DivergedError"}
    assert all((bench.storage / "x" / failure["traceback_file"]).exists() for failure in failed)
    assert bench.read("x", "best.json")["config"]["learning_rate"] == 1e-3
    assert "DivergedError" in capfd.readouterr().out


def test_a_search_whose_first_trials_all_fail_alike_stops_and_shows_the_traceback_once(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench.run("x", "--algo", "random", "--trials", "40", "--set", "learning_rate=1e30") == 1
    trials = bench.trials("x")

    assert bench.state("x") == "ABORTED"
    assert 12 <= sum(trial.state == "FAILED" for trial in trials) < 20
    assert not (bench.storage / "x" / "best.json").exists()
    assert capfd.readouterr().out.count("Traceback (most recent call last)") == 1


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(bench: Bench, eventually: Eventually) -> None:
    killed: list[tuple[str, int]] = []

    def kill_one() -> None:
        def reported() -> list[TrialRecord]:
            return [trial for trial in bench.trials("x") if trial.state == "RUNNING" and trial.epochs >= 2]

        assert eventually(lambda: bool(reported()))
        victim = reported()[0]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        killed.append((victim.trial_id, victim.pid))

    killer = threading.Thread(target=kill_one)
    killer.start()
    epochs = ["--max-epochs", "6", "--set", "epoch_samples=128"]
    assert bench.run("x", "--algo", "random", "--trials", "2", *epochs, "--max-failures", "1") == 0
    killer.join()

    trials = {trial.trial_id: trial for trial in bench.trials("x")}
    ((victim, pid),) = killed
    assert {trial.state for trial in trials.values()} == {"FINISHED"}
    assert trials[victim].attempts == 2
    assert trials[victim].pid != pid
    events = read_ledger(bench.storage / "x" / "ledger.jsonl")
    for trial_id in trials:
        told = [event["epoch"] for event in events if event["event"] == "report" and event["trial_id"] == trial_id]
        assert told == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("free_resources")
def test_ctrl_c_keeps_and_reports_what_ran(bench: Bench, ray_cluster: str, eventually: Eventually) -> None:
    arguments = bench.arguments("x", "--algo", "random", "--trials", "50", "--max-epochs", "50")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "search" / "run.py"), *arguments],
        env={**os.environ, "RAY_ADDRESS": ray_cluster},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert eventually(lambda: any(trial.reports for trial in bench.trials("x")))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()

    assert process.returncode == 130, output
    assert bench.state("x") == "INTERRUPTED"
    assert bench.read("x", "best.json")["metrics"]["test_accuracy"] >= 0
    assert "The search was interrupted; what ran is kept." in output
    assert "Traceback" not in output
    cut_off = [trial for trial in bench.trials("x") if trial.state == "RUNNING" and trial.reports]
    assert cut_off
    assert all((bench.storage / "x" / "checkpoints" / trial.trial_id).is_dir() for trial in cut_off)


def test_a_time_budget_ends_the_search_in_order(bench: Bench) -> None:
    assert bench.run("x", "--algo", "random", "--trials", "99", "--max-epochs", "99", "--time-budget", "6s") in (0, 1)

    assert bench.state("x") == "TIME_BUDGET"
    assert len(bench.trials("x")) < 99


def test_a_budget_of_hours_ends_the_search_in_order_and_counts_what_was_spent_before(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = ["--algo", "random", "--trials", "99", "--max-epochs", "99", "--budget-hours", "0.0005"]
    assert bench.run("x", *asked, "--price-per-hour", "1000") in (0, 1)
    assert bench.state("x") == "BUDGET"
    output = " ".join(capfd.readouterr().out.split())
    assert "The budget of hours is used up" in output
    (hours,) = re.findall(r"Cost: ([\d.]+) CPU-hours", output)
    assert float(hours) >= 0.0005
    assert "in money, at 1000 an hour." in output
    ran = [(trial.trial_id, trial.attempts) for trial in bench.trials("x")]

    resume = ["--resume", str(bench.storage / "x")]
    assert main(resume) in (0, 1)
    assert bench.state("x") == "BUDGET"
    assert [(trial.trial_id, trial.attempts) for trial in bench.trials("x")] == ran
    assert main([*resume, "--budget-hours", f"{float(hours) + 0.001:.4f}"]) in (0, 1)
    assert bench.state("x") == "BUDGET"
    assert sum(trial.attempts for trial in bench.trials("x")) > sum(attempts for _, attempts in ran)
    assert sum(trial.slot_time.spent["CPU"] for trial in bench.trials("x")) >= 0.001 * 3600


@pytest.mark.parametrize(
    ("asked", "arithmetic"),
    [
        (["--gpus-per-worker", "1"], "1 worker x 1 CPU and 1 x 1 GPU, and the cluster has 2 CPUs and 0 GPUs on 1 node"),
        (["--workers-per-trial", "4"], "4 workers x 1 CPU, and the cluster has 2 CPUs and 0 GPUs on 1 node"),
        (["--workers-per-trial", "2", "--cpus-per-worker", "2"], "2 workers x 2 CPUs, and the cluster has 2 CPUs"),
    ],
)
def test_resources_that_cannot_be_met_are_refused_with_the_arithmetic(
    bench: Bench, capfd: pytest.CaptureFixture[str], asked: list[str], arithmetic: str
) -> None:
    assert bench.run("x", *asked) == 2

    assert arithmetic in capfd.readouterr().err
    assert not (bench.storage / "x").exists()


def test_a_choice_that_cannot_be_trained_is_refused_before_any_trial(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench.run("x", "--set", f"image_tower=choice(resnet-tiny,{tmp_path})") == 2

    message = capfd.readouterr().err
    assert "2 of 4 failed, the first with learning_rate=0.0001, logit_scale=1.0, embedding_dim=16" in message
    assert f"image_tower={tmp_path}" in message
    assert not (bench.storage / "x").exists()


@pytest.mark.usefixtures("free_resources")
def test_points_come_first_and_the_best_configs_are_confirmed(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    points = tmp_path / "good.yaml"
    points.write_text("- {learning_rate: 2e-3, weight_init: kaiming}\n")
    assert bench.run("x", "--trials", "3", "--points", str(points), "--confirm", "1") == 0
    *searched, first, second, third = bench.trials("x")
    best = bench.read("x", "best.json")

    assert len(searched) == 3
    assert (searched[0].config["learning_rate"], searched[0].config["weight_init"]) == (2e-3, "kaiming")
    assert {trial.confirms for trial in (first, second, third)} == {best["trial_id"]}
    assert [trial.state for trial in (first, second, third)] == ["FINISHED"] * 3
    assert [trial.config["seed"] for trial in (first, second, third)] == [1, 2, 3]
    values = [max(report["val_accuracy"] for report in trial.reports) for trial in (first, second, third)]
    assert best["confirmation"]["values"] == values
    assert 0 <= best["metrics"]["test_accuracy"] <= 1
    assert bench.state("x") == "COMPLETED"
    assert "Trained anew, the best config" in capfd.readouterr().out
    assert not (bench.storage / "x" / "checkpoints" / first.trial_id).exists()
