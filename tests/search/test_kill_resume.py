"""A search whose driver is killed again and again ends as one that never was: simulated slots, real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.ledger import LEDGER_NAME, read_ledger

DRIVER = Path(__file__).with_name("dying_driver.py")
DEATHS = 10


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("scheduler", "algorithm"),
    [
        ("asha", "random"),
        ("asha-promote", "random"),
        ("hyperband", "random"),
        ("median", "random"),
        ("pbt", "random"),
        ("asha", "optuna"),
        ("asha-promote", "optuna"),
        ("asha-promote", "hyperopt"),
    ],
)
def test_ten_deaths_of_the_driver_change_nothing(tmp_path: Path, scheduler: str, algorithm: str) -> None:
    command = [sys.executable, str(DRIVER), str(tmp_path), scheduler, algorithm, "0", str(DEATHS)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.stdout.split() == [*[str(-signal.SIGKILL)] * DEATHS, "0"], answer.stderr
    whole, killed = (read_ledger(tmp_path / name / LEDGER_NAME) for name in ("whole", "killed"))
    assert sum(event["event"] == "search_started" for event in killed) == DEATHS + 1
    assert _told(killed) == _told(whole)
    states = {event["state"] for event in whole if event["event"] == "ended"}
    assert states == {"FINISHED", "STOPPED", "FAILED"}
    assert any(event["event"] == "inherited" for event in whole) == (scheduler == "pbt")


def _told(events: list[dict[str, object]]) -> list[dict[str, object]]:
    """Everything that happened in a search, but for its beginning."""
    return [event for event in events if event["event"] != "search_started"]
