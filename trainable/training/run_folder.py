"""The folder of one run of `trainable/train.py`.

run.json        config and data: all that --resume needs
reports.jsonl   a report per epoch
last/           the checkpoint after the last epoch, or within the next one where that takes long
best/           weights and config of the best epoch, for `trainable/predict.py`
best.json       that epoch's metrics, in the shape of a search's; test metrics once the run is over

Then `best/evaluation.json` shows what the test was like (`evaluation_file`).

After each epoch those are written in this order, so that a run that dies anywhere goes on with the same result.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from safetensors import SafetensorError

from trainable.config import TrialConfig, load_config
from trainable.errors import ExperimentError
from trainable.files import json_object, read_json, write_atomically, write_json

METRIC = "val_accuracy"
"""The report's entry that decides which epoch is best; more is better."""


class Savable(Protocol):
    """What is being trained, here or on other processes."""

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        ...

    def save_model(self, folder: Path) -> None:
        """Write weights and config alone."""
        ...


@dataclass(frozen=True)
class RunFolder:
    """One run on disk; the properties name what lies in it."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: TrialConfig, dataset: Mapping[str, Any]) -> Self:
        """Make the folder and write `run.json`; raises `ExperimentError` where it holds something or cannot be."""
        folder = cls(path)
        with _writing(path):
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise ExperimentError(
                    f"a run must have a folder of its own, but {path} exists and is not empty. Go on with the run in "
                    f"it by --resume {path}, or choose another --out."
                )
            write_json(folder.run_path, {"config": config.to_dict(), "dataset": dict(dataset)})
        return folder

    @classmethod
    def open(cls, path: Path) -> tuple[Self, TrialConfig, dict[str, Any]]:
        """An existing run, its config and its data; raises `ExperimentError` where there is none."""
        folder = cls(path)
        if not folder.run_path.is_file():
            raise ExperimentError(
                f"--resume must name the folder of a run, with a run.json in it, but {path} has none."
            )
        config, document = load_config(folder.run_path)
        if "dataset" not in document:
            raise ExperimentError(f"{folder.run_path} must hold the run's dataset, but has none; start the run anew.")
        return folder, config, document["dataset"]

    @property
    def run_path(self) -> Path:
        """`run.json`."""
        return self.path / "run.json"

    @property
    def reports_path(self) -> Path:
        """`reports.jsonl`."""
        return self.path / "reports.jsonl"

    @property
    def last(self) -> Path:
        """The folder of the last checkpoint."""
        return self.path / "last"

    @property
    def best(self) -> Path:
        """The folder of the best epoch's weights."""
        return self.path / "best"

    @property
    def best_path(self) -> Path:
        """`best.json`."""
        return self.path / "best.json"

    def resume(self, epochs_done: float, training: Savable) -> list[dict[str, Any]]:
        """Bring the folder to where the checkpoint in `last/` stands; returns the reports up to there."""
        reports = [report for report in self.read_reports() if report["epoch"] <= epochs_done]
        text = "".join(_line(report) for report in reports)
        with _writing(self.path):
            write_atomically(self.reports_path, lambda path: path.write_text(text, encoding="utf-8"))
            if reports:
                self._keep_best(reports[-1], training)
        return reports

    def keep(self, report: Mapping[str, Any], training: Savable) -> bool:
        """Write down an epoch: report, checkpoint, and the model where it is the best so far, which is returned.

        Raises `ExperimentError` where the folder cannot be written, a full disk above all.
        """
        with _writing(self.path):
            with self.reports_path.open("a", encoding="utf-8") as file:
                file.write(_line(report))
            training.save(self.last)
            return self._keep_best(report, training)

    def keep_part(self, training: Savable) -> None:
        """Write a checkpoint within an epoch; raises `ExperimentError` as `keep` does."""
        with _writing(self.path):
            training.save(self.last)

    def read_best(self) -> dict[str, Any] | None:
        """What `best.json` holds; None before the first epoch."""
        return read_json(self.best_path)

    def add_to_best(self, metrics: Mapping[str, float], unseen: Mapping[str, Any]) -> dict[str, Any]:
        """Join the best epoch's metrics with those of the test split, and add what it gave for each unseen class.

        Returns all of `best.json`.
        """
        best = self.read_best()
        if best is None:
            raise ExperimentError(f"a run must have an epoch before it is tested, but {self.path} has none.")
        best["metrics"] |= metrics
        best |= {"unseen": dict(unseen)} if unseen else {}
        with _writing(self.path):
            write_json(self.best_path, best)
        return best

    def _keep_best(self, report: Mapping[str, Any], training: Savable) -> bool:
        best = self.read_best()
        if best is not None and report[METRIC] <= best["metrics"][METRIC]:
            return False
        training.save_model(self.best)
        run = json.loads(self.run_path.read_text(encoding="utf-8"))
        document = {
            "trial_id": self.path.resolve().name,
            "number": 0,
            "epoch": report["epoch"],
            "config": run["config"],
            "metrics": {name: value for name, value in report.items() if name != "epoch"},
            "dataset": run["dataset"],
        }
        write_json(self.best_path, document)
        return True

    def read_reports(self) -> list[dict[str, Any]]:
        """All whole lines of `reports.jsonl`; a torn last one, which a killed run leaves, is passed over."""
        if not self.reports_path.exists():
            return []
        lines = self.reports_path.read_bytes().splitlines(keepends=True)
        return [json_object(line, self.reports_path) for line in lines if line.endswith(b"\n")]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ExperimentError(
            f"the folder of a run must be writable, but {folder}: {reason}. Make room or choose another --out; a run "
            "that has begun goes on by --resume."
        ) from error


def _line(report: Mapping[str, Any]) -> str:
    return json.dumps(report) + "\n"
