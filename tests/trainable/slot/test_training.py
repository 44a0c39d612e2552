"""The runner and the tasks with real training on a few faces."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainable.config import TrialConfig
from trainable.errors import ConfigError, DataError
from trainable.slot.memory import Footprint, MemoryGuard
from trainable.slot.runner import InProcessRunner
from trainable.slot.tasks import evaluate_model, probe_configs
from trainable.training.predictor import saved_epoch
from trainable.training.report import REPORT_KEYS, UNSEEN_KEYS

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
    measured = evaluate_model(str(tmp_path / "best"), str(faces), "validation", threads=1, gpu=False)

    metrics = measured["metrics"]
    assert measured["unseen"] == {}
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


def test_unseen_classes_are_not_trained_and_a_saved_model_says_which_they_are(faces: Path, tmp_path: Path) -> None:
    unseen = {"validation": ["fear", "sad"], "test": ["happily_surprised", "disgust", "angry"]}
    runner = InProcessRunner(faces, threads=1, unseen=unseen)
    runner.start({**CONFIG, "precision": "float32"}, tmp_path / "none")
    report = runner.run_epoch()
    runner.save_model(tmp_path / "best")
    runner.close()

    assert sorted(report) == sorted((*REPORT_KEYS, *UNSEEN_KEYS))
    assert [report[name] for name in ("val_chance", "val_unseen_chance", "val_generalised_chance")] == [
        1 / 3,
        1 / 2,
        1 / 5,
    ]
    assert json.loads((tmp_path / "best" / "model.json").read_text())["classes"] == ["happy", "surprise", "neutral"]
    validation = evaluate_model(str(tmp_path / "best"), str(faces), "validation", threads=1, gpu=False)
    for name in UNSEEN_KEYS:
        assert validation["metrics"][name.removeprefix("val_")] == report[name], name
    test = evaluate_model(str(tmp_path / "best"), str(faces), "test", threads=1, gpu=False)
    assert {group: [*figures] for group, figures in test["unseen"].items()} == unseen
    assert {name: of["images"] for name, of in test["unseen"]["test"].items()} == {
        **{"happily_surprised": 40, "disgust": 10, "angry": 10},
    }
    assert test["unseen"]["test"]["happily_surprised"]["parts"] == ["happy", "surprise"]
    right = sum(of["images"] * of["accuracy"] for of in test["unseen"]["test"].values())
    assert right / 60 == pytest.approx(test["metrics"]["unseen_accuracy"])
