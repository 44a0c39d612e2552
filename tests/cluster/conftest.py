"""What the cluster tests share: processes of their own that no other test's Ray can disturb."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
"""A network with nothing but itself, and process ids of its own, which all end with the first."""

OF_RAY = ("RAY_", "TUNE_")
"""Variables that Ray sets in a process that has connected to a cluster, such as how it proves itself to that one."""


@pytest.fixture
def run_alone() -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    """Run a command on a network and with process ids of its own; `ray stop` there ends nobody else's Ray."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip (apt-get install util-linux iproute2)")
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make namespaces, which this machine does not give")
    scratch = tempfile.mkdtemp(prefix="r")  # short: Ray puts sockets in it, whose paths have at most 107 characters

    def run(*command: str, seconds: float) -> "subprocess.CompletedProcess[str]":
        own = {name: value for name, value in os.environ.items() if not name.startswith(OF_RAY)}
        environment = {**own, "RAY_TMPDIR": scratch, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
        alone = [*UNSHARE, "bash", "-c", 'ip link set lo up && exec "$@"', "alone", *command]
        return subprocess.run(
            alone, env=environment, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
        )

    yield run
    shutil.rmtree(scratch, ignore_errors=True)
