"""Records the learning curves of many configs on FER-2013, to be replayed by `search.curves` in place of training.

    nice -n 10 python benchmarks/record_curves.py --data-path PATH --processes 2

Config number n is the n-th random draw of the space `study` with seed 0, and n is also the seed of its training: 27
epochs of 1,024 images (24 pixels wide) of the whole training split, each validated on the same 1,050 images, as many of
every class as there are, up to an equal share (the rarest, disgust, has fewer). Everything else is `TrialConfig`'s
default. Each process trains on one thread, and `epoch_seconds` is processor time: what an epoch lasts on a core of its
own, whatever else the machine does.

Every finished config goes to `--parts` at once, so the recording can be stopped at any time (Ctrl-C, kill) and goes on
when it is started again. At its end, and at any time by `--collect`, the parts become one file, `--out`.
"""

import argparse
import datetime
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing

from search.curves import Curves, RecordedCurve
from search.dimensions import Value
from search.experiment import git_commit, hardware, versions
from search.searchers import RandomSearcher
from search.spaces import SPACES, Space
from trainable.config import TrialConfig
from trainable.data.preparation import prepare_store
from trainable.data.source import PrepareOptions
from trainable.data.store import Store
from trainable.errors import ConfigError, ExperimentError, TrialError, run_command
from trainable.files import write_json
from trainable.training.device_data import DeviceData, DeviceSplit, _balanced_indices
from trainable.training.report import require_finite
from trainable.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
SPACE = "study"
CONFIGS = 128
DRAW_SEED = 0
FIXED = {"max_epochs": 27, "epoch_samples": 1024}
IMAGE_SIZE = 24
VALIDATION_IMAGES = 1050
PARTS = Path("results/curve-parts")
OUT = Path("benchmarks/curves/fer2013.parquet")
SETTINGS_NAME = "recording.json"
_NOT_COMPARED = ("recorded", "git_commit", "hardware", "versions")


class RecordingData(DeviceData):
    """A store of which validation has `VALIDATION_IMAGES` only, class by class in turn until a class runs out."""

    def split(self, name: str) -> DeviceSplit:
        """The whole split, or the images of validation."""
        whole = super().split(name)
        return whole.subset(self._validated) if name == "validation" else whole

    @cached_property
    def _validated(self) -> np.ndarray:
        return _balanced_indices(super().split("validation").labels.numpy(), VALIDATION_IMAGES, seed=0)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Record the learning curves of many configs on FER-2013.")
    parser.add_argument("--data-path", help="FER-2013, in any edition that --dataset fer2013 reads")
    parser.add_argument("--configs", type=int, default=CONFIGS, help=f"how many to record (default: {CONFIGS})")
    parser.add_argument("--processes", type=int, default=2, help="how many train side by side (default: 2)")
    parser.add_argument("--parts", type=Path, default=PARTS, help=f"folder of finished configs (default: {PARTS})")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the file of all of them (default: {OUT})")
    parser.add_argument("--collect", action="store_true", help="train nothing, write the file of what is there")
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.collect:
        store = prepare_store("fer2013", arguments.data_path, options=PrepareOptions(image_size=IMAGE_SIZE))
        _begin(arguments.parts, _settings(Store.open(store)))
        work = (str(store), str(arguments.parts), arguments.configs, arguments.processes)
        torch.multiprocessing.spawn(_work, args=work, nprocs=arguments.processes, daemon=True)
    curves = _collected(arguments.parts)
    curves.save(arguments.out)
    _summarise(curves)
    return 0


def _settings(store: Store) -> dict[str, Any]:
    """What is recorded, and by what; JSON values, no paths."""
    defaults = TrialConfig.from_dict(FIXED).to_dict()
    varied = (*SPACES[SPACE].dimensions, "seed")
    manifest = store.manifest
    return {
        "space_name": SPACE,
        "space": SPACES[SPACE].to_dict(),
        "draws": f"RandomSearcher(space, seed={DRAW_SEED}); each config's seed is the number of its draw, from 0",
        "fixed": {name: value for name, value in defaults.items() if name not in varied},
        "dataset": {
            "name": manifest.dataset,
            "image_size": manifest.image_size,
            "content_hash": manifest.content_hash,
            "classes": list(manifest.seen_classes),
            "train_images": sum(manifest.counts["train"].values()),
            "validation_images": VALIDATION_IMAGES,
        },
        "threads_per_process": 1,
        "epoch_seconds": "processor time",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(),
        "git_commit": git_commit(ROOT),
    }


def _begin(parts: Path, settings: Mapping[str, Any]) -> None:
    """Write down what `parts` records; raises `ConfigError` where it records something else already."""
    path = parts / SETTINGS_NAME
    if not path.exists():
        write_json(path, dict(settings))
    kept = json.loads(path.read_text(encoding="utf-8"))
    if changed := [name for name in settings if name not in _NOT_COMPARED and kept.get(name) != settings[name]]:
        raise ConfigError(
            f"one folder must hold one recording, but that in {parts} differs in {', '.join(changed)}; name another "
            "folder by --parts."
        )


def _work(rank: int, store: str, parts: str, configs: int, processes: int) -> None:
    """One process: every config of its share that has not been recorded yet."""
    # The parent's death arrives as an interrupt, which nohup and a shell's background jobs have ignored until here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        return
    torch.set_num_threads(1)
    data = RecordingData(Store.open(Path(store)), torch.device("cpu"))
    for number, drawn in enumerate(_draws(SPACES[SPACE], configs)):
        path = Path(parts) / f"{number:03}.json"
        if number % processes == rank and not path.exists():
            part = _record({**drawn, "seed": number}, data)
            write_json(path, part)
            print(_line(number, part), flush=True)


def _draws(space: Space, configs: int) -> list[dict[str, Value]]:
    searcher = RandomSearcher(space, seed=DRAW_SEED)
    drawn = (searcher.suggest(str(number)) for number in range(configs))
    return [config for config in drawn if config is not None]


def _record(config: dict[str, Value], data: DeviceData) -> dict[str, Any]:
    """Train one config to its end or its failure; returns config, reports, failure, seconds of processor time."""
    start = time.process_time()
    reports: list[dict[str, float]] = []
    failure = None
    trainer = Trainer(TrialConfig.from_dict({**FIXED, **config}), data)
    try:
        while len(reports) < FIXED["max_epochs"]:
            begun = time.process_time()
            report = trainer.run_epoch()
            require_finite(report)
            reports.append({**report, "epoch_seconds": time.process_time() - begun})
    except TrialError as error:
        failure = str(error)
    return {"config": config, "reports": reports, "failure": failure, "seconds": time.process_time() - start}


def _line(number: int, part: Mapping[str, Any]) -> str:
    config = " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in part["config"].items()
    )
    failed = f", failed: {part['failure']}" if part["failure"] else ""
    best = f"val_accuracy {_best(part['reports']):.3f} at best"
    return f"config {number}: {best}, {part['seconds']:.1f} s, {config}{failed}"


def _best(reports: Sequence[Mapping[str, float]]) -> float:
    """The highest validation accuracy; 0 where no epoch was reported."""
    return max((report["val_accuracy"] for report in reports), default=0.0)


def _collected(parts: Path) -> Curves:
    """What has been recorded so far, in order of the configs' numbers; raises `ExperimentError` where nothing is."""
    files = sorted(parts.glob("[0-9]*.json"), key=lambda path: int(path.stem))
    if not files:
        raise ExperimentError(f"a recording must have finished a config or more, but {parts} has none yet.")
    settings = json.loads((parts / SETTINGS_NAME).read_text(encoding="utf-8"))
    space = Space.from_dict(settings.pop("space"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return Curves(space, [RecordedCurve(part["config"], part["reports"], part["failure"]) for part in found], settings)


def _summarise(curves: Curves) -> None:
    """Print the range of the best accuracies."""
    best = [_best(curve.reports) for curve in curves.recorded]
    low, median, high = np.quantile(best, (0, 0.5, 1))
    failed = sum(curve.failure is not None for curve in curves.recorded)
    print(
        f"{len(best)} curves, {failed} of them failed; val_accuracy {low:.3f}, {median:.3f}, {high:.3f} "
        "(least, median, greatest of each curve's best)"
    )


if __name__ == "__main__":
    sys.exit(main())
