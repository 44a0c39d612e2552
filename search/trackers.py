"""Trials in tools that compare experiments, by `--logger`: MLflow, Weights & Biases.

Each trial is one run there, with its hyperparameters, a value per report and metric, and how it ended; a trial that
pauses, is lost with its slot, or goes on with the search goes on in the same run.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.event_files import folder_name
from search.recorder import ClosableListener
from search.trials import Report, TrialRecord, is_finite
from trainable.errors import ConfigError

PACKAGES = {"mlflow": "mlflow-skinny", "wandb": "wandb"}
"""What `--logger` takes, which is also what is imported -> the package that brings it."""
TITLES = {"mlflow": "MLflow", "wandb": "Weights & Biases"}


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """The search, as a tool for experiments is told of it."""

    name: str
    """Of the experiment."""
    identity: str
    """Tells it from others of that name."""
    folder: Path
    """Of the experiment."""
    drawn: Sequence[str]
    """The hyperparameters that vary."""
    changing: Sequence[str]
    """Those that change while a trial trains."""
    trials: Sequence[TrialRecord]
    """Those of before."""

    def run_name(self, trial: TrialRecord) -> str:
        """The trial's number and what was drawn, as TensorBoard has it."""
        return folder_name(trial, self.drawn)

    def numbers(self, trial: TrialRecord, report: Report) -> dict[str, float]:
        """Every finite number of a report by its name, and the values of the hyperparameters that change."""
        config = trial.config_at(int(report["epoch"]))
        values = {**report, **{f"config/{name}": config[name] for name in self.changing}}
        return {name: float(value) for name, value in values.items() if name != "time" and is_finite(value)}


def identity_of(manifest: Mapping[str, Any]) -> str:
    """A few letters that tell an experiment from every other, also one of its name: when it was made is among them."""
    return hashlib.sha256(f"{manifest['name']} {manifest['created']}".encode()).hexdigest()[:12]


def require_usable(tools: Sequence[str]) -> None:
    """Raise `ConfigError` for a tool whose package is missing, or that needs a login and has none."""
    for tool in tools:
        if importlib.util.find_spec(tool) is None:
            raise ConfigError(
                f"--logger {tool} needs the package {PACKAGES[tool]}, which is not installed: "
                f"pip install '{PACKAGES[tool]}', or leave --logger {tool} away."
            )
    if "wandb" in tools:
        _require_login()


def builder_of(tool: str, tracked: Tracked) -> Callable[[], ClosableListener]:
    """What makes the listener of a tool; the tool's library is loaded when it is called."""

    def build() -> ClosableListener:
        if tool == "mlflow":
            from search.mlflow_runs import MlflowRuns

            return MlflowRuns(tracked)
        from search.wandb_runs import WandbRuns

        return WandbRuns(tracked)

    return build


def _require_login() -> None:
    import wandb

    if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False, verify=False):
        raise ConfigError(
            "--logger wandb needs an account of Weights & Biases, but nobody has logged in: run `wandb login`, set "
            "WANDB_API_KEY, or keep the runs on this machine by WANDB_MODE=offline."
        )
