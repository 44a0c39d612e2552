"""Trials to fake."""

from collections.abc import Callable, Sequence
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
