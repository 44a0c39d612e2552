"""The figures of docs/scale.md: what a search in 1,000 slots asks of its driver, its ledger, and its bucket.

    OMP_NUM_THREADS=1 python benchmarks/scale.py

    searches      whole searches in the simulator: how many reports come, and what they take of the disk and of memory
    files         event files, optuna-dashboard's study and the mirror of such a search, on this machine's disk
    checkpoints   written by the training core for the built-in towers; for larger ones the same bytes per parameter
    requests      what those checkpoints are to S3, by arithmetic
    upload        processor time that boto3 takes for an upload, to a server that throws everything away

What a report costs the driver with Ray Tune around it is measured by driver_rate.py. Prints tables and, as the last
line, one JSON object.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from search.event_files import EventFiles
from search.experiment import hardware, versions
from search.ledger import LEDGER_NAME, LedgerWriter, read_trials
from search.schedulers import SchedulerOptions, build_scheduler
from search.searchers import Objective, RandomSearcher, SearcherOptions
from search.simulate import Plan, VirtualClock, simulate
from search.study_file import StudyFile
from search.synthetic_curves import SYNTHETIC_SPACE, SyntheticCurve, SyntheticCurves
from search.trials import TrialRecord
from trainable.config import TrialConfig
from trainable.errors import run_command
from trainable.model.dual_encoder import build_dual_encoder
from trainable.storage.mirror import Mirror
from trainable.storage.s3 import PART_BYTES, S3Storage
from trainable.storage.storage import Storage
from trainable.storage.uploader import Job, Uploader
from trainable.training.checkpoint import FILE_NAME, optimizer_tensors, write_checkpoint
from trainable.training.trainer import build_optimizer

METRIC, MODE, EPOCHS = "val_accuracy", "max", 27
GPUS_PER_NODE = 8
WEIGHT_BYTES, STATE_BYTES = 4, 12
"""Of one parameter: its weight in float32; with it, both moments of AdamW."""
UPLOADED_BYTES = 1 << 29
CURVES = SyntheticCurves(epochs=EPOCHS, failing_share=0.02, nan_share=0.05)
MEAN_SECONDS = 10.0
"""An epoch of `CURVES`, on the average."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One search."""

    scheduler: str
    slots: int
    trials: int
    epoch_seconds: float
    hours: float
    reports: int
    reports_per_second: float
    peak_per_second: float
    """In the fullest ten seconds."""
    busy: float
    """Share of the slots' time in which they trained."""
    best_share: float
    """Share of the epochs that were the best of their trial so far."""
    ledger_bytes_per_report: float
    memory_bytes_per_report: float
    """Of the driver: trials and their reports stay in memory."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """What a search of that size has on the driver's disk, and what looking after it costs."""

    trials: int
    threads: int
    """Of the driver, one per open event file among them."""
    event_ms_per_report: float
    study_ms_per_report: float
    """Of the driver's processor time, in a thread beside the search: the study for optuna-dashboard."""
    study_bytes_per_report: float
    """Of `study.log`, a trial's draw and end counted with its reports."""
    look_ms: float
    """The mirror's look at all files, where nothing changed."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a trial of some towers writes."""

    towers: str
    parameters: int
    checkpoint_bytes: int
    weights_bytes: int
    measured: bool


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What S3 gets from all slots together."""

    towers: str
    epoch_seconds: float
    puts_per_second: float
    """Every request of the kind that S3 counts so: PUT, POST (parts of an object, DELETE of many)."""
    gigabytes_per_second: float
    node_megabytes_per_second: float


class SlowCurves:
    """`CURVES` with longer epochs."""

    def __init__(self, epoch_seconds: float) -> None:
        self._factor = epoch_seconds / MEAN_SECONDS

    def __call__(self, config: Mapping[str, Any], number: int) -> SyntheticCurve:
        """The curve of a trial."""
        curve = CURVES(config, number)
        reports = [{**report, "epoch_seconds": self._factor * report["epoch_seconds"]} for report in curve.reports]
        return replace(curve, reports=reports)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="What a search in many slots asks of its driver and its bucket.")
    parser.add_argument("--slots", type=int, default=1000, help="GPUs, one trial on each (default: 1000)")
    parser.add_argument("--trials", type=int, default=10_000, help="trials of the search (default: 10000)")
    parser.add_argument("--epoch-seconds", type=float, nargs="+", default=[60.0, 600.0], help="how long an epoch takes")
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    seconds = arguments.epoch_seconds
    load, trials = search("asha", arguments, seconds[0])
    others = [*(("asha", each) for each in seconds[1:]), ("asha-promote", seconds[0])]
    loads = [load, *(search(name, arguments, each)[0] for name, each in others)]
    files = look_after(trials, arguments.slots)
    checkpoints = [*measured_checkpoints(), large_checkpoint()]
    requests = [requests_of(each, arguments.slots, load.best_share, one) for each in checkpoints for one in seconds]
    upload = upload_seconds_per_gigabyte()
    return _report(loads, files, checkpoints, requests, upload)


def search(scheduler: str, arguments: argparse.Namespace, epoch_seconds: float) -> tuple[Load, list[TrialRecord]]:
    """A whole search in the simulator."""
    clock = VirtualClock()
    options = SchedulerOptions(metric=METRIC, mode=MODE, max_epochs=EPOCHS, grace_epochs=1, reduction_factor=3)
    plan = Plan(metric=METRIC, mode=MODE, trials=arguments.trials, slots=arguments.slots, max_epochs=EPOCHS)
    with tempfile.TemporaryDirectory() as folder, LedgerWriter(Path(folder) / LEDGER_NAME, clock=clock) as ledger:
        searcher = RandomSearcher(SYNTHETIC_SPACE, 0)
        curves = SlowCurves(epoch_seconds)
        result = simulate(plan, ledger, searcher, build_scheduler(scheduler, options), curves, clock=clock)
        memory, ledger_bytes = _memory_of(ledger.path.parent), ledger.path.stat().st_size
    trials = list(result.trials.values())
    times = np.sort([report["time"] for trial in trials for report in trial.reports])
    trained = sum(report["epoch_seconds"] for trial in trials for report in trial.reports)
    return Load(
        scheduler=scheduler,
        slots=arguments.slots,
        trials=arguments.trials,
        epoch_seconds=epoch_seconds,
        hours=result.seconds / 3600,
        reports=len(times),
        reports_per_second=len(times) / result.seconds,
        peak_per_second=float(np.histogram(times, bins=np.arange(0, times[-1] + 10, 10))[0].max() / 10),
        busy=trained / (arguments.slots * result.seconds),
        best_share=sum(map(_improvements, trials)) / len(times),
        ledger_bytes_per_report=ledger_bytes / len(times),
        memory_bytes_per_report=memory / len(times),
    ), trials


def _improvements(trial: TrialRecord) -> int:
    """How many of a trial's reports were the best so far."""
    values = [report[METRIC] for report in trial.reports if report[METRIC] is not None]
    return sum(value > max(values[:place], default=-np.inf) for place, value in enumerate(values))


def _memory_of(experiment: Path) -> int:
    """Bytes that the trials of an experiment take in memory, read from its ledger."""
    tracemalloc.start()
    trials = read_trials(experiment)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size if trials else 0


class NoUploads:
    """An uploader that does nothing, so that looking alone is measured."""

    def submit(self, key: str, job: Job, *, first: bool = False) -> None:
        """Forget it."""


def look_after(trials: Sequence[TrialRecord], running: int) -> Files:
    """Write the event files of all trials, of which so many still run, and look at them as the mirror does."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with EventFiles(folder / "tensorboard", SYNTHETIC_SPACE, METRIC) as events:
            began = time.process_time()
            for trial in trials[:-running]:
                _write(events, trial)
                events.ended(trial)
            for trial in trials[-running:]:
                _write(events, trial)
            seconds = time.process_time() - began
            threads = len(list(Path("/proc/self/task").iterdir()))
            look = _look_seconds(folder)
    reports = sum(len(trial.reports) for trial in trials)
    study_seconds, study_bytes = _study(trials)
    return Files(
        trials=len(trials),
        threads=threads,
        event_ms_per_report=1000 * seconds / reports,
        study_ms_per_report=1000 * study_seconds / reports,
        study_bytes_per_report=study_bytes / reports,
        look_ms=1000 * look,
    )


def _write(events: EventFiles, trial: TrialRecord) -> None:
    events.started(trial)
    for report in trial.reports:
        events.reported(trial, report)


def _study(trials: Sequence[TrialRecord]) -> tuple[float, int]:
    """Seconds of processor time for the study of a search that something else draws, and the bytes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.log"
        objective = Objective(metric=METRIC, mode=MODE)
        study = StudyFile(SearcherOptions(space=SYNTHETIC_SPACE, objective=objective, seed=0, journal=path), ())
        began = time.process_time()
        for trial in trials:
            study.started(replace(trial, state="RUNNING", reports=[], ended_time=None))
            for report in trial.reports:
                study.reported(trial, report)
            study.ended(trial)
        return time.process_time() - began, path.stat().st_size


def _look_seconds(folder: Path) -> float:
    """The second look at all files, when nothing has changed."""
    mirror = Mirror(cast(Storage, None), "experiment", folder, cast(Uploader, NoUploads()))
    mirror.look(everything=True)
    began = time.process_time()
    mirror.look(everything=True)
    return time.process_time() - began


def measured_checkpoints() -> Iterable[Checkpoint]:
    """The built-in towers after one step of AdamW."""
    for tower in ("resnet-tiny", "vit-tiny"):
        config = TrialConfig(image_tower=tower)
        model = build_dual_encoder(config, image_size=48, channels=1, mean=0.5, std=0.25, classes=7)
        optimizer = build_optimizer(model, config)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        weights = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder), weights | optimizer_tensors(model, optimizer), {})
            size = (Path(folder) / FILE_NAME).stat().st_size
        yield Checkpoint(
            towers=f"{tower} + {config.text_tower}",
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            checkpoint_bytes=size,
            weights_bytes=sum(tensor.numel() * tensor.element_size() for tensor in weights.values()),
            measured=True,
        )


def large_checkpoint() -> Checkpoint:
    """ViT-B/16 and BERT-base, as transformers' configurations are by default; nothing is allocated."""
    with torch.device("meta"):
        towers = (ViTModel(ViTConfig(), add_pooling_layer=False), BertModel(BertConfig(), add_pooling_layer=False))
    parameters = sum(parameter.numel() for tower in towers for parameter in tower.parameters())
    return Checkpoint(
        towers="ViT-B/16 + BERT-base",
        parameters=parameters,
        checkpoint_bytes=STATE_BYTES * parameters,
        weights_bytes=WEIGHT_BYTES * parameters,
        measured=False,
    )


def requests_of(checkpoint: Checkpoint, slots: int, best_share: float, epoch_seconds: float) -> Requests:
    """An epoch is a checkpoint, `state.json` and a DELETE of what was before, and sometimes the best weights."""
    last, best = _puts(checkpoint.checkpoint_bytes), _puts(checkpoint.weights_bytes)
    per_second = slots / epoch_seconds
    bytes_per_second = per_second * (checkpoint.checkpoint_bytes + best_share * checkpoint.weights_bytes)
    return Requests(
        towers=checkpoint.towers,
        epoch_seconds=epoch_seconds,
        puts_per_second=per_second * (last + 2 + best_share * best),
        gigabytes_per_second=bytes_per_second / 1e9,
        node_megabytes_per_second=bytes_per_second / slots * GPUS_PER_NODE / 1e6,
    )


def _puts(size: int) -> int:
    """Requests for one object: one, or its parts with a begin and an end."""
    return 1 if size < PART_BYTES else -(-size // PART_BYTES) + 2


class Sink(BaseHTTPRequestHandler):
    """As much of S3 as an upload in parts needs; throws it away."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """Take an object or a part."""
        self._swallow()
        self._answer("")

    def do_POST(self) -> None:
        """Begin or end an upload in parts."""
        self._swallow()
        name = "InitiateMultipartUploadResult" if "uploads" in self.path else "CompleteMultipartUploadResult"
        self._answer(f"<{name}><UploadId>1</UploadId><ETag>1</ETag></{name}>")

    def _swallow(self) -> None:
        left = int(self.headers.get("Content-Length", 0))
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 20)))

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *values: Any) -> None:
        """Say nothing."""


@contextmanager
def sink() -> Iterator[str]:
    """The address of a server, in a process of its own, that throws away what it gets."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        process.kill()
        process.join()
        server.server_close()


def upload_seconds_per_gigabyte() -> float:
    """Processor time of the uploading process."""
    with sink() as address, tempfile.TemporaryDirectory() as folder:
        os.environ.update(AWS_ENDPOINT_URL=address, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
        path = Path(folder) / FILE_NAME
        path.write_bytes(os.urandom(1 << 20) * (UPLOADED_BYTES >> 20))
        storage = S3Storage("s3://bucket/experiment")
        storage.put_file("warm", path)
        began = time.process_time()
        storage.put_file("last", path)
        return (time.process_time() - began) / (UPLOADED_BYTES / 1e9)


def _report(
    loads: list[Load], files: Files, checkpoints: list[Checkpoint], requests: list[Requests], upload: float
) -> int:
    console = Console(width=140)
    for title, rows in (("searches", loads), ("files", [files]), ("checkpoints", checkpoints), ("requests", requests)):
        console.print(_table(title, [asdict(row) for row in cast(list[Any], rows)]))
    console.print(f"upload: {upload:.2f} s of processor time per gigabyte")
    figures = {
        "searches": [asdict(load) for load in loads],
        "files": asdict(files),
        "checkpoints": [asdict(checkpoint) for checkpoint in checkpoints],
        "requests": [asdict(each) for each in requests],
        "upload_seconds_per_gigabyte": upload,
    }
    print(json.dumps({**figures, "hardware": hardware(), "versions": versions()}))
    return 0


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(*(name.replace("_", " ") for name in rows[0]), title=title)
    for row in rows:
        table.add_row(*(f"{value:,.3g}" if isinstance(value, float) else f"{value}" for value in row.values()))
    return table


if __name__ == "__main__":
    sys.exit(main())
