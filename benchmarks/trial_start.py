"""What a trial costs beside its training: a `TorchTrainer` per trial against slots that stay warm.

    python benchmarks/trial_start.py --trials 10

Each side runs the same trials, of one optimiser step and one evaluation by the same training core, one at a time:

    TorchTrainer per trial    a Tune function that builds a TorchTrainer, as the user guide of Ray Train shows it
                              ("Hyperparameter Tuning with Ray Tune"), with 1 and with 2 workers
    warm group                a search with --workers-per-trial 2: one TorchTrainer lives as long as its slot
    in process                a search with one worker per trial, which is the slot's own process

A trial's overhead is its wall time, from the end of the trial before it to its own, less the time that training and
evaluation took. The first trial of each side pays for processes and imports and stands apart. In both searches the
overhead holds what the documented pattern does not do here: checkpoints, the best model, and the ledger. Prints a table
and, as the last line, one JSON object.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from search.experiment import hardware, versions
from search.ledger import read_ledger, read_trials
from search.quiet import Quiet
from trainable.config import TrialConfig
from trainable.errors import run_command

TARGETS = {
    "warm group, 2 workers": ("TorchTrainer per trial, 2 workers", 40),
    "in process": ("TorchTrainer per trial, 1 worker", 80),
}
"""How many times less overhead a side must have than which other."""
CONFIG = TrialConfig(batch_size=8, epoch_samples=8, max_epochs=1)
"""As little training as can be, so that a trial's wall time is close to what it costs beside it."""
CLUSTER_CPUS = 4
"""Ray's count, not the machine's: beside its workers the documented pattern takes a CPU for its driver."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """The figures of one way to run trials."""

    name: str
    trials: int
    """Warm trials; the first one is apart."""
    first_seconds: float
    """From the start of the search to the end of its first trial: process, imports, data."""
    trial_seconds: float
    """Median wall time of a further trial."""
    training_seconds: float
    """Median time of its training and evaluation."""
    overhead_seconds: float
    """Median of the difference."""
    overhead_p90_seconds: float
    overhead_max_seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="What a trial costs beside its training.")
    parser.add_argument("--trials", type=int, default=10, help="trials of each side, the first included (default: 10)")
    return run_command(lambda: _run(parser.parse_args(argv).trials))


def _run(trials: int) -> int:
    with tempfile.TemporaryDirectory() as name, Quiet(Path(name)), _cluster():
        folder, faces = Path(name), _small_store(Path(name))
        sides = [
            per_trial_trainer(faces, folder, trials, workers=1),
            per_trial_trainer(faces, folder, trials, workers=2),
            warm_search("warm group, 2 workers", faces, folder, trials, workers=2),
            warm_search("in process", faces, folder, trials, workers=1),
        ]
    return _report(sides)


@contextmanager
def _cluster() -> Iterator[None]:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=CLUSTER_CPUS, include_dashboard=True, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def _small_store(folder: Path) -> Path:
    from trainable.data.preparation import prepare_store
    from trainable.data.source import PrepareOptions

    options = PrepareOptions(synthetic_sizes=(280, 7, 7))
    return prepare_store("synthetic", out=folder / "faces", options=options, progress=False)


def train_on_worker(settings: dict[str, Any]) -> None:
    """The training function of the documented pattern: one epoch by the same core, then a report."""
    import ray.train

    from trainable.slot.runner import InProcessRunner

    runner = InProcessRunner(Path(settings["store"]), threads=1)
    runner.start(settings["config"], Path(settings["store"]) / "no-checkpoint")
    ray.train.report(runner.run_epoch())


def per_trial_trainer(faces: Path, folder: Path, trials: int, *, workers: int) -> Side:
    """Trials by Ray's documented pattern."""
    import ray.train
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    def drive(config: dict[str, Any]) -> None:
        TorchTrainer(
            train_on_worker,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(num_workers=workers),
            run_config=ray.train.RunConfig(
                name=f"trial-{tune.get_context().get_trial_id()}",
                storage_path=str(folder / "train"),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    class Clock(tune.Callback):
        """When each trial ended, and how long it trained."""

        def __init__(self) -> None:
            self.ends = [time.time()]
            self.training: list[float] = []

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.ends.append(time.time())
            self.training.append(trial.last_result["epoch_seconds"])

    clock = Clock()
    tune.Tuner(
        drive,
        param_space={"store": str(faces), "config": CONFIG.to_dict()},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), callbacks=[clock], verbose=0),
    ).fit()
    if len(clock.training) != trials:
        raise SystemExit(f"all {trials} trials must end in order, but {len(clock.training)} did")
    return _side(f"TorchTrainer per trial, {workers} worker{'s' * (workers > 1)}", clock.ends, clock.training)


def warm_search(name: str, faces: Path, folder: Path, trials: int, *, workers: int) -> Side:
    """Trials of this project's search."""
    from search.run import main as search

    arguments = ["--storage", str(folder), "--name", f"search-{workers}", "--data-path", str(faces)]
    arguments += ["--trials", str(trials), "--algo", "random", "--scheduler", "none", "--max-epochs", "1"]
    arguments += ["--max-concurrent", "1", "--workers-per-trial", str(workers)]
    arguments += ["--set", f"epoch_samples={CONFIG.epoch_samples}", "--set", f"batch_size={CONFIG.batch_size}"]
    status = search(arguments)
    if status != 0:
        raise SystemExit(f"the search must end in order, but ended with exit status {status}")
    experiment = folder / f"search-{workers}"
    records = read_trials(experiment)
    started = next(event["time"] for event in read_ledger(experiment / "ledger.jsonl"))
    ends = [started, *(float(trial.ended_time or 0.0) for trial in records)]
    return _side(name, ends, [sum(report["epoch_seconds"] for report in trial.reports) for trial in records])


def _side(name: str, ends: list[float], training: list[float]) -> Side:
    """The figures of trials that ended at `ends[1:]`, one after another, the first begun at `ends[0]`."""
    walls = np.diff(ends)
    overhead = (walls - np.array(training))[1:]
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


def _ratios(sides: list[Side], name: str, other: str) -> tuple[float, float]:
    """How many times less wall time and overhead a trial has on one side than on the other."""
    side, reference = (next(side for side in sides if side.name == wanted) for wanted in (name, other))
    return reference.trial_seconds / side.trial_seconds, reference.overhead_seconds / side.overhead_seconds


def _report(sides: list[Side]) -> int:
    titles = ("", "trials", "first [s]", "trial [s]", "training [s]", "overhead [s]", "p90 [s]", "max [s]")
    table = Table(*titles)
    for side in sides:
        name, trials, *seconds = asdict(side).values()
        table.add_row(name, str(trials), *(f"{value:.3f}" for value in seconds))
    console = Console(width=120)
    console.print(table)
    ratios = {name: _ratios(sides, name, other) for name, (other, _) in TARGETS.items()}
    for name, (other, target) in TARGETS.items():
        wall, overhead = ratios[name]
        console.print(f"{name} against {other} (asked: {target}):")
        console.print(f"  {wall:.0f} times less wall time per trial, {overhead:.0f} times less overhead")
    machine = {"hardware": hardware(), "versions": versions()}
    print(json.dumps({"sides": [asdict(side) for side in sides], "ratios": ratios, **machine}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
