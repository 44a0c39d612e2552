"""Trials as runs in MLflow's local file store, and in Weights & Biases without a network."""

import dataclasses
import json
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from search import options, trackers
from search.recorder import ClosableListener
from search.trackers import PACKAGES, TITLES, Tracked, identity_of, require_usable
from search.trials import Inherited, TrialRecord
from tests.search.bench import Bench, KilledError, kill
from trainable.errors import ConfigError

CONFIG = {"learning_rate": 0.002, "embedding_dim": 64, "weight_init": "kaiming", "learn_logit_scale": True}


def tracked(folder: Path, trials: Sequence[TrialRecord] = (), changing: Sequence[str] = ()) -> Tracked:
    drawn = ("learning_rate", "embedding_dim")
    return Tracked(name="demo", identity="0123456789ab", folder=folder, drawn=drawn, changing=changing, trials=trials)


def follow(listener: ClosableListener, trial: TrialRecord) -> None:
    """A whole trial."""
    listener.started(trial)
    for report in trial.reports:
        listener.reported(trial, report)
    if trial.ended:
        listener.ended(trial)


def test_the_command_line_names_the_tools_that_there_are() -> None:
    assert tuple(PACKAGES) == tuple(TITLES) == options.LOGGERS


def test_experiments_of_one_name_are_told_apart() -> None:
    one, other = ({"name": "demo", "created": f"2026-11-24T10:00:0{second}+00:00"} for second in (0, 1))
    assert identity_of(one) == identity_of(dict(one)) != identity_of(other)


@pytest.mark.parametrize("tool", options.LOGGERS)
def test_a_tool_that_is_not_installed_ends_the_search_with_a_sentence(
    bench: Bench, tool: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    assert bench.run("--logger", tool) == 2
    error = capfd.readouterr().err
    assert error == (
        f"error: --logger {tool} needs the package {PACKAGES[tool]}, which is not installed: "
        f"pip install '{PACKAGES[tool]}', or leave --logger {tool} away.\n"
    )
    assert not bench.experiment.exists()


class TestMlflow:
    @pytest.fixture(autouse=True)
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """MLflow's local file store, which it no longer takes unasked."""
        pytest.importorskip("mlflow", reason="needs mlflow-skinny (make setup installs it)")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())

    @staticmethod
    def runs(name: str = "demo") -> dict[str, Any]:
        """Every run of an experiment by its trial's id."""
        from mlflow.tracking import MlflowClient

        client = MlflowClient()
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id])
        runs = {run.data.tags["glance.trial_id"]: run for run in found}
        assert len(runs) == len(found)
        return runs

    @staticmethod
    def curve(run: Any, metric: str) -> list[tuple[int, float]]:
        from mlflow.tracking import MlflowClient

        return [(point.step, point.value) for point in MlflowClient().get_metric_history(run.info.run_id, metric)]

    def test_each_trial_is_a_run_with_its_hyperparameters_curves_and_end(self, make_trial: Any, tmp_path: Path) -> None:
        from search.mlflow_runs import MlflowRuns

        failure = {"kind": "OutOfMemoryError", "message": "no room"}
        trials = [
            make_trial(0, "FINISHED", (0.3, None, 0.5), config=CONFIG),
            make_trial(1, "STOPPED", (0.2,), config=CONFIG),
            make_trial(2, "FAILED", (), config=CONFIG, failure=failure),
            make_trial(3, "RUNNING", (0.4,), config=CONFIG),
        ]
        listener = MlflowRuns(tracked(tmp_path))
        for trial in trials:
            follow(listener, trial)
        runs = self.runs()

        assert [runs[trial.trial_id].info.status for trial in trials] == ["FINISHED", "FINISHED", "FAILED", "RUNNING"]
        assert [runs[trial.trial_id].data.tags.get("glance.state") for trial in trials] == [
            "FINISHED",
            "STOPPED",
            "FAILED",
            None,
        ]
        first = runs["trial-0"]
        assert first.info.run_name == "0000 lr=2.0e-03 dim=64"
        assert first.data.params == {name: str(value) for name, value in CONFIG.items()}
        assert self.curve(first, "val_accuracy") == [(1, 0.3), (3, 0.5)]
        assert (first.info.start_time, first.info.end_time) == (100_000, 200_000)
        assert runs["trial-2"].data.tags["glance.failure"] == "OutOfMemoryError: no room"

    def test_a_paused_run_waits_and_goes_on(self, make_trial: Any, tmp_path: Path) -> None:
        from search.mlflow_runs import MlflowRuns

        listener, trial = MlflowRuns(tracked(tmp_path)), make_trial(0, "RUNNING", (0.3,), config=CONFIG)
        follow(listener, trial)
        listener.paused(trial)
        assert self.runs()["trial-0"].info.status == "SCHEDULED"
        listener.started(trial)
        assert self.runs()["trial-0"].info.status == "RUNNING"

    def test_what_mlflow_lacks_of_a_search_that_goes_on_is_sent_once(self, make_trial: Any, tmp_path: Path) -> None:
        from search.mlflow_runs import MlflowRuns

        before = MlflowRuns(tracked(tmp_path))
        for number in (0, 1):
            follow(before, make_trial(number, "RUNNING", (0.1,), config=CONFIG))
        before.close()
        assert {run.info.status for run in self.runs().values()} == {"KILLED"}
        ledger = [
            make_trial(0, "FINISHED", (0.1, 0.2, 0.3), config=CONFIG),
            make_trial(1, "RUNNING", (0.1, 0.2), config=CONFIG),
            make_trial(2, "STOPPED", (0.4,), config=CONFIG),
            make_trial(3, "PENDING", config=CONFIG),
        ]
        for _ in range(2):
            after = MlflowRuns(tracked(tmp_path, ledger))
        after.started(ledger[1])
        runs = self.runs()

        assert {trial_id: run.info.status for trial_id, run in runs.items()} == {
            "trial-0": "FINISHED",
            "trial-1": "RUNNING",
            "trial-2": "FINISHED",
        }
        assert self.curve(runs["trial-0"], "val_accuracy") == [(1, 0.1), (2, 0.2), (3, 0.3)]
        assert self.curve(runs["trial-1"], "epoch") == [(1, 1.0), (2, 2.0)]

    def test_another_experiment_of_the_name_has_runs_of_its_own(self, make_trial: Any, tmp_path: Path) -> None:
        from search.mlflow_runs import MlflowRuns

        follow(MlflowRuns(tracked(tmp_path)), make_trial(0, "FINISHED", (0.1,), config=CONFIG))
        trial = make_trial(1, "RUNNING", config=CONFIG)
        other = MlflowRuns(dataclasses.replace(tracked(tmp_path, [trial]), identity="another"))
        assert other._runs.keys() == {"trial-1"}

    def test_hyperparameters_that_change_have_a_curve(self, make_trial: Any, tmp_path: Path) -> None:
        from search.mlflow_runs import MlflowRuns

        trial = make_trial(0, "FINISHED", (0.1, 0.2), config=CONFIG)
        trial.inheritances = [Inherited(source="trial-1", epoch=1, config={**CONFIG, "learning_rate": 0.004})]
        follow(MlflowRuns(tracked(tmp_path, changing=["learning_rate"])), trial)
        assert self.curve(self.runs()["trial-0"], "config/learning_rate") == [(1, 0.002), (2, 0.004)]

    def test_a_search_that_is_killed_goes_on_in_the_same_runs(self, bench: Bench) -> None:
        bench.after = kill(lambda trial: trial.number == 3)
        with pytest.raises(KilledError):
            bench.run("--logger", "mlflow")
        bench.after = lambda recorder, trial: None
        assert bench.resume() == 0
        runs = self.runs("x")

        assert runs.keys() == {trial.trial_id for trial in bench.trials}
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        for trial in bench.trials:
            expected = [(report["epoch"], report["val_accuracy"]) for report in trial.reports]
            assert self.curve(runs[trial.trial_id], "val_accuracy") == expected

    def test_a_server_that_cannot_be_used_costs_a_warning(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
        assert bench.run("--logger", "mlflow") == 0
        assert capfd.readouterr().out.count("warning: the runs in MLflow stop here, and the search goes on: ") == 1
        assert [trial.state for trial in bench.trials] == ["FINISHED"] * 6


class TestWandb:
    @pytest.fixture(autouse=True)
    def offline(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        wandb = pytest.importorskip("wandb", reason="needs wandb (make setup installs it)")
        for name in ("WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        yield
        wandb.teardown()

    @staticmethod
    def records(folder: Path) -> list[Any]:
        """Every record of a run's file, which is a log of LevelDB's behind 7 bytes.

        (github.com/google/leveldb, doc/log_format.md: blocks of 32 KiB; checksum, length, kind; kind 1 is a whole
        record, 2 to 4 are first, middle and last parts.)
        """
        from wandb.proto.wandb_internal_pb2 import Record

        until = time.monotonic() + 60
        while not (paths := list(folder.glob("*.wandb"))) and time.monotonic() < until:
            time.sleep(0.05)
        (path,) = paths
        data, at, whole, records = path.read_bytes(), 7, b"", []
        while at + 7 <= len(data):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
                continue
            length, kind = struct.unpack_from("<HB", data, at + 4)
            whole += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                records.append(Record.FromString(whole))
                whole = b""
        return records

    @pytest.mark.e2e
    def test_each_trial_is_a_run_with_its_hyperparameters_curves_and_end(self, make_trial: Any, tmp_path: Path) -> None:
        from search.wandb_runs import WandbRuns

        failure = {"kind": "OutOfMemoryError", "message": "no room"}
        listener = WandbRuns(tracked(tmp_path))
        follow(listener, make_trial(0, "FINISHED", (0.25, 0.5), config=CONFIG))
        follow(listener, make_trial(1, "FAILED", (0.25,), config=CONFIG, failure=failure))
        follow(listener, make_trial(2, "RUNNING", (0.25,), config=CONFIG))
        listener.close()
        found = {}
        for folder in sorted((tmp_path / "wandb").glob("offline-run-*")):
            records = list(self.records(folder))
            (run,) = [record.run for record in records if record.HasField("run")]
            (end,) = [record.exit.exit_code for record in records if record.HasField("exit")]
            rows = [{i.key or i.nested_key[0]: json.loads(i.value_json) for i in r.history.item} for r in records]
            updates = [update for record in records for update in record.summary.update]
            summary = {u.key or u.nested_key[0]: json.loads(u.value_json) for u in updates}
            config = {update.key: json.loads(update.value_json) for update in run.config.update}
            curve = [(row["_step"], row["val_accuracy"]) for row in rows if "val_accuracy" in row]
            found[run.run_id] = (run, config, curve, end, summary)

        assert sorted(found) == [f"0123456789ab-{number:04d}" for number in range(3)]
        run, config, curve, end, summary = found["0123456789ab-0000"]
        assert (run.project, run.run_group, run.display_name) == ("glance", "demo", "0000 lr=2.0e-03 dim=64")
        assert {name: config[name] for name in CONFIG} == CONFIG
        assert (curve, end, summary["state"]) == ([(1, 0.25), (2, 0.5)], 0, "FINISHED")
        assert found["0123456789ab-0001"][3] == 1
        assert found["0123456789ab-0001"][4]["failure"] == "OutOfMemoryError: no room"
        assert found["0123456789ab-0002"][3] == 0
        assert found["0123456789ab-0002"][4]["state"] == "CUT_OFF"

    def test_a_run_that_goes_on_gets_what_it_lacks(
        self, make_trial: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """W&B's answer is a stand-in here: only its server knows the last step of a run."""
        from search import wandb_runs

        steps = []

        class Run:
            starting_step = 3

            def log(self, numbers: dict[str, float], step: int) -> None:
                steps.append(step)

        monkeypatch.setattr(wandb_runs.wandb, "init", lambda **options: Run())
        listener = wandb_runs.WandbRuns(tracked(tmp_path))
        listener.started(make_trial(0, "RUNNING", (0.1, 0.2, 0.3, 0.4), config=CONFIG))
        assert steps == [3, 4]

    @pytest.mark.e2e
    def test_a_whole_search_has_a_run_per_trial_in_its_folder(self, bench: Bench) -> None:
        assert bench.run("--logger", "wandb", "--trials", "2") == 0
        assert len(list((bench.experiment / "wandb").glob("offline-run-*"))) == 2

    def test_without_a_login_the_search_does_not_begin(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(ConfigError, match="nobody has logged in: run `wandb login`"):
            require_usable(["wandb"])
