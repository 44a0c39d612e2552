"""The folder of one experiment, `<storage>/<name>/`.

experiment.json   what was asked, of which data, with which versions, on which hardware
ledger.jsonl      every event (`search.ledger`)
best.json best/   the best trial: config and metrics; its weights, and what they made of the test split
confirmation.json the best configs, trained again with further seeds
study.log         the trials as a study of Optuna's
wandb/            what Weights & Biases keeps on this machine, where that was asked
failures/         one full traceback per distinct cause
checkpoints/      <trial_id>/last and <trial_id>/best of the trials that keep theirs
population/       <trial_id>/<epoch>: checkpoints that other trials may go on from, where that is searched by
tensorboard/      event files, a folder per trial
log/              what Ray prints
"""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from search.ledger import LEDGER_NAME
from search.ledger_file import plain
from search.trials import Report, TrialRecord
from trainable.errors import ExperimentError
from trainable.files import json_object, read_json, write_json

MANIFEST_VERSION = 1
CHECKPOINTS = "checkpoints"
DISTRIBUTIONS = (
    "glance-tune",
    "torch",
    "ray",
    "transformers",
    "optuna",
    "hyperopt",
    "tensorboard",
    "numpy",
    "pandas",
    "pyarrow",
)
_NAME = re.compile(r"\w[\w.+-]{0,99}")
_NOT_METRICS = ("epoch", "time")


@dataclass(frozen=True)
class Experiment:
    """An experiment folder; the properties name what lies in it."""

    path: Path

    @classmethod
    def create(cls, storage: Path, name: str | None, manifest: Mapping[str, Any]) -> Self:
        """Make the folder and write `experiment.json`.

        `manifest` is what was asked; version, name, creation time, versions and git commit are added here. A name of
        None becomes `<data set>-<algorithm>-<time>`. Raises `ExperimentError` as `require_usable` does.
        """
        require_usable(storage, name)
        path = _new_default_folder(storage, manifest) if name is None else _new_folder(storage / name)
        experiment = cls(path)
        for folder in (experiment.tensorboard, experiment.log, experiment.failures):
            folder.mkdir()
        document = {
            "version": MANIFEST_VERSION,
            "name": path.name,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **manifest,
            "versions": versions(),
            "git_commit": git_commit(Path(__file__).resolve().parents[1]),
        }
        write_json(experiment.manifest_path, plain(document))
        return experiment

    @classmethod
    def open(cls, path: Path) -> Self:
        """An experiment that exists; raises `ExperimentError` where there is none."""
        experiment = cls(path)
        experiment.read_manifest()
        return experiment

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def manifest_path(self) -> Path:
        """`experiment.json`."""
        return self.path / "experiment.json"

    @property
    def ledger_path(self) -> Path:
        """`ledger.jsonl`."""
        return self.path / LEDGER_NAME

    @property
    def best_path(self) -> Path:
        """`best.json`."""
        return self.path / "best.json"

    @property
    def confirmation_path(self) -> Path:
        """`confirmation.json`."""
        return self.path / "confirmation.json"

    @property
    def best(self) -> Path:
        """The folder of the best trial's weights and config."""
        return self.path / "best"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints, by trial id."""
        return self.path / CHECKPOINTS

    @property
    def population(self) -> Path:
        """The folder of the checkpoints that other trials may go on from, by trial id and epoch."""
        return self.path / "population"

    @property
    def tensorboard(self) -> Path:
        """The folder of event files."""
        return self.path / "tensorboard"

    @property
    def study(self) -> Path:
        """The file of Optuna's study, which `optuna-dashboard` opens."""
        return self.path / "study.log"

    @property
    def failures(self) -> Path:
        """The folder of tracebacks."""
        return self.path / "failures"

    @property
    def log(self) -> Path:
        """The folder of Ray's output."""
        return self.path / "log"

    def read_manifest(self) -> dict[str, Any]:
        """What `experiment.json` holds; raises `ExperimentError`."""
        try:
            document = json_object(self.manifest_path.read_bytes(), self.manifest_path)
        except OSError as error:
            raise ExperimentError(
                f"an experiment folder must hold a readable experiment.json, but {self.manifest_path}: "
                f"{error.strerror}. Give the folder of one search, such as results/demo."
            ) from error
        if not isinstance(document.get("dataset", {}), dict):
            raise self._without_data(document["dataset"])
        return document

    def read_dataset(self) -> dict[str, Any]:
        """Which data `experiment.json` says the search is of (`trainable.provenance`); raises `ExperimentError`."""
        manifest = self.read_manifest()
        if "dataset" not in manifest:
            raise self._without_data(None)
        return dict(manifest["dataset"])

    def read_best(self) -> dict[str, Any] | None:
        """What `best.json` holds; None where there is none. Raises `ExperimentError`."""
        return read_json(self.best_path)

    def note_resume(self, manifest: Mapping[str, Any]) -> None:
        """Let `experiment.json` say what is asked now, and that the search was taken up again, when and by which code.

        What an experiment was before stays: its name, when it was made, and the versions that it began with.
        """
        before = self.read_manifest()
        resumed = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": manifest["command"],
            "versions": versions(),
            "git_commit": git_commit(Path(__file__).resolve().parents[1]),
        }
        document = {**before, **manifest, "command": before["command"]}
        write_json(self.manifest_path, plain({**document, "resumed": [*before.get("resumed", []), resumed]}))

    def write_best(
        self,
        trial: TrialRecord,
        report: Report,
        dataset: Mapping[str, Any],
        confirmation: Mapping[str, Any] | None = None,
        schedule: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Write `best.json`: the trial, the epoch of `report`, and its metrics; what its config gave with other seeds.

        The config is what that epoch was trained with; `schedule` says what was before, where that was another.

        `trainable/train.py --config best.json` takes the file back.
        """
        document = {
            "trial_id": trial.trial_id,
            "number": trial.number,
            "epoch": report["epoch"],
            "config": trial.config_at(report["epoch"]),
            "metrics": {name: value for name, value in report.items() if name not in _NOT_METRICS},
            "dataset": dataset,
            **({} if confirmation is None else {"confirmation": confirmation}),
            **({"schedule": list(schedule)} if schedule else {}),
        }
        write_json(self.best_path, plain(document))

    def confirm_best(self, confirmation: Mapping[str, Any]) -> None:
        """Let `best.json` say what its config gave with other seeds."""
        write_json(self.best_path, plain({**(self.read_best() or {}), "confirmation": confirmation}))

    def add_to_best(self, metrics: Mapping[str, float], unseen: Mapping[str, Any] | None = None) -> None:
        """Join the metrics in `best.json` with those of the test split, and add what it gave for each unseen class."""
        document = self.read_best() or {}
        joined = {"metrics": {**document.get("metrics", {}), **metrics}, **({"unseen": unseen} if unseen else {})}
        write_json(self.best_path, plain({**document, **joined}))

    def _without_data(self, found: object) -> ExperimentError:
        return ExperimentError(
            f"{self.manifest_path} must say which data the search is of, by name, path and content_hash, but its "
            f"dataset is {found!r}. Restore the file."
        )


def require_usable(storage: Path, name: str | None) -> None:
    """Make the folder `storage`; raises `ExperimentError` where that fails, or `name` is not valid or taken there."""
    if name is not None and not _NAME.fullmatch(name):
        raise ExperimentError(
            "--name must begin with a letter or digit and hold letters, digits and . _ + - only, at most 100, "
            f"but got {name!r}."
        )
    try:
        storage.mkdir(parents=True, exist_ok=True)
        taken = name is not None and _is_taken(storage / name)
    except OSError as error:
        raise ExperimentError(
            f"--storage must name a folder that can be written, but {storage}: {error.strerror}."
        ) from error
    if not os.access(storage, os.W_OK | os.X_OK):
        raise ExperimentError(f"--storage must name a folder that can be written, but {storage} cannot.")
    if taken:
        raise _taken(storage / str(name))


def hardware(gpu_names: Sequence[str] = ()) -> dict[str, Any]:
    """CPU count, memory in bytes, GPU names and operating system of this machine."""
    return {
        "cpu_count": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": list(gpu_names),
        "platform": platform.platform(),
    }


def versions() -> dict[str, str | None]:
    """The versions of Python and of the libraries that decide a result; None for one that is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in DISTRIBUTIONS}}


def git_commit(root: Path) -> str | None:
    """The commit of the repository whose top is `root`, with `-dirty` where files differ; None where there is none."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None
    return _git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _is_taken(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def _taken(path: Path) -> ExperimentError:
    return ExperimentError(
        f"an experiment must have a folder of its own, but {path} exists and is not empty. "
        "Choose another --name, or remove that folder."
    )


def _new_folder(path: Path) -> Path:
    """Claim a folder that is empty or not there; of two searches that claim it together one gets it."""
    path.mkdir(exist_ok=True)
    try:
        (path / CHECKPOINTS).mkdir()
    except FileExistsError as error:
        raise _taken(path) from error
    return path


def _new_default_folder(storage: Path, manifest: Mapping[str, Any]) -> Path:
    """A folder named after data set, algorithm and time; two searches of one second get different ones."""
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    stem = f"{manifest['dataset']['name']}-{manifest['algorithm']}-{time}"
    for count in range(1, 1000):
        path = storage / (stem if count == 1 else f"{stem}-{count}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return _new_folder(path)
    raise ExperimentError(f"{storage} must have room for one more experiment called {stem}: give a --name.")
