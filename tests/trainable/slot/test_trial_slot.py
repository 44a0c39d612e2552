"""The slot as a Tune actor: real Ray, replayed learning curves."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import cloudpickle, tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.search import Searcher

from trainable.slot import notice
from trainable.slot.runner import Cut
from trainable.slot.slot import Slot, SlotOptions
from trainable.slot.trial_slot import SlotPreempted, SlotRetired, TrialSlot

pytestmark = pytest.mark.e2e
cloudpickle.register_pickle_by_value(sys.modules[__name__])

EPOCHS = 2


class Replay:
    """A runner whose trials report 0.5 epoch after epoch; `leaks` is what each `stop` returns."""

    def __init__(self, *leaks: str | None) -> None:
        self.leaks = iter(leaks)

    def start(self, config: dict[str, Any], folder: Path) -> int:
        self.epoch = 0
        return 0

    def run_epoch(self) -> dict[str, Any]:
        self.epoch += 1
        return {"epoch": self.epoch, "val_accuracy": 0.5}

    def save(self, folder: Path) -> None: ...
    def save_model(self, folder: Path) -> None: ...
    def stop(self) -> str | None:
        return next(self.leaks, None)

    def close(self) -> None: ...


class ReplaySlot(TrialSlot):
    """A slot that trains nothing."""

    def setup(self, config: dict[str, Any], options: dict[str, Any] | None = None) -> None:
        assert options is not None
        self._options = SlotOptions(**options)
        self._slot = Slot(self._options, self.runner())
        self.reset_config(config)

    def runner(self) -> Replay:
        return Replay()


class LeakingSlot(ReplaySlot):
    """Leaks in the second trial of each process."""

    def runner(self) -> Replay:
        return Replay(None, "1 TiB")


class DyingSlot(ReplaySlot):
    """Its process dies between trial a and trial b."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if new_config["trial_id"] == "b":
            os._exit(1)
        return super().reset_config(new_config)


class Terminated(Replay):
    """Gets SIGTERM in the middle of trial b's second epoch, saves there, and goes on there in another process."""

    def start(self, config: dict[str, Any], folder: Path) -> float:
        saved = folder / "epochs"
        self._is_b, self._cut = folder.parent.name == "b", saved.exists()
        self.epoch = int(float(saved.read_text())) if self._cut else 0
        return float(saved.read_text()) if self._cut else 0.0

    def run_epoch(self) -> Any:
        if self._is_b and self.epoch == 1 and not self._cut:
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + 60
            while notice.NOTICE.reason is None and time.monotonic() < deadline:
                time.sleep(0.01)
            return Cut(1.5, notice.NOTICE.reason)
        return super().run_epoch()

    def save(self, folder: Path) -> None:
        if self._is_b and notice.NOTICE.reason:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "epochs").write_text("1.5")


class TerminatedSlot(ReplaySlot):
    def runner(self) -> Replay:
        notice.catch_sigterm()
        return Terminated()


class Numbered(Searcher):
    """Trials a, b, c, ..."""

    def __init__(self) -> None:
        super().__init__(metric="val_accuracy", mode="max")
        self.names = iter("abcdefgh")

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"trial_id": next(self.names), "config": {"max_epochs": EPOCHS}}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None: ...
    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Watch(tune.Callback):
    """Which process reported which trial, which trials were handed on, and which failed."""

    def __init__(self) -> None:
        self.pids: dict[str, set[int]] = {}
        self.saved: list[tuple[str, float]] = []
        self.recovered: list[str] = []
        self.failed: list[str] = []

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.pids.setdefault(trial.config["trial_id"], set()).add(result["pid"])
        if "saved" in result:
            self.saved.append((trial.config["trial_id"], result["saved"]))

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.recovered.append(trial.config["trial_id"])

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.failed.append(trial.config["trial_id"])


def run_four(slot: type[TrialSlot], folder: Path, max_failures: int) -> Watch:
    """Run trials a to d, one at a time."""
    options = {"store": "", "checkpoints": str(folder / "c"), "metric": "val_accuracy", "mode": "max"}
    watch = Watch()
    tune.Tuner(
        tune.with_resources(tune.with_parameters(slot, options=options), {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=Numbered(), num_samples=4, max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            verbose=0,
            callbacks=[watch],
            failure_config=tune.FailureConfig(max_failures=max_failures),
        ),
    ).fit()
    return watch


def test_a_leaking_slot_retires_and_its_next_trial_runs_on_a_fresh_one(
    ray_cluster: str, tmp_path: Path, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    watch = run_four(LeakingSlot, tmp_path, max_failures=0)

    assert (watch.recovered, watch.failed) == (["c"], [])
    assert [len(pids) for pids in watch.pids.values()] == [1, 1, 1, 1]
    assert watch.pids["a"] == watch.pids["b"] != watch.pids["c"] == watch.pids["d"]
    assert eventually(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])


def test_a_slot_that_gets_sigterm_saves_its_trial_which_goes_on_on_a_fresh_one(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")  # as a search does
    watch = run_four(TerminatedSlot, tmp_path, max_failures=0)

    assert (watch.saved, watch.recovered, watch.failed) == ([("b", 1.5)], ["b"], [])
    assert [len(pids) for pids in watch.pids.values()] == [1, 2, 1, 1]


def test_a_process_that_dies_between_two_trials_costs_the_next_one_and_no_other(
    ray_cluster: str, tmp_path: Path
) -> None:
    watch = run_four(DyingSlot, tmp_path, max_failures=2)

    assert watch.failed == ["b"]
    assert list(watch.pids) == ["a", "c", "d"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SlotRetired("a leak"), "the slot retired: a leak"),
        (SlotPreempted("AWS takes it"), "the trial was saved and must go on elsewhere: AWS takes it"),
    ],
)
def test_a_retirement_is_an_actor_lost_to_preemption_also_after_its_way_through_ray(
    error: RayActorError, message: str
) -> None:
    arrived = RayTaskError("step", "Traceback", error).as_instanceof_cause()
    copy = cloudpickle.loads(cloudpickle.dumps(error))

    assert arrived.preempted
    assert copy.preempted
    assert str(copy) == message


def test_a_slot_without_options_says_what_it_needs() -> None:
    with pytest.raises(TypeError, match="with_parameters"):
        TrialSlot.setup(SimpleNamespace(), {}, None)
