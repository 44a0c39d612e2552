import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private import services
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.utils.object_cache import _ObjectCache

from search.ray_patches import (
    idle_slots_are_released,
    keys_stay_in_memory,
    local_cluster_apart,
    lost_slots_are_deaths,
    lost_trials_recover,
)

KILLED = OutOfMemoryError("Task was killed due to the node running low on memory.")


def fail_task(exception: Exception) -> list[tuple[str, Exception]]:
    """What Tune's callbacks are told when a task of an actor fails."""
    told: list[tuple[str, Exception]] = []
    actor = SimpleNamespace(actor_id=1, _on_error=lambda _, error: told.append(("actor", error)))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=lambda _, error: told.append(("task", error)))
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    RayActorManager._actor_task_failed(manager, task, exception)
    return told


@pytest.mark.parametrize("error", [KILLED, WorkerCrashedError()], ids=lambda error: type(error).__name__)
def test_an_error_that_tune_would_raise_on_becomes_the_death_of_its_slot(error: Exception) -> None:
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        fail_task(error)

    with lost_slots_are_deaths():
        told = fail_task(error)
    assert [who for who, _ in told] == ["actor", "task"]
    assert all(isinstance(death, RayActorError) and not death.preempted for _, death in told)
    assert str(told[0][1]) == f"{type(error).__name__}: {error}"


def test_what_tune_knows_is_handed_on_as_it_is() -> None:
    task_error = RayTaskError("step", "Traceback ...", ValueError("no"))
    actor_error = ActorUnavailableError("away", None)
    with lost_slots_are_deaths():
        assert fail_task(task_error) == [("task", task_error)]
        assert fail_task(actor_error) == [("actor", actor_error), ("task", actor_error)]


def test_other_errors_still_raise_and_tune_is_left_as_it_was() -> None:
    before = RayActorManager._actor_task_failed
    with lost_slots_are_deaths(), pytest.raises(RuntimeError, match="Caught unexpected exception"):
        fail_task(ValueError("a bug"))

    assert RayActorManager._actor_task_failed is before


@pytest.mark.parametrize(("idle", "staged", "ended"), [(True, [], 1), (False, [], 0), (True, ["trial"], 0)])
def test_the_one_slot_that_tune_keeps_waiting_is_ended_where_it_waits_in_vain(
    idle: bool, staged: list[str], ended: int
) -> None:
    removed: list[Any] = []
    slot = SimpleNamespace(set_on_stop=lambda _: None, set_on_error=lambda _: None)
    controller: Any = SimpleNamespace(
        _search_alg=SimpleNamespace(is_finished=lambda: False),
        _staged_trials=set(staged),
        _actor_cache=_ObjectCache(),
        _remove_actor=lambda tracked_actor: removed.append(tracked_actor),
    )
    controller._actor_cache.cache_object("8 GPUs", slot)
    TuneController._cleanup_cached_actors(controller)
    assert not removed

    with idle_slots_are_released(lambda: idle):
        TuneController._cleanup_cached_actors(controller)
    assert removed == [slot] * ended


def test_it_is_not_tune_that_says_how_often_a_trial_may_be_lost() -> None:
    trial: Any = SimpleNamespace(run_metadata=SimpleNamespace(num_failures=7), max_failures=0)
    with lost_trials_recover(lambda lost: lost is trial):
        assert Trial.should_recover(trial)
    assert not Trial.should_recover(trial)


def test_the_keys_of_aws_go_into_no_environment_that_ray_writes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    def asked() -> str:
        return str(class_cache._ActorClassCache().get(type("Trainable", (), {}))._default_options["runtime_env"])

    assert "secret" in asked()
    with keys_stay_in_memory():
        assert "PL_DISABLE_FORK" in asked()
        assert not {"secret", "token"} & set(asked().split("'"))
    assert "secret" in asked()


def test_what_is_sent_to_the_group_of_a_search_does_not_reach_its_local_cluster() -> None:
    def group_of_a_process_of_ray() -> int:
        command = [sys.executable, "-c", "input()"]
        process = services.start_ray_process(command, "raylet", fate_share=False, pipe_stdin=True).process
        try:
            return os.getpgid(process.pid)
        finally:
            process.communicate(b"\n")

    with local_cluster_apart():
        assert group_of_a_process_of_ray() != os.getpgrp()
    assert group_of_a_process_of_ray() == os.getpgrp()
