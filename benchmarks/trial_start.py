"""What a trial costs beside its training, once its slot is warm.

    python benchmarks/trial_start.py --trials 32

Runs trials of one optimiser step each, one after another in one slot, through the whole search: Tune hands the slot the
next config, the slot builds model and optimizer, trains, evaluates, writes its checkpoints, and gives its memory back.
A trial's overhead is its wall time, from the end of the trial before it to its own, less the time that training and
evaluation took. Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from search.experiment import hardware, versions
from search.ledger import read_ledger, read_trials
from search.quiet import Quiet
from trainable.errors import run_command

TARGET_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Side:
    """The figures of one way to run trials."""

    name: str
    trials: int
    """Warm trials; the first one is apart."""
    first_seconds: float
    """From the start of the search to the end of its first trial: process, imports, data."""
    trial_seconds: float
    """Median wall time of a warm trial."""
    training_seconds: float
    """Median time of its training and evaluation."""
    overhead_seconds: float
    """Median of the difference."""
    overhead_p90_seconds: float
    overhead_max_seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="What a trial costs beside its training, once its slot is warm.")
    parser.add_argument("--trials", type=int, default=32, help="trials to run, the first included (default: 32)")
    trials = parser.parse_args(argv).trials
    return run_command(lambda: _report([in_process(trials)]))


def in_process(trials: int) -> Side:
    """Trials of one worker, in the Tune actor itself."""
    from search.run import main as search
    from trainable.data.preparation import prepare_store
    from trainable.data.source import PrepareOptions

    with tempfile.TemporaryDirectory() as folder, Quiet(Path(folder)):
        faces = prepare_store(
            "synthetic",
            out=Path(folder) / "faces",
            options=PrepareOptions(synthetic_sizes=(280, 70, 70)),
            progress=False,
        )
        arguments = ["--storage", folder, "--name", "x", "--data-path", str(faces), "--trials", str(trials)]
        arguments += ["--algo", "random", "--max-concurrent", "1", "--max-epochs", "1", "--set", "epoch_samples=64"]
        status = search(arguments)
        if status != 0:
            raise SystemExit(f"the search must end in order, but ended with exit status {status}")
        return _measure("in process", Path(folder) / "x")


def _measure(name: str, experiment: Path) -> Side:
    started = next(event["time"] for event in read_ledger(experiment / "ledger.jsonl"))
    trials = read_trials(experiment)
    ends = np.array([started, *(trial.ended_time for trial in trials)])
    walls = np.diff(ends)
    training = np.array([sum(report["epoch_seconds"] for report in trial.reports) for trial in trials])
    overhead = (walls - training)[1:]
    return Side(
        name=name,
        trials=len(overhead),
        first_seconds=float(walls[0]),
        trial_seconds=float(np.median(walls[1:])),
        training_seconds=float(np.median(training[1:])),
        overhead_seconds=float(np.median(overhead)),
        overhead_p90_seconds=float(np.percentile(overhead, 90)),
        overhead_max_seconds=float(overhead.max()),
    )


def _report(sides: list[Side]) -> int:
    table = Table("", "warm trials", "first [s]", "trial [s]", "training [s]", "overhead [s]", "p90 [s]", "max [s]")
    for side in sides:
        name, trials, *seconds = asdict(side).values()
        table.add_row(name, str(trials), *(f"{value:.3f}" for value in seconds))
    Console().print(table)
    machine = {"hardware": hardware(), "versions": versions()}
    print(json.dumps({"target_seconds": TARGET_SECONDS, "sides": [asdict(side) for side in sides], **machine}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
