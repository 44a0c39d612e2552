"""How many reports per second one driver takes, by the number of slots that report to it.

    python benchmarks/driver_rate.py --slots 1 8 64 1000
    python benchmarks/driver_rate.py --slots 1000 --epoch-seconds 20

A search without training: everything on the driver's side is the search's own, under Ray Tune: source, ASHA, recorder,
ledger, event files. The slots live together in one process, which answers for each as soon as its epoch of
`--epoch-seconds` is over, so that 1,000 of them fit on a laptop; what Ray does to start and place a process for each
is not measured. With epochs of 0 s the driver is never idle, and the rate is the most that it can take. It shares the
machine's processors with the slots, so the driver's own processor time per report stands beside the rate. Prints a
table and, as the last line, one JSON object.
"""

import argparse
import asyncio
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

import ray
from ray import tune
from ray.air.execution.resources.fixed import FixedAcquiredResources, FixedResourceManager
from ray.tune.execution import tune_controller
from rich.console import Console
from rich.table import Table

from search.driver import build_tuner, scheduler_options
from search.event_files import EventFiles
from search.experiment import hardware, versions
from search.ledger import LEDGER_NAME, LedgerWriter
from search.options import SearchOptions
from search.quiet import Quiet
from search.recorder import Recorder
from search.schedulers import build_scheduler
from search.searchers import RandomSearcher
from search.source import TrialSource
from search.synthetic_curves import SYNTHETIC_SPACE, SyntheticCurves
from trainable.config import TrialConfig
from trainable.errors import run_command

EPOCHS = 27
CURVES = SyntheticCurves(epochs=EPOCHS)
METRIC = "val_accuracy"
CALLS = 4096
"""Calls that the slots' process answers at one time."""


class CurveSlot(tune.Trainable):
    """A slot that trains nothing: reads each report off a curve."""

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


class SlotHost:
    """The process of all slots."""

    def __init__(self, epoch_seconds: float) -> None:
        self._epoch_seconds = epoch_seconds
        self._slots: dict[int, CurveSlot] = {}

    async def call(self, number: int, name: str, *values: Any, **named: Any) -> Any:
        """Call a method of one slot."""
        if name in ("__ray_ready__", "__ray_terminate__"):
            return True
        if name == "train":
            await asyncio.sleep(self._epoch_seconds)
        return getattr(self._slots[number], name)(*values, **named)

    async def begin(self, number: int, named: dict[str, Any]) -> None:
        """Make a slot."""
        self._slots[number] = CurveSlot(**named)


class HostedSlot:
    """What Tune takes for a slot's actor."""

    def __init__(self, host: Any, number: int) -> None:
        self._host, self._number = host, number

    def __getattr__(self, name: str) -> "HostedCall":
        return HostedCall(self._host, self._number, name)


@dataclass(frozen=True)
class HostedCall:
    """A method of such an actor."""

    host: Any
    number: int
    name: str

    def remote(self, *values: Any, **named: Any) -> Any:
        """Call it."""
        return self.host.call.remote(self.number, self.name, *values, **named)


class HostedActorClass:
    """What Tune takes for the class of a slot's actor."""

    host: Any = None
    slots = 0

    @classmethod
    def remote(cls, **named: Any) -> HostedSlot:
        """Start a slot."""
        cls.slots += 1
        cls.host.begin.remote(cls.slots, named)
        return HostedSlot(cls.host, cls.slots)


class HostedResources(FixedAcquiredResources):
    """Gives each actor that Tune starts a place in the host."""

    def annotate_remote_entities(self, entities: list[Any]) -> list[Any]:
        """Nothing is placed."""
        return [HostedActorClass for _ in entities]


class HostedPlaces(FixedResourceManager):
    """Stands in for Tune's placement groups. There is always room: Tune asks for no more slots than there may be."""

    _resource_cls = HostedResources  # type: ignore[assignment]

    def has_resources_ready(self, resource_request: Any) -> bool:
        """Whether such a place was asked for; counting those that are taken would cost more than all else."""
        return resource_request in self._requested_resources


@contextmanager
def hosted(epoch_seconds: float) -> Iterator[None]:
    """While it lasts, Tune's slots live in one process."""
    before = tune_controller.PlacementGroupResourceManager
    HostedActorClass.host = ray.remote(SlotHost).options(num_cpus=0, max_concurrency=CALLS).remote(epoch_seconds)
    tune_controller.PlacementGroupResourceManager = HostedPlaces  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        tune_controller.PlacementGroupResourceManager = before  # type: ignore[misc]
        ray.kill(HostedActorClass.host)


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
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8, 64, 1000], help="slots of each search")
    parser.add_argument("--trials", type=int, default=400, help="trials of each search, at least two per slot")
    parser.add_argument("--epoch-seconds", type=float, default=0.0, help="how long an epoch takes (default: 0)")
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as name, Quiet(Path(name)):
        ray.init(num_cpus=max(arguments.slots), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        rates = []
        for slots in arguments.slots:
            with hosted(arguments.epoch_seconds):
                rates.append(measure(Path(name) / str(slots), slots, max(arguments.trials, 2 * slots)))
        ray.shutdown()
    return _report(rates)


def measure(folder: Path, slots: int, trials: int) -> Rate:
    """Run one search of `trials` in `slots` that train nothing."""
    folder.mkdir()
    clock = Clock()
    options = SearchOptions(trials=trials, max_epochs=EPOCHS, metric=METRIC)
    with (
        LedgerWriter(folder / LEDGER_NAME) as ledger,
        EventFiles(folder / "tensorboard", SYNTHETIC_SPACE, METRIC) as events,
    ):
        recorder = Recorder(ledger, [events], retained=lambda trial: None, trials=trials)
        source = TrialSource(
            RandomSearcher(SYNTHETIC_SPACE, 0),
            build_scheduler("asha", scheduler_options(options, SYNTHETIC_SPACE)),
            recorder,
            TrialConfig(max_epochs=EPOCHS),
            metric=METRIC,
            trials=trials,
        )
        ledger.search_started()
        slot = tune.with_resources(CurveSlot, {"cpu": 1})
        build_tuner(
            slot, source, recorder, options, slots=slots, folder=folder, tick=lambda: None, callbacks=[clock]
        ).fit()
        reports = sum(trial.epochs for trial in recorder.trials.values())
    (start, start_cpu), (end, end_cpu) = clock.seen
    return Rate(slots=slots, trials=trials, reports=reports, seconds=end - start, driver_seconds=end_cpu - start_cpu)


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
