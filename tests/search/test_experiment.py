import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from search.experiment import Experiment, git_commit, hardware, versions
from search.options import SearchOptions
from search.run import main
from search.trials import Inherited
from trainable.config import load_config
from trainable.errors import ExperimentError

MANIFEST = {"algorithm": "asha", "dataset": {"name": "synthetic", "path": Path("a/b")}, "seed": 3}


def test_a_new_experiment_has_its_folders_and_manifest(tmp_path: Path) -> None:
    experiment = Experiment.create(tmp_path / "results", "demo", MANIFEST)
    manifest = experiment.read_manifest()
    assert (experiment.path, experiment.name) == (tmp_path / "results" / "demo", "demo")
    assert (manifest["version"], manifest["name"], manifest["seed"]) == (1, "demo", 3)
    assert manifest["dataset"] == {"name": "synthetic", "path": "a/b"}
    assert manifest["versions"]["torch"]
    assert manifest["created"].endswith("+00:00")
    assert "git_commit" in manifest
    for folder in (experiment.checkpoints, experiment.tensorboard, experiment.failures, experiment.log):
        assert folder.is_dir()
    assert Experiment.open(experiment.path) == experiment


def test_a_taken_name_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    experiment = Experiment.create(tmp_path, "demo", MANIFEST)
    before = experiment.manifest_path.read_bytes()
    with pytest.raises(ExperimentError, match="Choose another --name"):
        Experiment.create(tmp_path, "demo", {**MANIFEST, "seed": 4})
    assert experiment.manifest_path.read_bytes() == before


def test_an_empty_folder_is_taken_and_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Experiment.create(tmp_path, "empty", MANIFEST).ledger_path.parent == tmp_path / "empty"
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match="exists"):
        Experiment.create(tmp_path, "file", MANIFEST)


def test_two_searches_that_begin_together_do_not_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Experiment.create(tmp_path, "demo", MANIFEST)
    monkeypatch.setattr("search.experiment._is_taken", lambda path: False)  # as both saw it
    with pytest.raises(ExperimentError, match="Choose another --name"):
        Experiment.create(tmp_path, "demo", MANIFEST)


@pytest.mark.parametrize("storage", ["file", "file/below", "/proc/nope"])
def test_a_storage_that_cannot_be_a_folder_is_refused(tmp_path: Path, storage: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match="--storage must name a folder that can be written, but"):
        Experiment.create(tmp_path / storage, None, MANIFEST)


def test_a_taken_name_is_refused_before_data_are_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Experiment.create(tmp_path, "demo", MANIFEST)
    monkeypatch.setattr("trainable.data.preparation.prepare_store", lambda *_: pytest.fail("prepared"))
    assert main(["--storage", str(tmp_path), "--name", "demo"]) == 2
    assert "Choose another --name" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", "-rf", ".hidden", "a b", "a\n", "x" * 101, "<b>"])
def test_invalid_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExperimentError, match="--name must"):
        Experiment.create(tmp_path / "results", name, MANIFEST)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["fer", "fer-2013_v1.2+b", "눈빛", "x" * 100])
def test_valid_names_are_taken(tmp_path: Path, name: str) -> None:
    assert Experiment.create(tmp_path, name, MANIFEST).name == name


def test_searches_without_a_name_get_one_each(tmp_path: Path) -> None:
    names = {Experiment.create(tmp_path, None, MANIFEST).name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("synthetic-asha-2") for name in names)


def test_a_folder_without_a_manifest_is_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="results/demo"):
        Experiment.open(tmp_path)
    for text in ("{", "[1]"):
        (tmp_path / "experiment.json").write_text(text)
        with pytest.raises(ExperimentError, match="must hold"):
            Experiment.open(tmp_path)


def test_best_json_holds_config_and_metrics_and_train_takes_it_back(tmp_path: Path, make_trial) -> None:
    experiment = Experiment.create(tmp_path, "demo", MANIFEST)
    trial = make_trial(4, accuracies=[0.5, 0.75], config={"learning_rate": 1e-3, "embedding_dim": 16})
    metrics = {"test_accuracy": np.float32(0.5), "test_loss": math.nan}
    experiment.write_best(trial, trial.reports[1], {"name": "synthetic", "store": Path("x")})
    experiment.add_to_best(metrics)
    assert json.loads(experiment.best_path.read_text()) == {
        "trial_id": "trial-4",
        "number": 4,
        "epoch": 2,
        "config": {"learning_rate": 1e-3, "embedding_dim": 16},
        "metrics": {"val_accuracy": 0.75, "test_accuracy": 0.5, "test_loss": None},
        "dataset": {"name": "synthetic", "store": "x"},
    }
    config, document = load_config(experiment.best_path)
    assert (config.learning_rate, config.embedding_dim, document["epoch"]) == (1e-3, 16, 2)


def test_best_json_has_the_config_of_the_best_epoch_and_the_schedule_to_it(tmp_path: Path, make_trial) -> None:
    experiment = Experiment.create(tmp_path, "demo", MANIFEST)
    trial = make_trial(0, accuracies=[0.5, 0.6], config={"learning_rate": 1e-3})
    trial.inheritances = [Inherited(source="trial-1", epoch=1, config={"learning_rate": 2e-3})]
    schedule = [{"epoch": 0, "source": None, "changes": {"learning_rate": 1e-3}}]
    for report, then in zip(trial.reports, ((), schedule), strict=True):
        experiment.write_best(trial, report, {}, None, then)
        best = json.loads(experiment.best_path.read_text())
        assert best["config"] == trial.config_at(report["epoch"])
        assert best.get("schedule", ()) == then
    assert best["config"] == {"learning_rate": 2e-3}


def test_best_json_is_replaced_whole_or_not_at_all(tmp_path: Path, make_trial) -> None:
    experiment = Experiment.create(tmp_path, "demo", MANIFEST)
    trial = make_trial(0, accuracies=[0.5])
    experiment.write_best(trial, trial.reports[0], {})
    before = experiment.best_path.read_text()
    with pytest.raises(TypeError):
        experiment.add_to_best({"test_accuracy": object()})
    assert experiment.best_path.read_text() == before
    assert not list(experiment.path.glob(".best*"))


def test_hardware_and_versions_are_plain_json() -> None:
    machine = json.loads(json.dumps(hardware(["NVIDIA H200"])))
    assert machine["gpus"] == ["NVIDIA H200"]
    assert machine["memory_bytes"] > 2**28
    assert machine["cpu_count"] >= 1
    assert set(versions()) >= {"python", "glance-tune", "torch", "ray", "optuna"}


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_projects_own_repository(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    _git(tmp_path, "init", "-q")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("1")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "m")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    assert git_commit(tmp_path / "sub") is None  # installed inside somebody else's repository
    (tmp_path / "sub" / "file").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"


@pytest.mark.parametrize("dataset", ["faces", None, ["faces"]])
def test_data_that_are_no_block_are_refused(tmp_path: Path, dataset: object) -> None:
    experiment = Experiment.create(tmp_path, "demo", {**MANIFEST, "dataset": {"name": "faces"}})
    assert experiment.read_dataset() == {"name": "faces"}

    experiment.manifest_path.write_text(json.dumps({"dataset": dataset}))
    with pytest.raises(ExperimentError, match=r"must say which data the search is of, .* but its dataset is"):
        experiment.read_manifest()


def test_data_that_are_missing_are_refused_by_who_needs_them(tmp_path: Path) -> None:
    experiment = Experiment.create(tmp_path, "demo", MANIFEST)
    experiment.manifest_path.write_text("{}")
    assert experiment.read_manifest() == {}
    with pytest.raises(ExperimentError, match=r"its dataset is None\. Restore the file"):
        experiment.read_dataset()


def test_a_torn_best_is_said_before_its_search_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = SearchOptions(storage=str(tmp_path), name="demo").to_dict()
    experiment = Experiment.create(tmp_path, "demo", {**MANIFEST, "options": options})
    experiment.best_path.write_text("{")

    assert main(["--resume", str(experiment.path)]) == 2
    assert "best.json must hold a JSON object, but: Expecting" in (error := capsys.readouterr().err)
    assert "Restore or remove it." in error
