"""The runner and the tasks with real training on a few faces."""

from pathlib import Path
from typing import Any

import pytest

from trainable.config import TrialConfig
from trainable.errors import ConfigError, DataError
from trainable.slot.memory import Footprint, MemoryGuard
from trainable.slot.runner import InProcessRunner
from trainable.slot.tasks import evaluate_model, probe_configs
from trainable.training.predictor import saved_epoch

pytestmark = pytest.mark.e2e

CONFIG = TrialConfig(epoch_samples=64, max_epochs=2, embedding_dim=8).to_dict()
TIMES = ("epoch_seconds", "images_per_second")


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name not in TIMES}


@pytest.fixture
def runner(faces: Path) -> InProcessRunner:
    return InProcessRunner(faces, threads=1)


def test_goes_on_from_a_checkpoint_as_if_never_stopped(runner: InProcessRunner, tmp_path: Path) -> None:
    assert runner.start(CONFIG, tmp_path / "none") == 0
    runner.run_epoch()
    runner.save(tmp_path / "last")
    uninterrupted = runner.run_epoch()
    runner.stop()

    assert runner.start(CONFIG, tmp_path / "last") == 1
    assert timeless(runner.run_epoch()) == timeless(uninterrupted)


def test_a_trial_leaves_nothing_behind_for_the_next(runner: InProcessRunner, tmp_path: Path) -> None:
    other = {**CONFIG, "embedding_dim": 16, "weight_init": "xavier", "seed": 3}
    reports = []
    for config in (CONFIG, other, CONFIG):
        runner.start(config, tmp_path / "none")
        reports.append(timeless(runner.run_epoch()))
        runner.stop()

    assert reports[0] == reports[2] != reports[1]


def test_a_trial_that_failed_at_its_start_is_no_baseline_for_leaks(faces: Path, tmp_path: Path) -> None:
    held = iter([100, 2000, 2000, 4000])
    runner = InProcessRunner(faces, threads=1, guard=MemoryGuard(lambda: Footprint(next(held) * 2**20, 0)))
    with pytest.raises(ConfigError):
        runner.start({**CONFIG, "image_tower": "none"}, tmp_path / "none")
    leaks = [runner.stop()]
    for _ in range(3):
        runner.start(CONFIG, tmp_path / "none")
        runner.run_epoch()
        leaks.append(runner.stop())

    assert leaks == [None, None, None, "the process holds 2000 MiB more than after its first trial"]


def test_nothing_runs_before_a_start_or_after_a_stop(runner: InProcessRunner) -> None:
    with pytest.raises(RuntimeError, match="must be started"):
        runner.run_epoch()
    assert runner.stop() is None
    runner.close()


def test_a_saved_model_has_the_accuracy_that_was_reported(runner: InProcessRunner, faces: Path, tmp_path: Path) -> None:
    runner.start({**CONFIG, "precision": "float32"}, tmp_path / "none")
    report = runner.run_epoch()
    runner.save_model(tmp_path / "best")
    assert saved_epoch(tmp_path / "best") == 1
    metrics = evaluate_model(str(tmp_path / "best"), str(faces), "validation", threads=1, gpu=False)

    assert metrics["accuracy"] == report["val_accuracy"]
    assert metrics["loss"] == pytest.approx(report["val_loss"])


def test_probing_names_the_configs_that_cannot_be_trained(faces: Path, tmp_path: Path) -> None:
    broken = {**CONFIG, "image_tower": str(tmp_path)}
    failures = probe_configs(str(faces), [CONFIG, broken], threads=1, gpu=False)

    assert [failure["config"] for failure in failures] == [broken]
    assert failures[0]["user_error"]


def test_probing_reads_relative_paths_as_a_slot_does(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "tower").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with_tower = {**CONFIG, "image_tower": "tower"}
    (failure,) = probe_configs(str(faces), [with_tower], threads=1, gpu=False, working_folder=str(tmp_path / "here"))

    assert "the folder 'tower'" in failure["message"]


def test_probing_takes_a_diverging_batch_for_no_failure(faces: Path) -> None:
    diverging = {**CONFIG, "learning_rate": 1e30, "warmup_fraction": 0.0, "logit_scale": 4.6}

    assert probe_configs(str(faces), [diverging], threads=1, gpu=False) == []


def test_probing_without_a_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        probe_configs(str(tmp_path), [CONFIG], threads=1, gpu=False)
