"""What the report of a large search takes: time, memory, and the size of its page.

    python benchmarks/report_scale.py --trials 10000 --runs 3

Runs a search in the simulator, on curves from a formula that report as many numbers as a real trial does: 27 epochs,
64 slots, one trial in twenty fails and one in twenty reports NaN from some epoch on. Without a scheduler every other
trial is trained to its end, which gives the most reports; `--scheduler asha` stops most at their first rung. Then
the report is written `--runs` times, each in a process of its own that begins with `analysis.report`'s import, and once
more to look at its memory (Linux). Making the search is not counted. `--keep DIR` leaves it there, and takes it from
there the next time.

Prints a table and, as the last line, one JSON object: what was found, each run, and the largest figures of the page.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from search.experiment import hardware, versions
from search.ledger import LEDGER_NAME, LedgerWriter
from search.schedulers import SchedulerOptions, build_scheduler
from search.searchers import RandomSearcher
from search.simulate import Plan, VirtualClock, simulate
from search.synthetic_curves import SAMPLES_PER_EPOCH, SYNTHETIC_SPACE, SyntheticCurve, SyntheticCurves
from trainable.errors import ResourceError, run_command
from trainable.files import write_json

EPOCHS, SLOTS, CLASSES = 27, 64, 7
METRIC, MODE = "val_accuracy", "max"
CURVES = SyntheticCurves(epochs=EPOCHS, failing_share=0.05, nan_share=0.05)
TARGETS = {"seconds": 20.0, "peak_bytes": 2e9, "page_bytes": 15e6}
"""What a report of 10,000 trials may take."""
BETWEEN_SECONDS = 0.05
"""Between two looks at the memory."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One report."""

    seconds: float
    """From the process's start to its end, imports included."""
    cpu_seconds: float
    """The processor's, of all its processes."""
    page_bytes: int
    """Of `report.html`."""
    figures: int
    """Files in `figures/`."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="What the report of a large search takes.")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--scheduler", choices=("none", "asha"), default="none")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder in which the search is kept")
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        experiment = (arguments.keep or Path(temporary)) / f"{arguments.scheduler}-{arguments.trials}"
        if not (experiment / "experiment.json").exists():
            generate(experiment, arguments.trials, scheduler=arguments.scheduler)
        runs = [measure(experiment, Path(temporary) / "report") for _ in range(arguments.runs)]
        peak = peak_memory(experiment, Path(temporary) / "report")
        heaviest = figure_bytes(Path(temporary) / "report" / "report.html")
    return _tell(arguments, runs, peak, heaviest)


def generate(path: Path, trials: int, *, scheduler: str = "none", epochs: int = EPOCHS) -> None:
    """Write the folder of a finished search."""
    path.mkdir(parents=True, exist_ok=True)
    clock = VirtualClock()
    plan = Plan(metric=METRIC, mode=MODE, trials=trials, slots=SLOTS, max_epochs=epochs)
    options = SchedulerOptions(metric=METRIC, mode=MODE, max_epochs=epochs, grace_epochs=1, reduction_factor=3)
    with LedgerWriter(path / LEDGER_NAME, clock=clock) as ledger:
        searcher = RandomSearcher(SYNTHETIC_SPACE, seed=0)
        simulate(plan, ledger, searcher, build_scheduler(scheduler, options), _full_curve, clock=clock)
    write_json(path / "experiment.json", _manifest(path.name, trials, scheduler, epochs))


def measure(experiment: Path, out: Path) -> Written:
    """Write the report once."""
    start = time.perf_counter()
    process = _begin(experiment, out)
    try:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        process.kill()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return Written(
        seconds=seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        page_bytes=(out / "report.html").stat().st_size,
        figures=len(list((out / "figures").iterdir())),
    )


def peak_memory(experiment: Path, out: Path) -> int:
    """Write the report once more; the most bytes that its processes were seen to have together, every 50 ms.

    Shared pages count once. Raises `ResourceError` where the system does not tell.
    """
    if not (_bytes_of(os.getpid()) and Path(f"/proc/self/task/{os.getpid()}/children").exists()):
        raise ResourceError("memory can only be looked at where /proc tells of it: on Linux.")
    process, peak = _begin(experiment, out), 0
    try:
        while process.poll() is None:
            peak = max(peak, sum(map(_bytes_of, _family(process.pid))))
            time.sleep(BETWEEN_SECONDS)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return peak


def _begin(experiment: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "analysis.report", str(experiment), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []  # it has ended
    return [pid, *(one for child in children for one in _family(int(child)))]


def _bytes_of(pid: int) -> int:
    """Memory of a process, of pages that it shares with others its share (proc(5), `smaps_rollup`)."""
    try:
        found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0  # it has ended
    return 1024 * int(found[1]) if found else 0


def figure_bytes(page: Path) -> dict[str, int]:
    """Bytes of JSON of each interactive figure in a page, the largest first."""
    found = re.search(r'id="plot-data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    figures = json.loads(found[1])["figures"] if found else {}
    sizes = {name: len(json.dumps(figure)) for name, figure in figures.items()}
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def _full_curve(config: Mapping[str, Any], number: int) -> SyntheticCurve:
    """A synthetic curve with every number that a trial reports."""
    curve = CURVES(config, number)
    return SyntheticCurve([_full(report, config) for report in curve.reports], curve.failure)


def _full(report: Mapping[str, float], config: Mapping[str, Any]) -> dict[str, float]:
    accuracy = report["val_accuracy"]
    return {
        **report,
        "images_per_second": SAMPLES_PER_EPOCH / report["epoch_seconds"],
        "train_accuracy": accuracy * 1.05,
        "val_balanced_accuracy": accuracy * 0.98,
        "learning_rate_now": config["learning_rate"] * (1 - report["epoch"] / EPOCHS),
        "logit_scale_now": 2.5 + 0.01 * report["epoch"],
        "gradient_norm": 10.0 * (1.0 - accuracy),
        "predicted_classes": CLASSES,
    }


def _manifest(name: str, trials: int, scheduler: str, epochs: int) -> dict[str, Any]:
    classes = [f"class {i}" for i in range(CLASSES)]
    counts = {split: dict.fromkeys(classes, n) for split, n in (("train", 800), ("validation", 100), ("test", 100))}
    return {
        "version": 1,
        "name": name,
        "created": "2026-11-24T10:00:00+00:00",
        "command": ["glance-search", "--algo", "random", "--scheduler", scheduler, "--trials", str(trials)],
        "algorithm": "random",
        "scheduler": scheduler,
        "space": {dimension: str(domain) for dimension, domain in SYNTHETIC_SPACE.draws().items()},
        "metric": METRIC,
        "mode": MODE,
        "trials": trials,
        "max_epochs": epochs,
        "grace_epochs": 1,
        "reduction_factor": 3,
        "seed": 0,
        "dataset": {"name": "simulated", "classes": classes, "counts": counts},
        "resources": {"slots": SLOTS, "workers_per_trial": 1},
        "versions": versions(),
    }


def _tell(arguments: argparse.Namespace, runs: Sequence[Written], peak: int, heaviest: Mapping[str, int]) -> int:
    found = {
        "seconds": statistics.median(run.seconds for run in runs),
        "peak_bytes": peak,
        "page_bytes": runs[0].page_bytes,
    }
    table = Table("", "found", "asked", title=f"report of {arguments.trials:,} trials, scheduler {arguments.scheduler}")
    for name, target in TARGETS.items():
        shown = (f"{value:.1f} s" if name == "seconds" else f"{value / 1e6:,.0f} MB" for value in (found[name], target))
        table.add_row(name.replace("_", " "), *shown)
    Console(width=120).print(table)
    document = {
        "trials": arguments.trials,
        "scheduler": arguments.scheduler,
        "found": found,
        "asked": TARGETS,
        "runs": [asdict(run) for run in runs],
        "largest_figures_bytes": dict(list(heaviest.items())[:8]),
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
