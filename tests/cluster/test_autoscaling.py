"""A search on the node types of cluster/a100.yaml brings up the workers that it needs, and lets them go."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.ledger import fold_trials, read_ledger

SCRIPT = Path(__file__).with_name("autoscaled.py")


@pytest.mark.e2e
@pytest.mark.parametrize(("trials", "at_a_time"), [(2, 1), (6, 3)])
def test_a_search_of_8_gpu_trials_starts_the_workers_that_it_needs_and_none_more(
    tmp_path: Path, run_alone: Callable[..., "subprocess.CompletedProcess[str]"], trials: int, at_a_time: int
) -> None:
    """`autoscaled.py` says what stands in for what. A node holds one such trial, and a100.yaml allows four nodes."""
    answer = run_alone(sys.executable, str(SCRIPT), str(tmp_path), str(trials), str(at_a_time), seconds=280)

    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == 0, answer.stdout
    assert result["seen"][0][1] == 0, "no worker may be there before a trial waits for it"
    assert result["most"] == at_a_time, result["seen"]
    assert result["left"] == 0, result["seen"]
    ended = fold_trials(read_ledger(tmp_path / "search" / "ledger.jsonl"))
    assert [trial.state for trial in ended] == ["FINISHED"] * trials
    assert "its autoscaler may start up to 4 more nodes of 96 CPUs and 8 GPUs" in answer.stdout
