"""Epochs trained after divergence, where half of the trials diverge: our schedulers against Ray's ASHA.

    python benchmarks/nan_heavy.py --seeds 10

Each side runs the same searches in the simulator: the same random configs on the same curves from a formula, of which
half report NaN for every metric from a random epoch on. NaN reaches each scheduler as it would in a search. The epoch
whose report first says NaN is not counted, for nobody can know before. Prints a table and, as the last line, one JSON
object.
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from search_peers import RayAsha

from search.experiment import hardware, versions
from search.ledger import LEDGER_NAME, LedgerWriter
from search.schedulers import Scheduler, SchedulerOptions, build_scheduler
from search.searchers import RandomSearcher
from search.simulate import Plan, VirtualClock, simulate
from search.synthetic_curves import SYNTHETIC_SPACE, SyntheticCurves
from search.trials import TrialRecord, best_report, is_finite
from trainable.errors import run_command

METRIC, MODE = "val_accuracy", "max"
EPOCHS, SLOTS = 27, 8
NAN_SHARE = 0.5
OURS = ("asha", "asha-promote", "hyperband", "median")


@dataclass(frozen=True, kw_only=True)
class Waste:
    """The searches of one side together."""

    name: str
    trials: int
    diverged: int
    """Trials that reported NaN."""
    ran_to_the_end: int
    """Diverged trials that reached their last epoch, and had diverged before it."""
    epochs: int
    epochs_after_divergence: int
    best: float
    """Mean over the searches of the best accuracy."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Epochs trained after divergence, where half of the trials diverge.")
    parser.add_argument("--seeds", type=int, default=10, help="searches of each side (default: 10)")
    parser.add_argument("--trials", type=int, default=64, help="trials of each search (default: 64)")
    arguments = parser.parse_args(argv)
    warnings.filterwarnings("ignore", "All-NaN slice encountered")  # Ray's cutoff, of a rung that has only NaN
    return run_command(lambda: _run(arguments.seeds, arguments.trials))


def _run(seeds: int, trials: int) -> int:
    sides: dict[str, Callable[[SchedulerOptions], Scheduler]] = {"Ray's ASHA": RayAsha}
    sides |= {f"ours: {name}": lambda options, name=name: build_scheduler(name, options) for name in OURS}
    return _report([measure(name, build, seeds, trials) for name, build in sides.items()])


def measure(name: str, build: Callable[[SchedulerOptions], Scheduler], seeds: int, trials: int) -> Waste:
    """Run the searches of one side."""
    searches = [_search(build, seed, trials) for seed in range(seeds)]
    found = [best_report(records, METRIC, MODE) for records in searches]
    records = [record for search in searches for record in search]
    diverged = [record for record in records if _finite_epochs(record) < record.epochs]
    return Waste(
        name=name,
        trials=len(records),
        diverged=len(diverged),
        ran_to_the_end=sum(_finite_epochs(record) + 1 < record.epochs == EPOCHS for record in diverged),
        epochs=sum(record.epochs for record in records),
        epochs_after_divergence=sum(record.epochs - _finite_epochs(record) - 1 for record in diverged),
        best=sum(report[METRIC] for _, report in filter(None, found)) / seeds,
    )


def _search(build: Callable[[SchedulerOptions], Scheduler], seed: int, trials: int) -> list[TrialRecord]:
    plan = Plan(metric=METRIC, mode=MODE, trials=trials, slots=SLOTS, max_epochs=EPOCHS)
    options = SchedulerOptions(
        metric=METRIC, mode=MODE, max_epochs=EPOCHS, grace_epochs=1, reduction_factor=3, seed=seed
    )
    curves, clock = SyntheticCurves(epochs=EPOCHS, seed=seed, nan_share=NAN_SHARE), VirtualClock()
    with tempfile.TemporaryDirectory() as folder, LedgerWriter(Path(folder) / LEDGER_NAME, clock=clock) as ledger:
        searcher = RandomSearcher(SYNTHETIC_SPACE, seed)
        return list(simulate(plan, ledger, searcher, build(options), curves, clock=clock).trials.values())


def _finite_epochs(record: TrialRecord) -> int:
    """Epochs before the first that reported NaN."""
    return next((n for n, report in enumerate(record.reports) if not is_finite(report[METRIC])), record.epochs)


def _report(wastes: Sequence[Waste]) -> int:
    table = Table("", "trials", "diverged", "of these ran on to the end", "epochs", "after divergence", "best accuracy")
    for waste in wastes:
        name, *counts, best = asdict(waste).values()
        table.add_row(name, *(str(count) for count in counts), f"{best:.3f}")
    console = Console(width=120)
    console.print(table)
    ours = sum(waste.epochs_after_divergence for waste in wastes if waste.name.startswith("ours"))
    console.print(f"epochs after divergence with ours: {ours} (asked: 0)")
    print(json.dumps({"sides": [asdict(waste) for waste in wastes], "hardware": hardware(), "versions": versions()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
