"""What a second worker brings, and what the exchange between the two costs.

    python benchmarks/scaling.py --batch-size 128

Two processes of one thread each train in turn, round after round, so that all sides see the same machine:

    alone           one process trains with the per-rank batch, the other waits
    side by side    both train, each for itself: what they lose to sharing the machine
    together        both train one model with DDP, each with the per-rank batch: what they lose to the exchange as well

The scaling efficiency is a rank's images per second together over those alone. Prints a table of medians, the time that
one step spends in each kind of exchange as torch's profiler sees it (waiting for the other rank included), and, as the
last line, one JSON object.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from search.experiment import hardware, versions
from trainable.config import TrialConfig
from trainable.data.preparation import prepare_store
from trainable.data.source import PrepareOptions
from trainable.data.store import Store
from trainable.errors import run_command
from trainable.training.device_data import DeviceData
from trainable.training.ranks import Ranks
from trainable.training.trainer import Trainer

WORKERS = 2
STEPS = 8
"""Optimiser steps of each side in a round."""
SIDES = ("alone", "side by side", "together")
TARGET_EFFICIENCY = 0.85


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="What a second worker brings, and what the exchange costs.")
    parser.add_argument("--batch-size", type=int, default=128, help="images per step of one rank (default: 128)")
    parser.add_argument("--image-tower", default="resnet-tiny", help="the image tower (default: resnet-tiny)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds that are measured (default: 15)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments.image_tower, arguments.batch_size, arguments.rounds))


def _run(image_tower: str, batch_size: int, rounds: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = PrepareOptions(synthetic_sizes=(700, 70, 70))
        faces = prepare_store("synthetic", out=folder / "faces", options=options, progress=False)
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()), OMP_NUM_THREADS="1")
        settings = {"faces": str(faces), "image_tower": image_tower, "batch_size": batch_size, "rounds": rounds}
        torch.multiprocessing.spawn(_work, args=(settings, str(folder)), nprocs=WORKERS)
        ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORKERS)]
    return _report(image_tower, batch_size, ranks)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _work(rank: int, settings: dict[str, Any], folder: str) -> None:
    """One process: all rounds of all sides; writes its figures to `folder`/<rank>.json."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=WORKERS)
    data = DeviceData(Store.open(Path(settings["faces"])), torch.device("cpu"))
    by_itself = _trainer(settings, data, Ranks())
    together = _trainer(settings, data, Ranks.current())
    idle: Callable[[], None] = lambda: None  # noqa: E731
    turns = {
        "alone": by_itself.train_epoch if rank == 0 else idle,
        "side by side": by_itself.train_epoch,
        "together": together.train_epoch,
    }
    speeds: dict[str, list[float]] = defaultdict(list)
    for number in range(1 + settings["rounds"]):
        for side, turn in turns.items():
            dist.barrier()
            report = turn()
            if report is not None and number > 0:  # the first round warms up
                share = WORKERS if side == "together" else 1
                speeds[side].append(report["images_per_second"] / share)
    dist.barrier()
    exchanges = _exchange_seconds(together)
    Path(folder, f"{rank}.json").write_text(json.dumps({"speeds": speeds, "exchanges": exchanges}))
    dist.destroy_process_group()


def _trainer(settings: dict[str, Any], data: DeviceData, ranks: Ranks) -> Trainer:
    batch_size = settings["batch_size"] * ranks.world_size
    config = TrialConfig(
        image_tower=settings["image_tower"],
        batch_size=batch_size,
        epoch_samples=STEPS * batch_size,
        max_epochs=10_000,
        precision="float32",
    )
    return Trainer(config, data, ranks)


def _exchange_seconds(trainer: Trainer) -> dict[str, float]:
    """Seconds per step in each kind of exchange."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        trainer.train_epoch()
    events = profiled.key_averages()
    kinds = ("exchange:", "gloo:")
    return {event.key: event.cpu_time_total / 1e6 / STEPS for event in events if event.key.startswith(kinds)}


def _report(image_tower: str, batch_size: int, ranks: list[dict[str, Any]]) -> int:
    speed = {side: float(np.median([s for rank in ranks for s in rank["speeds"].get(side, [])])) for side in SIDES}
    step = {side: batch_size / speed[side] for side in SIDES}
    efficiency = speed["together"] / speed["alone"]
    table = Table("", "images/s of a rank", "step [ms]", "of alone")
    for side in SIDES:
        table.add_row(side, f"{speed[side]:.0f}", f"{1000 * step[side]:.1f}", f"{speed[side] / speed['alone']:.3f}")
    console = Console()
    console.print(f"{image_tower}, {batch_size} images per rank and step, 1 thread per rank, medians")
    console.print(table)
    console.print(f"scaling efficiency {efficiency:.3f} (asked: {TARGET_EFFICIENCY})")
    sharing, exchange = step["side by side"] - step["alone"], step["together"] - step["side by side"]
    console.print(
        f"lost to sharing the machine {1000 * sharing:.1f} ms a step, to the exchange {1000 * exchange:.1f} ms"
    )
    exchanges = {name: float(np.mean([rank["exchanges"][name] for rank in ranks])) for name in ranks[0]["exchanges"]}
    for name, seconds in sorted(exchanges.items(), key=lambda item: -item[1]):
        console.print(f"  {name:<24} {1000 * seconds:6.1f} ms a step, waiting included")
    figures = {
        "images_per_second": speed,
        "step_seconds": step,
        "efficiency": efficiency,
        "exchange_seconds": exchanges,
    }
    setup = {"image_tower": image_tower, "batch_size": batch_size}
    print(json.dumps({**setup, **figures, "hardware": hardware(), "versions": versions()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
