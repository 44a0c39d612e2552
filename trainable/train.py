"""Train one config at full length, or check on a few images that it can learn at all.

    python trainable/train.py --config results/demo/best.json --max-epochs 30
    python trainable/train.py --config results/demo/best.json --workers 8
    python trainable/train.py --set learning_rate=1e-3 --set weight_init=orthogonal --overfit 256

With --workers N the model is trained by N processes together, on as many nodes as the Ray cluster has.

Exit status: 0 when the run is over, or the check passed; 1 when training diverged or its workers died, or the check
failed; 2 when what was asked cannot be done; 130 after Ctrl-C, from which `--resume FOLDER` goes on.
"""

import argparse
import builtins
import contextlib
import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.config import TrialConfig, load_config, parse_config
from trainable.epoch_table import epoch_header, epoch_line
from trainable.errors import ExperimentError, TrialError, run_command
from trainable.files import user_path
from trainable.storage.storage import is_remote
from trainable.storage.transfer import read_object
from trainable.train_flags import MAX_LOST_MINUTES, parse_setting, read_flags
from trainable.training.report import prefixed, require_finite

if TYPE_CHECKING:
    from trainable.data.store import Store
    from trainable.data.unseen import UnseenClasses
    from trainable.slot.runner import Runner
    from trainable.slot.tasks import Look
    from trainable.training.device_data import DeviceData
    from trainable.training.run_folder import RunFolder

SPLITS = ("train", "validation", "test")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(lambda: _train(argv))


def _train(argv: Sequence[str] | None) -> int:
    arguments = read_flags(argv)
    workers = 1 if arguments.workers is None else arguments.workers
    max_lost_seconds = 60 * (arguments.max_lost_minutes or MAX_LOST_MINUTES)
    if arguments.resume is not None:
        return _resume(arguments.resume, workers, max_lost_seconds)
    config, block = _config(arguments)
    store, data_path = _open_data(arguments, block)
    store.verify()
    unseen = _unseen(arguments, block, store)
    if arguments.overfit is not None:
        return _overfit(config, store, unseen, arguments.overfit, arguments.max_epochs)

    from trainable.provenance import describe_data
    from trainable.training.run_folder import RunFolder

    path = arguments.out or Path("results") / time.strftime("train-%Y%m%d-%H%M%S")
    dataset = describe_data(store, data_path, unseen)
    data = _reference(store, data_path, workers)
    new = functools.partial(RunFolder.create, path, config, dataset)
    return _run(config, store, unseen, data, path, new, workers, max_lost_seconds)


def _config(arguments: argparse.Namespace) -> tuple[TrialConfig, Any]:
    """The config by file, `--set` and flags, the later winning; and the file's `dataset` block."""
    config, document = _read_config(arguments.config) if arguments.config else (TrialConfig(), {})
    changes = dict(parse_setting(text) for text in arguments.settings)
    if arguments.seed is not None:
        changes["seed"] = arguments.seed
    if arguments.max_epochs is not None:
        changes["max_epochs"] = arguments.max_epochs
    return dataclasses.replace(config, **changes), document.get("dataset")


def _read_config(place: str) -> tuple[TrialConfig, dict[str, Any]]:
    """A config from a file, or from an address such as s3://bucket/results/demo/best.json."""
    if is_remote(place):
        return parse_config(read_object(place), place)
    return load_config(user_path(place))


def _open_data(arguments: argparse.Namespace, block: Any) -> "tuple[Store, str | None]":
    """The store, and the path that was given for it: by the flags, else by the config file's block."""
    from trainable.data.preparation import prepare_store
    from trainable.data.store import Store
    from trainable.provenance import reopen_data

    if block is not None and arguments.dataset is None and arguments.data_path is None:
        return reopen_data(block), block["path"]
    recorded = block.get("name") if isinstance(block, Mapping) else None
    named = arguments.dataset or (recorded if isinstance(recorded, str) else "synthetic")
    return Store.open(prepare_store(named, arguments.data_path)), arguments.data_path


def _unseen(arguments: argparse.Namespace, block: Any, store: "Store") -> "UnseenClasses":
    """The classes that are not trained: by the flag, else by the config file's block, else the data set's own."""
    from trainable.data.unseen import choose_unseen
    from trainable.provenance import recorded_unseen

    of_block = block is not None and arguments.dataset is None and arguments.data_path is None
    if arguments.unseen is None and of_block:
        return recorded_unseen(block)
    return choose_unseen(arguments.unseen, store.manifest)


def _resume(path: Path, workers: int, max_lost_seconds: float) -> int:
    from trainable.provenance import recorded_unseen, reopen_data
    from trainable.training.run_folder import RunFolder

    folder, config, block = RunFolder.open(path)
    store = reopen_data(block)
    data = _reference(store, block["path"], workers)
    return _run(config, store, recorded_unseen(block), data, path, lambda: folder, workers, max_lost_seconds)


def _reference(store: "Store", data_path: str | None, workers: int) -> str:
    """What the processes that train open the store by: of one in a bucket, this one has its copy already."""
    from trainable.data.fetched import reference
    from trainable.slot.node_data import new_desk_name

    return reference(store, data_path if workers > 1 else None, new_desk_name())


def _run(
    config: TrialConfig,
    store: "Store",
    unseen: "UnseenClasses",
    data: str,
    path: Path,
    open_folder: "Callable[[], RunFolder]",
    workers: int,
    max_lost_seconds: float,
) -> int:
    """Train to the end, or to Ctrl-C or SIGTERM, and test the best epoch once; `data`: what workers open the store by.

    The folder at `path` is opened once the model is built, so that a config that cannot be trained leaves none behind.
    """
    from trainable.slot.runner import WorkersLostError
    from trainable.slot.standalone import standalone_runner
    from trainable.training.run_folder import RunFolder

    config.rows_per_worker(workers)  # workers would refuse the same, but to start them takes long
    try:
        opened = standalone_runner(data, workers=workers, unseen=unseen.to_dict(), max_lost_seconds=max_lost_seconds)
        with _errors_of_workers(), opened as (runner, place):
            epochs_done = runner.start(config.to_dict(), RunFolder(path.resolve()).last)
            folder = open_folder()
            _announce(config, store, unseen, run=str(path), device=place)
            _train_epochs(folder, runner, epochs_done, config.max_epochs)
    except KeyboardInterrupt:
        _say_how_to_go_on(RunFolder(path), config.max_epochs)
        return 130
    except (TrialError, WorkersLostError) as error:
        print(f"failed: {error}", file=sys.stderr)
        if isinstance(error, WorkersLostError):
            _say_how_to_go_on(RunFolder(path), config.max_epochs)
        return 1
    _print_outcome(folder, _test_once(folder, store))
    return 0


@contextlib.contextmanager
def _errors_of_workers() -> Iterator[None]:
    """Raise what a worker raised, where that was meant for the user, and say it where it could not write."""
    from trainable.slot.failure import WorkerError

    try:
        yield
    except WorkerError as error:
        if issubclass(getattr(builtins, error.failure["kind"], Exception), OSError):
            raise ExperimentError(
                f"the folder of a run must be writable from its workers, but one got {error}. Make room or choose "
                "another --out; a run that has begun goes on by --resume."
            ) from error
        raise error.original() from error


def _train_epochs(folder: "RunFolder", runner: "Runner", epochs_done: float, max_epochs: int) -> None:
    from trainable.slot.standalone import run_whole_epoch
    from trainable.training.run_folder import METRIC

    best = -math.inf
    for report in folder.resume(epochs_done, runner):
        print(epoch_line(report, improved=report[METRIC] > best))
        best = max(best, report[METRIC])
    for _ in range(int(epochs_done), max_epochs):
        report = run_whole_epoch(runner, lambda: folder.keep_part(runner))
        require_finite(report)
        print(epoch_line(report, improved=folder.keep(report, runner)), flush=True)


def _say_how_to_go_on(folder: "RunFolder", max_epochs: int) -> None:
    if not folder.run_path.exists():
        print("interrupted before the training began")
        return
    reports = folder.read_reports()
    print(f"interrupted after epoch {reports[-1]['epoch'] if reports else 0} of {max_epochs}; go on with")
    print(f"  python trainable/train.py --resume {folder.path}")


def _test_once(folder: "RunFolder", store: "Store") -> dict[str, Any]:
    """The best epoch with its test metrics, measured now unless an earlier call did."""
    import torch

    from trainable.slot.tasks import evaluate_model

    best = folder.read_best()
    if best is not None and "test_accuracy" in best["metrics"]:
        return best
    gpu = torch.cuda.is_available()
    measured = evaluate_model(str(folder.best), str(store.path), "test", threads=torch.get_num_threads(), gpu=gpu)
    best = folder.add_to_best(prefixed("test", measured["metrics"]), measured["unseen"])
    _show(folder, measured["look"])
    return best


def _show(folder: "RunFolder", look: "Look") -> None:
    """Write what there is to see of the best epoch; a run does not fail for it."""
    from trainable.training.evaluation_file import write_evaluation

    try:
        if not isinstance(look, dict):
            write_evaluation(folder.best, look[0])
            return
        reason: object = f"{look['kind']}: {look['message']} [{look['where']}]"
    except OSError as error:
        reason = error
    print(f"warning: the model is tested, but what there is to see of that is not written: {reason}", file=sys.stderr)


def _print_outcome(folder: "RunFolder", best: Mapping[str, Any]) -> None:
    metrics = best["metrics"]
    print()
    print(f"best     epoch {best['epoch']}: validation accuracy {metrics['val_accuracy']:.4f}")
    print(f"test     accuracy {metrics['test_accuracy']:.4f}, balanced {metrics['test_balanced_accuracy']:.4f}")
    if "test_unseen_accuracy" in metrics:
        print(
            f"unseen   accuracy {metrics['test_unseen_accuracy']:.4f}, balanced "
            f"{metrics['test_unseen_balanced_accuracy']:.4f}, chance {metrics['test_unseen_chance']:.4f}; with all "
            f"classes as candidates {metrics['test_generalised_unseen_accuracy']:.4f}"
        )
    print(f"model    {folder.best}")
    print(f"use it   python trainable/predict.py --model {folder.best} PICTURES")


def _overfit(config: TrialConfig, store: "Store", unseen: "UnseenClasses", images: int, epochs: int | None) -> int:
    from trainable.training.small_data import DEFAULT_EPOCHS, check_small_data

    data = _device_data(store, unseen)
    data.require_few(images)
    check = f"learn {images} training images by heart; validation is the same images"
    _announce(config, store, unseen, check=check, device=data.device.type)
    diagnosis = check_small_data(
        config,
        data,
        images,
        epochs=epochs or DEFAULT_EPOCHS,
        reported=lambda report: print(epoch_line(report), flush=True),
    )
    print(f"\n{'PASS' if diagnosis.passed else 'FAIL'}  {diagnosis.sentence}")
    return 0 if diagnosis.passed else 1


def _device_data(store: "Store", unseen: "UnseenClasses") -> "DeviceData":
    import torch

    from trainable.training.device_data import DeviceData

    return DeviceData(store, torch.device("cuda" if torch.cuda.is_available() else "cpu"), unseen)


def _announce(config: TrialConfig, store: "Store", unseen: "UnseenClasses", *, device: str, **lines: str) -> None:
    """Say what runs on what, then the titles of the columns."""
    changed = [field.name for field in dataclasses.fields(config) if getattr(config, field.name) != field.default]
    values = ", ".join(f"{name}={_short(getattr(config, name))}" for name in changed)
    manifest, seen = store.manifest, unseen.seen(store.manifest)
    sizes = [sum(manifest.counts[split][name] for name in seen) for split in SPLITS]
    counts = " / ".join(f"{size:,}" for size in sizes)
    for title, line in {
        **lines,
        "data": f"{manifest.dataset}: {counts} images of {len(seen)} classes",
        **{f"unseen, {split}": ", ".join(names) for split, names in unseen.to_dict().items() if names},
        "config": values or "the defaults",
        "device": device,
    }.items():
        print(f"{title:<8} {line}")
    print(f"\n{epoch_header()}", flush=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
