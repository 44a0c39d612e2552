"""Population-based training from the command to the ledger: Ray, real training on a few faces."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.ledger import LEDGER_NAME, read_ledger, read_trials, search_state
from search.run import main
from search.trials import TrialRecord
from trainable.slot.runner import InProcessRunner

pytestmark = pytest.mark.e2e

ASKED = [
    *("--algo", "random", "--scheduler", "pbt", "--trials", "4", "--max-epochs", "3", "--max-concurrent", "1"),
    *("--metric", "val_loss", "--set", "learning_rate=loguniform(1e-7,1e-2)", "--set", "augmentation=uniform(0,1)"),
    *("--set", "logit_scale=2.0", "--set", "weight_init=kaiming", "--set", "embedding_dim=16"),
    *("--set", "image_tower=vit-tiny", "--set", "epoch_samples=128", "--set", "batch_size=32"),
]
POINTS = """\
- {learning_rate: 0.002, augmentation: 0.1}
- {learning_rate: 0.001, augmentation: 0.2}
- {learning_rate: 0.003, augmentation: 0.3}
- {learning_rate: 0.0000002, augmentation: 0.4}
"""
"""The last one learns nothing, and is the worst wherever it is compared."""
MEASURED = ("val_accuracy", "val_loss", "train_loss", "gradient_norm", "learning_rate_now", "samples_seen")


def continued(trials: dict[str, TrialRecord], heir: TrialRecord, faces: Path, folder: Path) -> dict[str, Any]:
    """What the epoch after a trial's first inheritance reports where its source is trained up to it once more."""
    inherited = heir.inheritances[0]
    runner = InProcessRunner(faces, threads=1)
    runner.start(trials[inherited.source].config_at(inherited.epoch), folder / "none")
    for _ in range(inherited.epoch):
        runner.run_epoch()
    runner.save(folder / "source")
    runner.stop()
    assert runner.start(inherited.config, folder / "source", inherited=True) == inherited.epoch
    return runner.run_epoch()


@pytest.mark.usefixtures("free_resources", "ray_cluster")
def test_the_worst_goes_on_with_the_weights_of_the_best(
    faces: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "points.yaml").write_text(POINTS)
    where = ["--storage", str(tmp_path), "--name", "x", "--data-path", str(faces)]
    assert main([*where, *ASKED, "--points", str(tmp_path / "points.yaml")]) == 0
    experiment = tmp_path / "x"
    trials = {trial.trial_id: trial for trial in read_trials(experiment)}
    *others, heir = trials.values()
    first = heir.inheritances[0]

    assert [trial.state for trial in trials.values()] == ["FINISHED"] * 4
    assert [[report["epoch"] for report in trial.reports] for trial in trials.values()] == [[1, 2, 3]] * 4
    assert (first.epoch, first.source) == (1, min(others, key=lambda trial: trial.reports[0]["val_loss"]).trial_id)
    assert first.config["augmentation"] / trials[first.source].config["augmentation"] in (
        pytest.approx(0.8),
        pytest.approx(1.2),
    )
    expected = continued(trials, heir, faces, tmp_path)
    assert {name: heir.reports[1][name] for name in MEASURED} == {name: expected[name] for name in MEASURED}
    assert search_state(read_ledger(experiment / LEDGER_NAME)) == "COMPLETED"
    assert not (experiment / "population").exists()

    best = json.loads((experiment / "best.json").read_text())
    assert best["config"] == trials[best["trial_id"]].config_at(best["epoch"])
    assert json.loads((experiment / "best" / "config.json").read_text()) == best["config"]
    assert ("Its weights were trained by a schedule." in capfd.readouterr().out) == ("schedule" in best)
