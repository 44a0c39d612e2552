"""How many reports per second one driver takes, by the number of slots that report to it.

    python benchmarks/driver_rate.py --slots 1 8 32

A search without training: slots of the kind that Tune keeps warm report an epoch as soon as they are asked for one, and
everything on the driver's side is the search's own, under Ray Tune: source, ASHA, recorder, ledger. So the driver is
never idle, and the rate is the most that it can take. All slots share this machine's processors with the driver, so the
driver's own processor time per report stands beside the rate. Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console
from rich.table import Table

from search.driver import TUNE_SETTINGS
from search.experiment import hardware, versions
from search.ledger import LEDGER_NAME, LedgerWriter
from search.quiet import Quiet
from search.recorder import Recorder
from search.schedulers import SchedulerOptions, build_scheduler
from search.searchers import RandomSearcher
from search.source import TrialSource
from search.synthetic_curves import SYNTHETIC_SPACE, SyntheticCurves
from search.tune_adapters import RecordingCallback, SearchStopper, TuneScheduler, TuneSearcher
from trainable.config import TrialConfig
from trainable.errors import run_command

METRIC, MODE, EPOCHS = "val_accuracy", "max", 27
CURVES = SyntheticCurves(epochs=EPOCHS)


class InstantSlot(tune.Trainable):
    """A slot whose epochs take no time: reads each report off a curve."""

    def setup(self, config: dict[str, Any]) -> None:
        """As little as can be."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._reports = iter(CURVES(new_config["config"], int(new_config["trial_id"].rpartition("_")[2])).reports)
        return True

    def step(self) -> dict[str, Any]:
        """The next report, as a slot returns it."""
        report = dict(next(self._reports))
        return {"report": report, "done": report["epoch"] >= EPOCHS, "epoch": report["epoch"], METRIC: report[METRIC]}

    def describe(self) -> dict[str, Any]:
        """Where this slot runs."""
        return {"node": os.uname().nodename, "pid": os.getpid(), "retire_reason": None}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to keep."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One search."""

    slots: int
    trials: int
    reports: int
    seconds: float
    """From the first report to the last."""
    driver_seconds: float
    """Processor time of the driver's process between the two."""

    @property
    def reports_per_second(self) -> float:
        """At this number of slots."""
        return self.reports / self.seconds

    @property
    def driver_ms_per_report(self) -> float:
        """Processor time of the driver."""
        return 1000 * self.driver_seconds / self.reports


class Clock(tune.Callback):
    """Notes when the first and the last report came."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        """Note the time on the wall and of the processor."""
        now = (time.perf_counter(), time.process_time())
        self.seen = [*self.seen[:1], now]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="How many reports per second one driver takes.")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8, 32], help="slots of each search")
    parser.add_argument("--trials", type=int, default=400, help="trials of each search (default: 400)")
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    import ray

    os.environ.update(TUNE_SETTINGS)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as name, Quiet(Path(name)):
        ray.init(num_cpus=max(arguments.slots), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        rates = [measure(Path(name) / str(slots), slots, arguments.trials) for slots in arguments.slots]
        ray.shutdown()
    return _report(rates)


def measure(folder: Path, slots: int, trials: int) -> Rate:
    """Run one search of `trials` in `slots` that train nothing."""
    folder.mkdir()
    clock = Clock()
    options = SchedulerOptions(metric=METRIC, mode=MODE, max_epochs=EPOCHS, grace_epochs=1, reduction_factor=3)
    with LedgerWriter(folder / LEDGER_NAME) as ledger:
        recorder = Recorder(ledger, [], retained=lambda trial: None, trials=trials)
        source = TrialSource(
            RandomSearcher(SYNTHETIC_SPACE, 0),
            build_scheduler("asha", options),
            recorder,
            TrialConfig(max_epochs=EPOCHS),
            metric=METRIC,
            trials=trials,
        )
        ledger.search_started()
        _search(source, recorder, clock, folder, slots)
        reports = sum(trial.epochs for trial in recorder.trials.values())
    (start, start_cpu), (end, end_cpu) = clock.seen
    return Rate(slots=slots, trials=trials, reports=reports, seconds=end - start, driver_seconds=end_cpu - start_cpu)


def _search(source: TrialSource, recorder: Recorder, clock: Clock, folder: Path, slots: int) -> None:
    """What `search.driver.run_trials` does, with slots that train nothing."""
    scheduler = TuneScheduler(source, METRIC)
    tune.Tuner(
        tune.with_resources(InstantSlot, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=TuneSearcher(source, metric=METRIC, mode=MODE),
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=slots,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            stop=SearchStopper(recorder),
            callbacks=[RecordingCallback(source, scheduler, recorder, lambda: None), clock],
            verbose=0,
        ),
    ).fit()


def _report(rates: list[Rate]) -> int:
    table = Table("slots", "trials", "reports", "reports/s", "driver's processor time per report [ms]")
    for rate in rates:
        table.add_row(
            f"{rate.slots}",
            f"{rate.trials}",
            f"{rate.reports:,}",
            f"{rate.reports_per_second:.0f}",
            f"{rate.driver_ms_per_report:.1f}",
        )
    Console().print(table)
    figures = [
        {**asdict(rate), "reports_per_second": rate.reports_per_second, "driver_ms": rate.driver_ms_per_report}
        for rate in rates
    ]
    print(json.dumps({"rates": figures, "hardware": hardware(), "versions": versions()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
