"""cluster/slurm.sbatch: valid, and what it starts on an allocation of two nodes, with stand-ins for Slurm and Ray."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "cluster" / "slurm.sbatch"

STAND_INS = {
    "scontrol": "printf 'node-1\\nnode-2\\n'",
    # Runs the command here, as if on the node; `hostname --ip-address` has an answer of its own.
    "srun": 'while [ "${1#--}" != "$1" ]; do echo "$1" >>"$OUT/srun"; shift; done\n'
    'case "$1" in hostname) echo 10.0.0.1 ;; bash) echo "gpus $*" >>"$OUT/calls" ;; *) exec "$@" ;; esac',
    "sleep": "exec /bin/sleep 0.01",
}
RAY = """#!/bin/bash
case "$1" in
start)
    /bin/sleep 0.3
    [[ "$*" != *"$BROKEN"* ]] || exit 1
    echo "ray $*" >>"$OUT/calls"
    trap 'exit 0' TERM
    while :; do read -rt 0.1 <>/dev/null || true; done
    ;;
status)
    echo Active:
    grep '^ray start' "$OUT/calls" | sed 's/.*/ 1 node_0123/'
    ;;
esac
"""
"""Takes a while to start, says of each node that it is up, as Ray does, and fails on the `$BROKEN` one."""
PYTHON = """#!/bin/bash
echo "python $* at $RAY_ADDRESS as $RAY_AUTH_MODE" >>"$OUT/calls"
exit "$SEARCH_STATUS"
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def submit(folder: Path, status: int = 0, *arguments: str, broken: str = "none") -> "tuple[int, list[str]]":
    """The script's exit status on two nodes of eight GPUs, and what was started there.

    Ray does not start where it is given `broken`.
    """
    for name, body in STAND_INS.items():
        write(folder / "slurm" / name, f"#!/bin/bash\n{body}\n")
    write(folder / ".venv" / "bin" / "ray", RAY)
    write(folder / ".venv" / "bin" / "python", PYTHON)
    environment = {
        **os.environ,
        "OUT": str(folder),
        "SEARCH_STATUS": str(status),
        "BROKEN": broken,
        "PATH": f"{folder / 'slurm'}{os.pathsep}{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NODELIST": "node-[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "96",
        "SLURM_GPUS_ON_NODE": "8",
    }
    command = ["bash", "-c", 'bash "$@"; status=$?; kill $(jobs -p) 2>/dev/null; exit $status', "job"]
    # A session of its own, which Slurm would end with the job.
    process = subprocess.Popen([*command, str(SCRIPT), *arguments], env=environment, start_new_session=True)
    try:
        code = process.wait(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return code, (folder / "calls").read_text().splitlines()


def test_it_is_bash() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck (apt-get install shellcheck)")
    answer = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


def test_slurm_reads_all_its_directives() -> None:
    """Slurm stops reading them at the first command."""
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert [number for number, line in enumerate(lines) if line.startswith("#SBATCH") and number > first_command] == []


def test_ray_is_started_on_every_node_and_the_search_gets_what_was_given(tmp_path: Path) -> None:
    status, calls = submit(tmp_path, 0, "--algo", "asha", "--name", "first one")

    port = 20000 + 4242
    assert status == 0
    started = [call for call in calls if call.startswith("ray start")]
    assert len(started) == 2
    assert f"--head --node-ip-address=10.0.0.1 --port={port} --dashboard-host=127.0.0.1" in started[0]
    assert f"--address=10.0.0.1:{port}" in started[1]
    assert all("--num-cpus=96 --num-gpus=8" in call for call in started)
    (search,) = [call for call in calls if call.startswith("python search/run.py")]
    assert search == (
        f"python search/run.py --storage {tmp_path}/results --algo asha --name first one at 10.0.0.1:{port} as token"
    )
    gpus = next(call for call in calls if call.startswith("gpus"))
    assert [call for call in calls if call in (gpus, *started, search)] == [gpus, *started, search]


def test_no_search_begins_before_all_nodes_are_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It would count its slots without those that are to come."""
    status, calls = submit(tmp_path, broken="--address=")
    assert status == 1
    assert len([call for call in calls if call.startswith("ray start")]) == 1
    assert not any(call.startswith("python search/run.py") for call in calls)
    assert "Ray must run on 2 of the nodes by now, but runs on 1" in capfd.readouterr().err


def test_a_search_that_goes_on_has_its_storage_already(tmp_path: Path) -> None:
    _, calls = submit(tmp_path, 0, "--resume", "results/first")
    assert any(call.startswith("python search/run.py --resume results/first at") for call in calls), calls


def test_the_searchs_status_is_the_jobs(tmp_path: Path) -> None:
    assert submit(tmp_path, 1)[0] == 1


def test_nothing_listens_to_all_addresses() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert "--dashboard-host=127.0.0.1" in text
    assert not re.search(r"0\.0\.0\.0", text)
