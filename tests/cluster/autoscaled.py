"""A search of 8-GPU trials on the node types of cluster/a100.yaml, with Ray's fake nodes. Run by test_autoscaling.py.

    python autoscaled.py FOLDER TRIALS AT_A_TIME

Everything is the real thing, the command of the search, its driver, the slots, Ray Tune and Ray's autoscaler, but for
three: a node is a raylet of this machine that claims a node's resources; a group of workers reserves its GPUs, as Ray
Train would, but trains nothing; and what needs CUDA before and after the trials, the preflight and the test of the best
trial, is left out. It starts a head, so it must have a network and process ids of its own.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ray._private.test_utils import wait_for_condition
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from ray.util.placement_group import placement_group, remove_placement_group

import search.driver
import search.finish
import search.preflight
from search.run import main
from trainable.slot.slot import Slot, SlotOptions
from trainable.slot.trial_slot import TrialSlot

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1:6379"
LIMIT_SECONDS = 180
EPOCHS = 2


class ReservingGroup:
    """A `Runner` that holds what a group of workers holds, and reports a made-up curve.

    Its first trial waits until `together` groups hold theirs, so that all are needed at one time.
    """

    def __init__(self, options: SlotOptions, holders: Path, together: int) -> None:
        self._holders, self._together = holders, together
        bundle = {"CPU": options.threads, "GPU": options.gpus}
        self._group = placement_group([bundle] * options.workers, strategy="PACK")
        if not self._group.wait(LIMIT_SECONDS):
            raise RuntimeError("no node came")
        (holders / str(os.getpid())).touch()
        self._epoch = 0

    def start(self, config: Mapping[str, Any], folder: Path) -> int:
        self._epoch, self._rate = 0, float(config["learning_rate"])
        wait_for_condition(lambda: len(list(self._holders.iterdir())) >= self._together, timeout=LIMIT_SECONDS)
        return 0

    def run_epoch(self) -> dict[str, Any]:
        self._epoch += 1
        accuracy = 1 - 1 / (1 + self._epoch + self._rate)
        metrics = {"val_accuracy": accuracy, "val_loss": 1 - accuracy, "train_accuracy": accuracy, "train_loss": 0.5}
        return {"epoch": self._epoch, "samples_seen": self._epoch * 100, "epoch_seconds": 0.1, **metrics}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def save_model(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def stop(self) -> None:
        return None

    def close(self) -> None:
        remove_placement_group(self._group)


class ReservingSlot(TrialSlot):
    """A slot whose group trains nothing; `holders` is a folder in which each group leaves its mark."""

    holders: Path
    together: int

    def setup(self, config: dict[str, Any], options: dict[str, Any] | None = None) -> None:
        self._options = SlotOptions(**(options or {}))
        self._slot = Slot(self._options, ReservingGroup(self._options, self.holders, self.together))
        self.reset_config(config)


def autoscaling_config() -> dict[str, Any]:
    """The node types of a100.yaml as fake nodes that go after six idle seconds.

    Ray's wheel lacks the defaults of `type: fake_multinode`, so its provider comes in as an external one.
    """
    shipped = yaml.safe_load((ROOT / "cluster" / "a100.yaml").read_text(encoding="utf-8"))
    types = {
        name: {"resources": kind["resources"], "node_config": {}, "max_workers": kind.get("max_workers", 0)}
        for name, kind in shipped["available_node_types"].items()
    }
    types[FAKE_HEAD_NODE_TYPE] = types.pop(shipped["head_node_type"])
    types["a100"]["resources"]["object_store_memory"] = 80_000_000
    return {
        "cluster_name": "fake",
        "max_workers": shipped["max_workers"],
        "upscaling_speed": shipped["upscaling_speed"],
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": ADDRESS,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
        },
        "available_node_types": types,
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


def start_head(folder: Path) -> None:
    """`ray start` as a100.yaml has it, with the autoscaler that `ray up` switches on (version 2)."""
    config = folder / "autoscaling.yaml"
    config.write_text(json.dumps(autoscaling_config()), encoding="utf-8")
    environment = {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--port=6379", "--num-cpus=0"]
    command += [
        "--node-ip-address=127.0.0.1",
        "--object-store-memory=100000000",
        f"--autoscaling-config={config}",
        "--include-dashboard=false",
    ]
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)


def worker_nodes() -> int:
    """Raylets of this process namespace, the head's apart."""
    found = 0
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += file.read_bytes().split(b"\0")[0].endswith(b"/raylet")
        except OSError:  # it has ended
            continue
    return found - 1


class Watch(threading.Thread):
    """Looks several times a second how many nodes there are."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.seen: list[tuple[float, int]] = []

    def run(self) -> None:
        began, last = time.monotonic(), -1
        while True:
            now = worker_nodes()
            self.most = max(self.most, now)
            if now != last:
                self.seen.append((round(time.monotonic() - began, 1), now))
                last = now
            time.sleep(0.2)


def run(folder: Path, trials: int, together: int) -> dict[str, Any]:
    """The search, and then the wait for its nodes to go."""
    ReservingSlot.holders, ReservingSlot.together = folder / "holders", together
    ReservingSlot.holders.mkdir()
    search.driver.TrialSlot = ReservingSlot  # type: ignore[misc, attr-defined]
    search.preflight.preflight = lambda *arguments, **options: None
    search.finish.measure_on_test = lambda search: None
    start_head(folder)
    watch = Watch()
    watch.start()
    flags = ["--algo", "random", "--dataset", "synthetic", "--storage", str(folder), "--name", "search"]
    flags += ["--trials", str(trials), "--max-concurrent", str(together), "--max-epochs", str(EPOCHS)]
    status = main([*flags, "--workers-per-trial", "8", "--gpus-per-worker", "1"])
    at_end = worker_nodes()
    wait_for_condition(lambda: worker_nodes() == 0, timeout=LIMIT_SECONDS, retry_interval_ms=200)
    return {"status": status, "most": watch.most, "at_end": at_end, "left": worker_nodes(), "seen": watch.seen}


if __name__ == "__main__":
    out = Path(sys.argv[1])
    os.environ.update(RAY_ADDRESS=ADDRESS, RAY_AUTH_MODE="disabled")
    result = run(out, int(sys.argv[2]), int(sys.argv[3]))
    (out / "result.json").write_text(json.dumps(result), encoding="utf-8")
