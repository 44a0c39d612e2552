"""What slots hold of a cluster: the command of the search, real Ray, and slots that train nothing."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle

from search.ledger import LEDGER_NAME, read_ledger, read_trials
from search.run import main
from trainable.slot.slot import Slot, SlotOptions
from trainable.slot.trial_slot import TrialSlot

pytestmark = pytest.mark.e2e
cloudpickle.register_pickle_by_value(sys.modules[__name__])

LIMIT_SECONDS = 200


class GatedRunner:
    """Reports a made-up curve; each epoch of a trial waits until its gate, a file of the trial's name, is there."""

    def __init__(self, gates: Path) -> None:
        self._gates = gates

    def start(self, config: Mapping[str, Any], folder: Path, inherited: bool = False) -> float:
        last = folder / "epoch.json"
        self._trial, self._folder = folder.parent.name, folder
        self._epoch = json.loads(last.read_text()) if last.exists() else 0
        (self._gates / f"{self._trial}.here").touch()
        return self._epoch

    def run_epoch(self) -> dict[str, Any]:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (self._gates / self._trial).exists():
            if time.monotonic() > deadline:
                raise TimeoutError("nobody opened the gate")
            time.sleep(0.02)
        self._epoch += 1
        return {"epoch": self._epoch, "samples_seen": self._epoch, "epoch_seconds": 0.1, "val_accuracy": 0.5}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "epoch.json").write_text(str(self._epoch))

    def save_model(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def stop(self) -> str | None:
        return None

    def close(self) -> None: ...


class GatedSlot(TrialSlot):
    """A slot with such a runner."""

    gates: Path

    def setup(self, config: dict[str, Any], options: dict[str, Any] | None = None) -> None:
        self._options = SlotOptions(**(options or {}))
        self._slot = Slot(self._options, GatedRunner(self.gates))
        self.reset_config(config)


class DyingSlot(GatedSlot):
    """Its process dies when it is to take the second trial, once."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        died = self.gates / "died"
        if new_config["trial_id"] == "trial_0001" and not died.exists():
            died.touch()
            os._exit(1)
        return super().reset_config(new_config)


@pytest.fixture
def gates(ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the gates; searches of this test have such slots, and check and test nothing."""
    folder = tmp_path / "gates"
    folder.mkdir()
    monkeypatch.setattr("search.driver.TrialSlot", type("Gated", (GatedSlot,), {"gates": folder}))
    monkeypatch.setattr("search.preflight.preflight", lambda *arguments, **options: None)
    monkeypatch.setattr("search.finish.measure_on_test", lambda search: None)
    return folder


def search(faces: Path, folder: Path, flags: Sequence[str]) -> int:
    where = ["--data-path", str(faces), "--storage", str(folder), "--name", "x"]
    return main([*where, "--max-epochs", "2", "--reduction-factor", "2", *flags])


@pytest.mark.parametrize("scheduler", ["asha", "asha-promote"])
def test_a_slot_that_no_trial_is_left_for_gives_back_what_it_holds(
    gates: Path, faces: Path, tmp_path: Path, eventually: Callable[..., bool], scheduler: str
) -> None:
    """Two slots; the first trial is still running when there is nothing left for the second."""
    freed = []

    def others_are_over() -> bool:
        ledger = tmp_path / "x" / LEDGER_NAME
        trials = read_trials(tmp_path / "x") if ledger.exists() else []
        return len(trials) == 3 and all(trial.state in ("FINISHED", "STOPPED", "PAUSED") for trial in trials[1:])

    def look() -> None:
        for number in (1, 2):
            (gates / f"trial_{number:04d}").touch()
        over = eventually(others_are_over, seconds=LIMIT_SECONDS)
        freed.append(over and eventually(lambda: ray.available_resources().get("CPU") == 1))
        (gates / "trial_0000").touch()

    looking = threading.Thread(target=look)
    looking.start()
    status = search(faces, tmp_path, ["--trials", "3", "--max-concurrent", "2", "--scheduler", scheduler])
    looking.join()

    assert freed == [True]
    assert status == 0
    assert {trial.state for trial in read_trials(tmp_path / "x")} <= {"FINISHED", "STOPPED"}


def test_a_slot_that_dies_between_two_trials_costs_neither(
    gates: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.driver.TrialSlot", type("Dying", (DyingSlot,), {"gates": gates}))
    for number in range(3):
        (gates / f"trial_{number:04d}").touch()
    status = search(faces, tmp_path, ["--algo", "random", "--trials", "3", "--max-concurrent", "1"])

    assert status == 0
    assert (gates / "died").exists()
    trials = read_trials(tmp_path / "x")
    assert [(trial.state, trial.attempts) for trial in trials] == [("FINISHED", 1)] * 3
    assert [trial.pid == trials[0].pid for trial in trials] == [True, False, False]


def test_four_trials_share_a_gpu_of_the_type_that_was_asked_for(
    gates: Path, faces: Path, tmp_path: Path, add_node: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Two logical GPUs; none of the trials goes on before all four have begun."""
    for kind in ("V100", "A100"):
        add_node(cpus=4, gpus=1, resources={f"accelerator_type:{kind}": 1})
    (a100,) = [node["NodeID"] for node in ray.nodes() if node["Alive"] and "accelerator_type:A100" in node["Resources"]]

    def open_once_all_are_here() -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while len(list(gates.glob("*.here"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        for number in range(4):
            (gates / f"trial_{number:04d}").touch()

    opening = threading.Thread(target=open_once_all_are_here)
    opening.start()
    share = ["--gpus-per-worker", "0.25", "--accelerator-type", "A100"]
    status = search(faces, tmp_path, ["--algo", "random", "--trials", "4", *share])
    opening.join()

    assert status == 0
    assert "1 worker x 1 CPU and 1 x 0.25 GPUs of type A100; 4 at a time" in capfd.readouterr().out
    events = read_ledger(tmp_path / "x" / LEDGER_NAME)
    started = [event for event in events if event["event"] == "started"]
    assert [event["node_id"] for event in started] == [a100] * 4
    assert max(event["time"] for event in started) < min(e["time"] for e in events if e["event"] == "report")
