"""What a search costs beside its training: scheduler, searcher and ledger, per report.

    python benchmarks/search_cost.py --trials 100 1000 10000

Runs whole searches in the simulator, with the scheduler, the searcher and the ledger file of a real one, on curves from
a formula: 27 epochs, 64 slots, one trial in ten fails and one in ten reports NaN from some epoch on. Gives the
processor time of each part per report, all its calls counted (a searcher's draws too, which come once a trial), and for
the ledger the wall time as well, because it waits for the disk at each trial's end. What passes events on between them
(source, recorder) is counted with the simulator's own loop; making the curves is not counted. Prints a table and, as
the last line, one JSON object.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from search.experiment import hardware, versions
from search.ledger import LEDGER_NAME, LedgerWriter
from search.schedulers import Scheduler, SchedulerOptions, build_scheduler
from search.searchers import Objective, Searcher, SearcherOptions, build_searcher
from search.simulate import Plan, VirtualClock, simulate
from search.synthetic_curves import SYNTHETIC_SPACE, SyntheticCurves
from trainable.errors import run_command

EPOCHS, SLOTS = 27, 64
CURVES = SyntheticCurves(epochs=EPOCHS, failing_share=0.1, nan_share=0.1)
METRIC, MODE = "val_accuracy", "max"
SIDES = (
    ("asha", "random"),
    ("asha-promote", "random"),
    ("hyperband", "random"),
    ("median", "random"),
    ("asha", "optuna"),
)
"""Scheduler and algorithm."""
GROWING = "optuna"
"""TPE looks at all trials in each draw: 10,000 trials take half an hour."""
GROWING_TRIALS = 1000
TARGET_SECONDS = 0.005
"""What a report may cost with ASHA, at any number of trials."""


class Timed:
    """Passes calls on, and counts the seconds in them."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.cpu_seconds = 0.0
        self.wall_seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return self._timed(value) if callable(value) else value

    def __call__(self, *values: Any) -> Any:
        """Call it."""
        return self._timed(self._target)(*values)

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*values: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return call(*values, **named)
            finally:
                self.cpu_seconds += time.process_time() - cpu
                self.wall_seconds += time.perf_counter() - wall

        return timed


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One search; all times are per report, in microseconds."""

    scheduler: str
    algorithm: str
    trials: int
    reports: int
    scheduler_us: float
    searcher_us: float
    ledger_us: float
    passing_on_us: float
    """Source, recorder, and the simulator's loop."""
    ledger_wall_us: float

    @property
    def total_us(self) -> float:
        """Processor time of everything."""
        return self.scheduler_us + self.searcher_us + self.ledger_us + self.passing_on_us


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="What a search costs beside its training.")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10000], help="sizes of the searches")
    parser.add_argument("--growing-trials", type=int, default=GROWING_TRIALS, help="of TPE at most")
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    measure("asha", "random", 10)  # loads what is loaded once
    costs = [
        measure(scheduler, algorithm, trials)
        for scheduler, algorithm in SIDES
        for trials in arguments.trials
        if trials <= arguments.growing_trials or algorithm != GROWING
    ]
    return _report(costs)


def measure(scheduler: str, algorithm: str, trials: int) -> Cost:
    """Run one search."""
    plan = Plan(metric=METRIC, mode=MODE, trials=trials, slots=SLOTS, max_epochs=EPOCHS)
    options = SchedulerOptions(metric=METRIC, mode=MODE, max_epochs=EPOCHS, grace_epochs=1, reduction_factor=3)
    objective = Objective(metric=METRIC, mode=MODE)
    decides = Timed(build_scheduler(scheduler, options))
    draws = Timed(build_searcher(algorithm, SearcherOptions(space=SYNTHETIC_SPACE, objective=objective, seed=0)))
    curves, clock = Timed(CURVES), VirtualClock()
    with tempfile.TemporaryDirectory() as folder, LedgerWriter(Path(folder) / LEDGER_NAME, clock=clock) as writer:
        ledger, start = Timed(writer), time.process_time()
        simulate(
            plan,
            cast(LedgerWriter, ledger),
            cast(Searcher, draws),
            cast(Scheduler, decides),
            curves,
            clock=clock,
        )
        seconds = time.process_time() - start
        reports = sum(len(trial.reports) for trial in writer.trials.values())
    counted = decides.cpu_seconds + draws.cpu_seconds + ledger.cpu_seconds
    return Cost(
        scheduler=scheduler,
        algorithm=algorithm,
        trials=trials,
        reports=reports,
        scheduler_us=1e6 * decides.cpu_seconds / reports,
        searcher_us=1e6 * draws.cpu_seconds / reports,
        ledger_us=1e6 * ledger.cpu_seconds / reports,
        passing_on_us=1e6 * (seconds - counted - curves.cpu_seconds) / reports,
        ledger_wall_us=1e6 * ledger.wall_seconds / reports,
    )


def _report(costs: Sequence[Cost]) -> int:
    table = Table("scheduler", "searcher", "trials", "reports", title="microseconds per report")
    for title in ("scheduler", "searcher", "ledger", "passing on", "all", "ledger, wall"):
        table.add_column(title, justify="right")
    for cost in costs:
        *parts, wall = (cost.scheduler_us, cost.searcher_us, cost.ledger_us, cost.passing_on_us, cost.ledger_wall_us)
        names = (cost.scheduler, cost.algorithm, str(cost.trials), str(cost.reports))
        table.add_row(*names, *(f"{part:.1f}" for part in (*parts, cost.total_us, wall)))
    console = Console(width=120)
    console.print(table)
    worst = max(cost.total_us for cost in costs if (cost.scheduler, cost.algorithm) == ("asha", "random"))
    console.print(f"ASHA at its worst: {worst / 1000:.3f} ms per report (asked: under {1000 * TARGET_SECONDS:g} ms)")
    print(json.dumps({"costs": [asdict(cost) for cost in costs], "hardware": hardware(), "versions": versions()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
