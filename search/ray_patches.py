"""What Ray and Tune do otherwise than a search needs, and no option of theirs changes."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from ray._private import services
from ray._private.utils import detect_fate_sharing_support
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial


@contextlib.contextmanager
def local_cluster_apart() -> Iterator[None]:
    """Start the processes of a local cluster in process groups of their own.

    What is sent to a search's group, as `timeout` and job managers do, then reaches the search alone, which ends in
    order. Ray's own server would go with it, and the search wait for that for a minute until Ray's core ends it. Where
    the kernel does not end Ray's processes with their parent, one of them does it by their common group: they stay so.
    """
    original = services.ConsolePopen
    if detect_fate_sharing_support():
        services.ConsolePopen = functools.partial(original, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = original


@contextlib.contextmanager
def lost_slots_are_deaths() -> Iterator[None]:
    """Let Tune take every error that Ray has for a lost slot as the death of that slot, which it handles.

    Ray has several: a slot that it kills for memory gives an `OutOfMemoryError`, which is no `RayActorError`. Tune
    raises on it and the whole search ends, whatever `max_failures` says.
    """
    original = RayActorManager._actor_task_failed

    def actor_task_failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        original(self, tracked_actor_task, as_actor_death(exception))

    RayActorManager._actor_task_failed = actor_task_failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = original


@contextlib.contextmanager
def slots_may_die_between_trials() -> Iterator[None]:
    """Let a trial whose slot died before it took the trial wait for another slot.

    Tune hands such an error on twice: at the first it puts the trial back into its queue, at the second it fails it. It
    would also go on taking the trial for one that a slot is about to get.
    """
    original = TuneController._trial_task_failure

    def trial_task_failure(self: TuneController, trial: Trial, exception: Exception) -> None:
        if isinstance(exception, RayActorError) and trial.status == Trial.PENDING:
            return
        self._resetting_trials.discard(trial)
        original(self, trial, exception)

    TuneController._trial_task_failure = trial_task_failure
    try:
        yield
    finally:
        TuneController._trial_task_failure = original


@contextlib.contextmanager
def idle_slots_are_released(idle: Callable[[], bool]) -> Iterator[None]:
    """End the slots that wait for a trial, with all that they hold, while `idle` says that there is none for them.

    Tune keeps one until its searcher says that no trial will ever come: for trials of eight GPUs a whole node, which
    the autoscaler would stop, until the last trial has ended.
    """
    original = TuneController._cleanup_cached_actors

    def cleanup(self: TuneController, force_all: bool = False) -> None:
        original(self, force_all=force_all or (idle() and not self._staged_trials))

    TuneController._cleanup_cached_actors = cleanup
    try:
        yield
    finally:
        TuneController._cleanup_cached_actors = original


@contextlib.contextmanager
def lost_trials_recover(may_recover: Callable[[Any], bool]) -> Iterator[None]:
    """Let `may_recover` say of a Tune trial whether it is started again after an error.

    Tune counts every loss of a node that gave no notice against a trial, for as long as that lives, and none of the
    others: the one ends trials that would have come to their end, the other may never end a search.
    """
    original = Trial.should_recover
    Trial.should_recover = may_recover
    try:
        yield
    finally:
        Trial.should_recover = original


@contextlib.contextmanager
def keys_stay_in_memory() -> Iterator[None]:
    """Keep the keys of AWS out of the environment that Tune asks for its actors, which Ray writes to its logs.

    Slots need none: only the agents of a storage do, and they are told otherwise (`trainable.slot.storage_actors`).
    """
    original = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in original if not name.startswith("AWS_")}
    try:
        yield
    finally:
        class_cache.ENV_VARS_TO_PROPAGATE = original


def as_actor_death(exception: Exception) -> Exception:
    """The exception, or a `RayActorError` with its class and message where Tune would not know it."""
    if isinstance(exception, RayActorError | RayTaskError) or not isinstance(exception, RayError):
        return exception
    death = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
    death.__cause__ = exception
    return death
