"""Whole searches, the command included, with Ray and training left out."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from search.driver import Search
from search.ledger import read_ledger, read_trials, search_state
from search.recorder import Recorder
from search.run import main
from search.schedulers import Decision
from search.source import TrialSource
from search.trials import TrialRecord, searched
from tests.evaluations import evaluation, points

TEST = {"accuracy": 0.5, "balanced_accuracy": 0.5, "loss": 1.0}
DIVERGED = {"kind": "DivergedError", "message": "no", "where": "a.py:1", "traceback": "Traceback\nno"}


class KilledError(BaseException):
    """Ends the driver as kill -9 does: nothing of ours catches it."""


def accuracy(config: dict[str, Any], epoch: int) -> float:
    """A config's worth, and the luck of its seed."""
    worth = random.Random(config["learning_rate"]).uniform(0.3, 0.6)
    luck = random.Random(f"{config['learning_rate']} {config['seed']} {epoch}").uniform(-0.1, 0.1)
    return worth + luck


class Bench:
    """Runs searches whose training takes no time; `after` is called after every report."""

    def __init__(self, storage: Path, faces: Path) -> None:
        self.experiment = storage / "x"
        self.after: Callable[[Recorder, TrialRecord], None] = lambda recorder, trial: None
        self.fails: Callable[[TrialRecord], bool] = lambda trial: False
        self.tested = 0
        self._arguments = ["--data-path", str(faces), "--storage", str(storage), "--max-epochs", "3"]

    def run(self, *more: str, name: str = "x") -> int:
        self.experiment = self.experiment.parent / name
        return main([*self._arguments, "--name", name, "--algo", "random", "--trials", "6", *more])

    def resume(self, *more: str) -> int:
        return main(["--resume", str(self.experiment), *more])

    @property
    def trials(self) -> list[TrialRecord]:
        return searched(read_trials(self.experiment))

    @property
    def further(self) -> list[TrialRecord]:
        return [trial for trial in read_trials(self.experiment) if trial.confirms is not None]

    @property
    def state(self) -> str:
        return search_state(read_ledger(self.experiment / "ledger.jsonl"))

    def read(self, file: str) -> Any:
        return json.loads((self.experiment / file).read_text())

    def run_trials(self, search: Search, source: TrialSource, recorder: Recorder, tick: Callable[[], None]) -> None:
        """Stands in for `search.driver.run_trials`: one slot."""
        while recorder.stop_state is None and isinstance(trial := source.next(), TrialRecord):
            recorder.started(trial.trial_id, node="here", pid=1)
            self._train(search, source, recorder, trial)
            tick()
        if recorder.stop_state is None:
            source.end_paused()

    def evaluate(self, *arguments: object, **options: object) -> dict[str, Any]:
        """Stands in for `search.finish.run_like_a_trial`."""
        self.tested += 1
        return {"metrics": TEST, "unseen": {}, "look": (evaluation(), points())}

    def _train(self, search: Search, source: TrialSource, recorder: Recorder, trial: TrialRecord) -> None:
        decision = Decision.CONTINUE
        while recorder.stop_state is None:
            if self.fails(trial):
                return source.failed(trial.trial_id, DIVERGED)
            report = {"epoch": trial.epochs + 1, "val_accuracy": accuracy(trial.config, trial.epochs + 1)}
            folder = search.experiment.checkpoints / trial.trial_id / "best"
            if all(report["val_accuracy"] > before["val_accuracy"] for before in trial.reports):
                folder.mkdir(parents=True, exist_ok=True)
                save_file({"w": np.zeros(1)}, folder / "model.safetensors", {"epoch": str(report["epoch"])})
            decision = source.decide(trial.trial_id, report)
            source.reported(trial.trial_id, report)
            self.after(recorder, trial)
            if trial.epochs == trial.config["max_epochs"] or decision is Decision.STOP:
                return source.completed(trial.trial_id)
            if decision is Decision.PAUSE:
                return source.paused(trial.trial_id)
        return None


def kill(when: Callable[[TrialRecord], bool]) -> Callable[[Recorder, TrialRecord], None]:
    def after(recorder: Recorder, trial: TrialRecord) -> None:
        if when(trial):
            raise KilledError

    return after
