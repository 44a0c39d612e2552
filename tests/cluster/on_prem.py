"""cluster/on-prem.yaml for real: three machines by SSH, a search as a job, its report fetched, all taken down.

    python on_prem.py FOLDER

Run by test_on_prem.py in a network, mount and process namespace of its own. This process is the laptop; the machines
are namespaces on a bridge (machine.sh), each with the distribution's sshd. The launcher, SSH, rsync, Ray, pip's install
of this project and the search are real. One thing stands in: the packages of constraints.txt are on each machine
already, because no index can be reached from there.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from trainable.data.synthetic import draw_faces, roll_faces

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv" / "bin"
PACKAGES = next((ROOT / ".venv" / "lib").glob("python3*/site-packages"))
RAY = Path(sys.executable).with_name("ray")
NETWORK = "10.77.0"
MACHINES = {"head": f"{NETWORK}.10", "worker-1": f"{NETWORK}.11", "worker-2": f"{NETWORK}.12"}
LIMIT_SECONDS = 180
LOOK_SECONDS = 3
"""Between two looks by SSH at what the machines run: each costs all of them as much as a second of their work."""
NOTICE_SECONDS = 15
"""After so long without their head the workers end; by default a minute."""
SEARCH = [
    "--algo",
    "random",
    "--dataset",
    "folder",
    "--data-path",
    "/mnt/glance/data",
    "--trials",
    "2",
    "--max-epochs",
    "2",
]
CLASSES, PICTURES = 7, 40
ALONE = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "--kill-child"]


def until(condition: Callable[[], bool], what: str, every: float = 0.2) -> None:
    """Wait for a condition, within the limit; look at it every so many seconds."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {LIMIT_SECONDS} s for {what}")
        time.sleep(every)


def say(text: str, *, began: float = time.monotonic()) -> None:
    print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Run a command of the laptop; what it printed."""
    answer = subprocess.run(
        [*map(str, command)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if answer.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {answer.returncode}:\n{answer.stdout[-4000:]}")
    return answer.stdout


def prepare(folder: Path, key: Path) -> None:
    """A machine's home: sshd's keys and file, who may come in, and a Python that has the packages already."""
    sshd = folder / "sshd"
    sshd.mkdir(parents=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", sshd / "host")
    shutil.copy(key.with_suffix(".pub"), sshd / "authorized_keys")
    (sshd / "config").write_text(
        "HostKey /mnt/home/sshd/host\nAuthorizedKeysFile /mnt/home/sshd/authorized_keys\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
        "SetEnv PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0 OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 "
        f"RAY_gcs_rpc_server_reconnect_timeout_s={NOTICE_SECONDS}\n"
    )
    (folder / ".bashrc").touch()
    environment = folder / "glance" / ".venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    own = next((environment / "lib").glob("python3*/site-packages"))
    (own / "packages.pth").write_text("/mnt/home/packages\n")
    script = "#!/mnt/home/glance/.venv/bin/python\nfrom ray.scripts.scripts import main\nmain()\n"
    (environment / "bin" / "ray").write_text(script)
    (environment / "bin" / "ray").chmod(0o755)


@contextmanager
def machines(folder: Path, key: Path) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """The machines, connected and answering; they end with this block."""
    shared = folder / "shared"
    shared.mkdir()
    for command in (
        "link set lo up",
        "link add lan type bridge",
        f"address add {NETWORK}.1/24 dev lan",
        "link set lan up",
    ):
        run("ip", *command.split())
    processes = {}
    for number, (name, address) in enumerate(MACHINES.items()):
        home = folder / name
        prepare(home, key)
        script = str(Path(__file__).with_name("machine.sh"))
        command = [*ALONE, "bash", script, name, address, str(home), str(shared), str(PACKAGES)]
        process = subprocess.Popen(command, stdout=(folder / f"{name}.log").open("wb"), stderr=subprocess.STDOUT)
        processes[name] = process
        until(lambda process=process: bool(children(process.pid)), "the machine's first process")
        run(
            "ip",
            "link",
            "add",
            f"port{number}",
            "type",
            "veth",
            "peer",
            "name",
            "lan",
            "netns",
            str(children(process.pid)[0]),
        )
        run("ip", "link", "set", f"port{number}", "master", "lan", "up")
    for address in MACHINES.values():
        until(lambda address=address: answers(key, address), f"SSH on {address}")
    try:
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def children(process: int) -> list[int]:
    """The processes that a process started."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def on(key: Path, address: str, command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command on a machine, by SSH."""
    options = [
        "-i",
        str(key),
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
    ]
    return subprocess.run(["ssh", *options, f"root@{address}", command], capture_output=True, text=True, check=False)


def answers(key: Path, address: str) -> bool:
    return on(key, address, "true").returncode == 0


def raylets(key: Path) -> dict[str, int]:
    """How many raylets each machine runs."""
    command = "pgrep -c -f '[r]aylet/raylet ' || true"  # the brackets keep it from finding its own shell
    return {name: int(on(key, address, command).stdout or 0) for name, address in MACHINES.items()}


def fill_in(folder: Path, key: Path) -> Path:
    """on-prem.yaml as its user leaves it: the marked block, and what `make bundle` wrote."""
    bundle = folder / "bundle"
    bundle.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(bundle)], input=archive, check=True)
    text = (ROOT / "cluster" / "on-prem.yaml").read_text(encoding="utf-8")
    changes = {
        "192.0.2.10": MACHINES["head"],
        "[192.0.2.11, 192.0.2.12]": f"[{MACHINES['worker-1']}, {MACHINES['worker-2']}]",
        "&ssh_user ubuntu": "&ssh_user root",
        "~/.ssh/glance": str(key),
        "build/cluster": str(bundle),
    }
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"on-prem.yaml no longer holds {old!r}")
        text = text.replace(old, new)
    path = folder / "on-prem.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def draw_pictures(folder: Path) -> None:
    """A small data set of the built-in faces, as a folder of pictures per class."""
    labels = np.repeat(np.arange(CLASSES), PICTURES)
    faces = draw_faces(labels, roll_faces(0, "train", 0, len(labels)))
    for number, (face, label) in enumerate(zip(faces, labels, strict=True)):
        path = folder / f"emotion {label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(path)


@contextmanager
def dashboard(file: Path) -> Iterator[str]:
    """`ray dashboard`, until it forwards; the address to submit to."""
    process = subprocess.Popen([str(RAY), "dashboard", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = "http://localhost:8265"
    token = (Path.home() / ".ray" / "auth_token").read_text()

    def forwards() -> bool:
        request = urllib.request.Request(f"{address}/api/version", headers={"Authorization": f"Bearer {token}"})
        try:
            return bool(urllib.request.urlopen(request, timeout=5).status == 200)
        except OSError:
            return False

    until(forwards, "the dashboard")
    yield address
    process.terminate()
    process.wait()


def main(folder: Path) -> dict[str, object]:
    """Up, submit, fetch, down, as cluster/README.md says."""
    key = folder / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    with machines(folder, key):
        say("three machines answer by SSH")
        draw_pictures(folder / "shared" / "data")
        file = fill_in(folder, key)
        run(RAY, "get-auth-token", "--generate")
        run(RAY, "up", "--yes", "--no-config-cache", file)
        say("ray up is through")
        try:
            until(lambda: raylets(key) == dict.fromkeys(MACHINES, 1), "all three machines to run Ray", LOOK_SECONDS)
        except TimeoutError:
            say(f"raylets: {raylets(key)}")
            say(on(key, MACHINES["head"], "tail -n 30 /tmp/ray/session_latest/logs/monitor.*").stdout)
            raise
        say(f"raylets: {raylets(key)}")
        each = str(os.cpu_count() or 1)  # a trial takes all of a machine
        search = [
            "python",
            "search/run.py",
            *SEARCH,
            "--cpus-per-worker",
            each,
            "--storage",
            "/mnt/glance/results",
            "--name",
            "first",
        ]
        with dashboard(file) as address:
            job = [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", *search]
            said = run(*job, folder=folder / "bundle")
        say("the search has ended")
        run(RAY, "rsync-down", file, "/mnt/glance/results/", f"{folder}/results/")
        report = run(sys.executable, ROOT / "analysis" / "report.py", folder / "results" / "first")
        say("the report is here")
        run(RAY, "down", "--yes", file)
        say(f"ray down is through; raylets: {raylets(key)}")
        until(lambda: not any(raylets(key).values()), "Ray to end on all machines", LOOK_SECONDS)
        left = raylets(key)
        say(f"raylets left: {left}")
    return {"said": said, "report": report, "left": left}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    os.environ.update(HOME=str(place / "laptop"), RAY_TMPDIR=str(place / "laptop"), RAY_AUTH_MODE="token")
    os.environ.pop("RAY_ADDRESS", None)
    (place / "laptop").mkdir()
    result = main(place)
    (place / "result.json").write_text(json.dumps(result), encoding="utf-8")
