"""Trials to fake, and what a search must give back."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from search.ledger import TrialRecord

MakeTrial = Callable[..., TrialRecord]

SINGLETON = "_AutoscalingCoordinatorActor"
"""An actor without resources that Ray Train starts once per cluster, and that outlives every search."""


def _trial(
    number: int,
    state: str = "FINISHED",
    accuracies: Sequence[float | None] = (),
    *,
    failure: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    ended_time: float | None = None,
) -> TrialRecord:
    """Trial `number`, with one report per accuracy, each 10 seconds after the one before."""
    reports = [{"epoch": n, "time": 100.0 + 10 * n, "val_accuracy": a} for n, a in enumerate(accuracies, start=1)]
    ended = state in ("FINISHED", "STOPPED", "FAILED")
    return TrialRecord(
        trial_id=f"trial-{number}",
        number=number,
        config=config or {},
        state=state,
        attempts=0 if state == "PENDING" else 1,
        reports=reports,
        failure=failure,
        created_time=90.0,
        started_time=None if state == "PENDING" else 100.0,
        ended_time=(200.0 + number if ended_time is None else ended_time) if ended else None,
    )


@pytest.fixture
def make_trial() -> MakeTrial:
    return _trial


def _free() -> dict[str, float]:
    import ray

    return {name: ray.available_resources().get(name, 0.0) for name in ("CPU", "GPU", "memory")}


def _holders() -> dict[str, Any]:
    """The actors and placement groups that trials have on a cluster, pending ones included."""
    from ray._private.state import actors  # `ray.util.state` needs the dashboard
    from ray.util import placement_group_table

    alive = {key: actor["ActorClassName"] for key, actor in actors().items() if actor["State"] != "DEAD"}
    groups = {key: group["bundles"] for key, group in placement_group_table().items() if group["state"] != "REMOVED"}
    return groups | {key: name for key, name in alive.items() if name != SINGLETON}


@pytest.fixture
def free_resources(ray_cluster: str, eventually: Callable[[Callable[[], bool]], bool]) -> Iterator[None]:
    """Fails a test that leaves the cluster with less free than before it, or with a new actor or placement group."""
    free, holders = _free(), _holders()
    yield

    def as_before() -> bool:
        now = _free()
        return _holders().keys() <= holders.keys() and all(now[name] >= free[name] for name in free)

    new = {key: holder for key, holder in _holders().items() if key not in holders}
    assert eventually(as_before), f"{free} were free before the test, {_free()} are after it; left are {new}"
