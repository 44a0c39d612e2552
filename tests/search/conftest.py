"""Trials to fake, and what a search must give back."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from search.ledger import TrialRecord

MakeTrial = Callable[..., TrialRecord]


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


def _held() -> dict[str, Any]:
    """What a cluster has free, and the actors and placement groups that it has, pending ones included."""
    import ray
    from ray._private.state import actors  # `ray.util.state` needs the dashboard
    from ray.util import placement_group_table

    free = ray.available_resources()
    return {
        "free": {name: free.get(name, 0.0) for name in ("CPU", "GPU", "memory")},
        "actors": {key: actor["ActorClassName"] for key, actor in actors().items() if actor["State"] != "DEAD"},
        "placement groups": {
            key: group["bundles"] for key, group in placement_group_table().items() if group["state"] != "REMOVED"
        },
    }


@pytest.fixture
def free_resources(ray_cluster: str, eventually: Callable[[Callable[[], bool]], bool]) -> Iterator[None]:
    """Fails a test after which the cluster has less free than before it, or another actor or placement group."""
    before = _held()
    yield
    assert eventually(lambda: _held() == before), (
        f"the cluster had {before} before the test, and has {_held()} after it"
    )
