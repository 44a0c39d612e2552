"""A warm group of workers: real Ray Train, real gloo, real training on a few faces."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.util.state import list_actors

from trainable.config import TrialConfig
from trainable.slot import worker_group
from trainable.slot.failure import Failure, WorkerError
from trainable.slot.mailbox import Answer, Outcome
from trainable.slot.notice import give_notice
from trainable.slot.runner import Cut, InProcessRunner, WorkersLostError
from trainable.slot.worker_group import WorkerGroup, WorkerGroupOptions, _build_trainer, explain_loss, in_step

CONFIG = TrialConfig(
    image_tower="vit-tiny", epoch_samples=64, max_epochs=2, embedding_dim=8, augmentation=0.0, precision="float32"
).to_dict()


@pytest.fixture(scope="module")
def group(ray_cluster: str, faces: Path) -> Iterator[WorkerGroup]:
    group = WorkerGroup(WorkerGroupOptions(store=str(faces), workers=2, threads=1, gpus=0))
    yield group
    group.close()


def workers() -> list[int]:
    """Process ids of the workers that live."""
    address = ray.get_runtime_context().gcs_address
    alive = list_actors(address, filters=[("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")])
    return sorted(int(actor.pid) for actor in alive if actor.pid)


def train(runner: Any, folder: Path, config: dict[str, Any] = CONFIG) -> list[dict[str, Any]]:
    runner.start(config, folder / "none")
    reports = [runner.run_epoch() for _ in range(config["max_epochs"])]
    runner.stop()
    return reports


@pytest.mark.e2e
def test_two_workers_report_what_one_reports(group: WorkerGroup, faces: Path, tmp_path: Path) -> None:
    together = train(group, tmp_path)
    alone = train(InProcessRunner(faces, threads=1), tmp_path)

    for ours, theirs in zip(together, alone, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "gradient_norm", "samples_seen"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3), name


@pytest.mark.e2e
def test_trial_after_trial_is_trained_by_the_same_processes_and_leaves_nothing_behind(
    group: WorkerGroup, tmp_path: Path
) -> None:
    first, before = train(group, tmp_path), workers()
    train(group, tmp_path, {**CONFIG, "seed": 3, "embedding_dim": 16})
    again, after = train(group, tmp_path), workers()

    assert len(before) == 2
    assert before == after
    assert [report["val_loss"] for report in first] == [report["val_loss"] for report in again]


@pytest.mark.e2e
def test_an_error_that_all_workers_meet_alike_leaves_them_alive(group: WorkerGroup, tmp_path: Path) -> None:
    train(group, tmp_path)
    before = workers()
    with pytest.raises(WorkerError, match="batch_size") as raised:
        group.start({**CONFIG, "batch_size": 63}, tmp_path / "none")
    group.stop()

    assert raised.value.user_error
    assert raised.value.failure["kind"] == "ConfigError"
    assert raised.value.failure["where"].startswith("trainable/")
    train(group, tmp_path)
    assert workers() == before


@pytest.mark.e2e
def test_a_killed_worker_loses_the_group_and_the_trial_goes_on_with_fresh_workers(
    group: WorkerGroup, tmp_path: Path
) -> None:
    whole = train(group, tmp_path)
    group.start(CONFIG, tmp_path / "last")
    group.run_epoch()
    group.save(tmp_path / "last")
    before = workers()
    os.kill(before[1], signal.SIGKILL)
    with pytest.raises(WorkersLostError, match=r"worker [01]: "):
        group.run_epoch()
    group.stop()

    assert group.start(CONFIG, tmp_path / "last") == 1
    assert group.run_epoch()["val_loss"] == whole[1]["val_loss"]
    assert set(workers()).isdisjoint(before)


@pytest.mark.e2e
def test_a_group_that_is_closed_in_the_middle_of_an_epoch_gives_its_cpus_back(
    group: WorkerGroup, tmp_path: Path, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    group.start({**CONFIG, "epoch_samples": 100_000}, tmp_path / "none")

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(KeyboardInterrupt):
            group.run_epoch()
    finally:
        signal.signal(signal.SIGALRM, before)
    group.close()

    assert eventually(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])
    assert eventually(lambda: workers() == [])


def test_ray_train_is_asked_for_the_type_of_gpu_and_for_as_few_nodes_as_will_do(tmp_path: Path) -> None:
    options = WorkerGroupOptions(store="", workers=4, threads=2, gpus=1.0, accelerator="A100")
    asked = _build_trainer(options, None, str(tmp_path)).scaling_config

    assert asked._resources_per_worker_not_none == {"CPU": 2, "GPU": 1.0, "accelerator_type:A100": 0.001}
    assert (asked.num_workers, asked.placement_strategy) == (4, "PACK")


def test_nothing_runs_before_a_start() -> None:
    group = WorkerGroup(WorkerGroupOptions(store="", workers=2, threads=1, gpus=0))
    with pytest.raises(RuntimeError, match="must be started"):
        group.run_epoch()
    assert group.stop() is None
    group.close()


def failed(exchanges: int, *, device_broken: bool = False) -> Answer:
    failure = Failure(kind="RuntimeError", message="no", where="here", traceback="there")
    return Answer(value=None, failure=failure, user_error=False, device_broken=device_broken, exchanges=exchanges)


FINE = Answer(value=None, failure=None, user_error=False, device_broken=False, exchanges=5)


@pytest.mark.parametrize(
    ("answers", "usable"),
    [
        ([failed(5), failed(5)], True),
        ([failed(5), failed(6)], False),
        ([failed(5)], False),
        ([failed(5), FINE], False),
        ([failed(5), failed(5, device_broken=True)], False),
    ],
    ids=["all alike", "one exchange more", "one still waits", "only one", "broken device"],
)
def test_a_group_is_used_again_only_where_no_rank_is_ahead_of_another(answers: list[Answer], usable: bool) -> None:
    assert in_step(answers, workers=2) == usable


def test_a_loss_says_which_worker_died_and_how() -> None:
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    died = WorkerHealthCheckFailedError("A worker health check failed.", RuntimeError("The actor died.\nmore"))
    assert explain_loss(WorkerGroupError("long", {1: died})) == "workers died (worker 1: The actor died.)"
    assert explain_loss(ControllerError(ValueError("no room"))).startswith("the group of workers failed: ")
    assert explain_loss(OSError("disk full")) == "the group of workers could not run: OSError: disk full"


def done(value: Any) -> Answer:
    return Answer(value=value, failure=None, user_error=False, device_broken=False, exchanges=5)


def test_an_epoch_that_the_ranks_cut_has_the_notice_of_any_of_them() -> None:
    group: Any = WorkerGroup(WorkerGroupOptions(store="", workers=2, threads=1, gpus=0))
    answers = {1: done(Cut(0.5, "AWS takes it")), 0: done(Cut(0.5))}
    group._group = SimpleNamespace(call=lambda verb: Outcome(answers, None))

    assert group.run_epoch() == Cut(0.5, "AWS takes it")


def test_a_slot_that_gets_notice_while_it_waits_hands_it_on_to_all_ranks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    members = [SimpleNamespace(execute=SimpleNamespace(remote=lambda *order: told.append(order)))] * 2
    looks = iter([[], [], ["answered"]])
    stand_in = SimpleNamespace(wait=lambda calls, timeout: (next(looks), []), get=lambda call: call)
    monkeypatch.setattr(worker_group, "ray", stand_in)
    monkeypatch.setattr(worker_group.NOTICE, "_reason", "its process got SIGTERM")
    group = SimpleNamespace(_mailbox=SimpleNamespace(members=SimpleNamespace(remote=lambda: members)))

    assert worker_group._Group._answer(group, "outcome") == "outcome"  # type: ignore[arg-type]
    assert told == [(give_notice, "its process got SIGTERM")] * 2
