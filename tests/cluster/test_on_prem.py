"""cluster/on-prem.yaml brought up by SSH on three machines, namespaces of this one; alone by `make cluster-test`."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.ledger import read_ledger

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("on_prem.py")
PROGRAMS = {"/usr/sbin/sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync", "ip": "iproute2"}
"""What must be there, and the package that has it."""
ALONE = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
LIMIT_SECONDS = 1200

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(LIMIT_SECONDS + 60)]


@pytest.fixture(scope="module")
def brought_up() -> Iterator[tuple[Path, dict[str, Any], str]]:
    """The laptop's folder after it all, what `on_prem.py` found, and what it said."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (apt-get install)")
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and the right to make namespaces, which this machine does not give")
    folder = Path(tempfile.mkdtemp(prefix="o"))  # short: Ray and SSH put sockets in it
    try:
        answer = subprocess.run(
            [*ALONE, sys.executable, str(SCRIPT), str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LIMIT_SECONDS,
            check=False,
        )
        print(answer.stdout)
        assert answer.returncode == 0, answer.stdout[-6000:]
        yield folder, json.loads((folder / "result.json").read_text()), answer.stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_search_ran_as_a_job_on_the_workers(brought_up: tuple[Path, dict[str, Any], str]) -> None:
    folder, result, _ = brought_up
    assert "succeeded" in result["said"]
    assert "checking that a trial works" in result["said"]  # the log of the job is the driver's
    events = read_ledger(folder / "results" / "first" / "ledger.jsonl")
    assert [event["state"] for event in events if event["event"] == "ended"] == ["FINISHED"] * 2
    nodes = {event["node"] for event in events if event["event"] == "started"}
    assert nodes
    assert nodes <= {"worker-1", "worker-2"}, "never the head; the slot that is warm first may take both"


def test_the_report_was_fetched(brought_up: tuple[Path, dict[str, Any], str]) -> None:
    folder, _, _ = brought_up
    assert "<html" in (folder / "results" / "first" / "report.html").read_text(encoding="utf-8")


def test_nothing_of_ray_is_left_after_ray_down(brought_up: tuple[Path, dict[str, Any], str]) -> None:
    _, result, _ = brought_up
    assert result["left"] == {"head": 0, "worker-1": 0, "worker-2": 0}
