"""How soon each way to search finds a good config, on recorded learning curves.

    python benchmarks/search_algorithms.py --seeds 30 --plot benchmarks/results/search-algorithms.png

Each contender searches in the simulator, with 8 slots, until a report reaches 99 % of the best accuracy in
`benchmarks/curves/fer2013.parquet`, or it has drawn `--trials` trials. A config that was not recorded has the curve of
the nearest one that was and that the search has not had yet, so that nobody is told the same curve twice, as if it were
news; `--repeat` gives it that of the nearest one, had or not. Ours run as in a search. The peers:

    Ray's ASHA         `AsyncHyperBandScheduler` decides, drawing at random as ours does
    Optuna Hyperband   Optuna's own TPE and `HyperbandPruner` in ask and tell
    Syne Tune ASHA     `ASHA` of its baselines, drawing and stopping, where `syne-tune` is installed (`search_peers.py`)

Prints medians and quartiles over the seeds of the epochs trained and of virtual time until then, where a search that
did not reach it counts as more than any that did; the expected epochs (all epochs of all searches over the number of
those that reached it: what it takes if a search that ends without it is begun again with another seed; the expected
running time of Hansen et al., arXiv 1605.03560, section 4), and how many times fewer they are than the study's; and, as
the last line, one JSON object.
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from search_peers import OptunaDraws, OptunaPruner, RayAsha, SyneTuneDraws, SyneTuneStops

from search.curves import Curves, RecordedCurve
from search.experiment import hardware, versions
from search.ledger import LedgerWriter
from search.schedulers import Scheduler, SchedulerOptions, build_scheduler
from search.searchers import Objective, Searcher, SearcherOptions, build_searcher
from search.simulate import CurveOf, Plan, SimulatedSearch, VirtualClock, simulate
from search.spaces import Space
from search.trials import Report, TrialRecord
from trainable.errors import ConfigError, run_command

METRIC, MODE = "val_accuracy", "max"
SLOTS = 8
TARGET_SHARE = 0.99
STUDY_TRIALS = 64
CURVES = Path(__file__).parent / "curves" / "fer2013.parquet"
PLAIN = "random search of 64 (the study's)"


@dataclass(frozen=True)
class Contender:
    """One way to search."""

    name: str
    build: Callable[[Space, SchedulerOptions], tuple[Searcher, Scheduler]]
    trials: int | None = None
    """How many it may draw, where that is not what was asked."""


def _ours(algorithm: str, scheduler: str) -> Callable[[Space, SchedulerOptions], tuple[Searcher, Scheduler]]:
    def build(space: Space, options: SchedulerOptions) -> tuple[Searcher, Scheduler]:
        asked = SearcherOptions(space=space, objective=Objective(metric=METRIC, mode=MODE), seed=options.seed)
        return build_searcher(algorithm, asked), build_scheduler(scheduler, options)

    return build


def _ray_asha(space: Space, options: SchedulerOptions) -> tuple[Searcher, Scheduler]:
    return _ours("random", "none")(space, options)[0], RayAsha(options)


def _optuna_hyperband(space: Space, options: SchedulerOptions) -> tuple[Searcher, Scheduler]:
    draws = OptunaDraws(space, options)
    return draws, OptunaPruner(draws)


def _syne_tune_asha(space: Space, options: SchedulerOptions) -> tuple[Searcher, Scheduler]:
    draws = SyneTuneDraws(space, options)
    return draws, SyneTuneStops(draws, options)


CONTENDERS = (
    Contender(PLAIN, _ours("random", "none"), STUDY_TRIALS),
    Contender("random search", _ours("random", "none")),
    Contender("Ray's ASHA", _ray_asha),
    Contender("ASHA, stopping", _ours("random", "asha")),
    Contender("ASHA, promoting", _ours("random", "asha-promote")),
    Contender("Hyperband", _ours("random", "hyperband")),
    Contender("median rule", _ours("random", "median")),
    Contender("Optuna TPE", _ours("optuna", "none")),
    Contender("Optuna TPE, ASHA stopping", _ours("optuna", "asha")),
    Contender("Optuna TPE, ASHA promoting", _ours("optuna", "asha-promote")),
    Contender("Optuna Hyperband", _optuna_hyperband),
    Contender("HyperOpt TPE", _ours("hyperopt", "none")),
    Contender("HyperOpt TPE, ASHA stopping", _ours("hyperopt", "asha")),
    *([Contender("Syne Tune ASHA", _syne_tune_asha)] if find_spec("syne_tune") else []),
)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="How soon each way to search finds a good config.")
    parser.add_argument("--curves", type=Path, default=CURVES, help="recorded curves (default: those of FER-2013)")
    parser.add_argument("--seeds", type=int, default=30, help="searches of each kind (default: 30)")
    parser.add_argument("--trials", type=int, help="trials of a search at most (default: as many as curves)")
    parser.add_argument("--grace-epochs", type=int, default=1, help="of every scheduler with rungs (default: 1)")
    parser.add_argument("--reduction-factor", type=int, default=3, help="of every scheduler with rungs (default: 3)")
    parser.add_argument("--repeat", action="store_true", help="let a search have a recorded curve several times")
    parser.add_argument("--only", help="contenders whose name holds this")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="searches side by side (default: CPUs)")
    parser.add_argument("--plot", type=Path, help="where to draw the table, as PNG")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    curves = Curves.load(arguments.curves)
    trials = arguments.trials or len(curves.recorded)
    if trials > len(curves.recorded) and not arguments.repeat:
        raise ConfigError(
            f"--trials must be at most the number of curves, {len(curves.recorded)}, but got {trials}: use --repeat."
        )
    target = TARGET_SHARE * best_value(curves)
    console = Console(width=150)
    reaching = sum(max(_values(curve.reports), default=0.0) >= target for curve in curves.recorded)
    console.print(
        f"{len(curves.recorded)} curves, {reaching} reach {target:.4f}, {TARGET_SHARE:.0%} of the best; "
        f"{SLOTS} slots, {arguments.seeds} seeds, grace {arguments.grace_epochs}, "
        f"reduction factor {arguments.reduction_factor}"
    )
    names = [contender.name for contender in CONTENDERS if (arguments.only or "") in contender.name]
    costs = _costs(names, arguments, _task(arguments, target, trials))
    console.print(_table(costs))
    if arguments.plot is not None:
        _plot(costs, arguments.plot)
    figures = {name: [asdict(cost) for cost in of_seeds] for name, of_seeds in costs.items()}
    setup = {"curves": len(curves.recorded), "target": target, "slots": SLOTS, "trials": trials}
    setup |= {"grace_epochs": arguments.grace_epochs, "reduction_factor": arguments.reduction_factor}
    setup |= {"repeat": arguments.repeat, "recording": curves.metadata}
    print(json.dumps({"setup": setup, "costs": figures, "hardware": hardware(), "versions": versions()}))
    return 0


@dataclass(frozen=True)
class Task:
    """What every search is for."""

    curves: Path
    target: float
    """The accuracy that it must report."""
    trials: int
    """At most."""
    repeat: bool
    """Whether a recorded curve may come again."""
    grace_epochs: int
    reduction_factor: int


def _task(arguments: argparse.Namespace, target: float, trials: int) -> Task:
    rungs = (arguments.grace_epochs, arguments.reduction_factor)
    return Task(arguments.curves, target, trials, arguments.repeat, *rungs)


def _costs(names: Sequence[str], arguments: argparse.Namespace, task: Task) -> dict[str, list["Cost"]]:
    """What each contender's searches cost, by name; a pool of processes runs them."""
    searches = [(name, seed) for name in names for seed in range(arguments.seeds)]
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    with ProcessPoolExecutor(arguments.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for (name, _), cost in zip(searches, pool.map(_cost, [task] * len(searches), searches), strict=True):
            costs[name].append(cost)
    return costs


def _cost(task: Task, search: tuple[str, int]) -> "Cost":
    name, seed = search
    contender = next(contender for contender in CONTENDERS if contender.name == name)
    return reach(_curves(task.curves), contender, seed, task)


@cache
def _curves(path: Path) -> Curves:
    return Curves.load(path)


class OnceEach:
    """The recorded curve nearest to a trial's config of those that no trial before it had; `repeat`: of all."""

    def __init__(self, curves: Curves, *, repeat: bool) -> None:
        self._curves = curves
        self._repeat = repeat
        self._given: dict[int, int] = {}

    def __call__(self, config: Mapping[str, Any], number: int) -> RecordedCurve:
        """The curve of a trial, the same whenever it is asked for."""
        if number not in self._given:
            had = set() if self._repeat else set(self._given.values())
            self._given[number] = next(place for place in self._curves.order(config) if place not in had)
        return self._curves.recorded[self._given[number]]


@dataclass(frozen=True)
class Cost:
    """What a search spent until it reached the target; all of it where it did not."""

    reached: bool
    epochs: int
    seconds: float
    """Virtual time."""
    trials: int

    @property
    def counted(self) -> tuple[float, float]:
        """Epochs and seconds; infinite where the target was not reached."""
        return (self.epochs, self.seconds) if self.reached else (math.inf, math.inf)


def best_value(curves: Curves) -> float:
    """The best value of any epoch of any curve."""
    return max(value for curve in curves.recorded for value in _values(curve.reports))


def reach(curves: Curves, contender: Contender, seed: int, task: Task) -> Cost:
    """Search until a report reaches the target."""
    max_epochs = max(len(curve.reports) for curve in curves.recorded)
    options = SchedulerOptions(
        metric=METRIC,
        mode=MODE,
        max_epochs=max_epochs,
        grace_epochs=task.grace_epochs,
        reduction_factor=task.reduction_factor,
        seed=seed,
    )
    searcher, scheduler = contender.build(curves.space, options)
    plan = Plan(
        metric=METRIC,
        mode=MODE,
        trials=min(contender.trials or task.trials, task.trials),
        slots=SLOTS,
        max_epochs=max_epochs,
    )
    curve_of = OnceEach(curves, repeat=task.repeat)
    result = _simulated(plan, searcher, scheduler, curve_of, lambda trial, report: report[METRIC] >= task.target)
    reached = bool(result.best) and result.best[-1].value >= task.target
    return Cost(reached, result.epochs, result.seconds, len(result.trials))


def _simulated(
    plan: Plan,
    searcher: Searcher,
    scheduler: Scheduler,
    curve_of: CurveOf,
    until: Callable[[TrialRecord, Report], bool],
) -> SimulatedSearch:
    clock = VirtualClock()
    with (
        tempfile.TemporaryDirectory() as folder,
        LedgerWriter(Path(folder) / "ledger.jsonl", clock=clock) as ledger,
    ):
        return simulate(
            plan,
            ledger,
            searcher,
            scheduler,
            curve_of,
            clock=clock,
            until=until,
        )


def _values(reports: Sequence[Mapping[str, Any]]) -> list[float]:
    return [report[METRIC] for report in reports if report.get(METRIC) is not None]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile; of two values in the middle the smaller, so that inf stays inf."""
    low, middle, high = np.quantile(np.asarray(values), (0.25, 0.5, 0.75), method="inverted_cdf")
    return float(low), float(middle), float(high)


def expected_epochs(costs: Sequence[Cost]) -> float:
    """The epochs that reaching the target takes on average, searches that end without it begun anew; maybe infinite."""
    reached = sum(cost.reached for cost in costs)
    return sum(cost.epochs for cost in costs) / reached if reached else math.inf


def _table(costs: Mapping[str, Sequence[Cost]]) -> Table:
    table = Table("", "reached", "epochs: median (quartiles)", "virtual seconds", "expected epochs", "of the study's")
    study = expected_epochs(costs[PLAIN]) if PLAIN in costs else math.inf
    for name, of_seeds in costs.items():
        epochs = quartiles([cost.counted[0] for cost in of_seeds])
        seconds = quartiles([cost.counted[1] for cost in of_seeds])
        expected = expected_epochs(of_seeds)
        share = f"1/{study / expected:.1f}" if math.isfinite(study) and math.isfinite(expected) else ""
        reached = f"{sum(cost.reached for cost in of_seeds)}/{len(of_seeds)}"
        table.add_row(name, reached, _spread(epochs), _spread(seconds), f"{expected:,.0f}", share)
    return table


def _spread(values: tuple[float, float, float]) -> str:
    low, middle, high = (f"{value:,.0f}" if math.isfinite(value) else "never" for value in values)
    return f"{middle} ({low} to {high})"


def _plot(costs: Mapping[str, Sequence[Cost]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.42 * len(costs) + 1.4), layout="constrained")
    cap = max(cost.epochs for of_seeds in costs.values() for cost in of_seeds)
    for row, of_seeds in enumerate(costs.values()):
        reached = sorted(cost.epochs for cost in of_seeds if cost.reached)
        low, middle, high = (min(value, cap) for value in quartiles([cost.counted[0] for cost in of_seeds]))
        axes.scatter(reached, [row] * len(reached), s=9, color="#9aa3ad", linewidths=0, zorder=2)
        axes.plot([low, high], [row, row], color="#1f5fa8", linewidth=5, solid_capstyle="butt", zorder=3)
        axes.scatter([middle], [row], s=46, color="white", edgecolors="#1f5fa8", linewidths=2, zorder=4)
    axes.set_yticks(range(len(costs)), list(costs))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"epochs trained until {TARGET_SHARE:.0%} of the best accuracy: median, quartiles, and each seed")
    axes.grid(axis="x", which="both", color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
