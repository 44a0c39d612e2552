"""A runner that replays learning curves instead of training."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from trainable.files import write_atomically
from trainable.slot.runner import Cut


class ReplayRunner:
    """Reports `config["curve"]` value by value; an exception in the curve is raised instead.

    `leaks` is what each `stop` returns. Its checkpoint is a file with the epochs, its model a file with the accuracy.
    With `parts` of an epoch, it is cut after each but the last, with the notice that `notices` yields.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.leaks: Iterator[str | None] = itertools.repeat(None)
        self.parts = 1
        self.notices: Iterator[str | None] = itertools.repeat(None)
        self._curve: list[Any] = []
        self._epoch = 0
        self._part = 0

    def start(self, config: Mapping[str, Any], folder: Path, inherited: bool = False) -> float:
        self.calls.append("start inherited" if inherited else "start")
        if "start_error" in config:
            raise config["start_error"]
        self._curve = config["curve"]
        saved = folder / "epoch"
        done = float(saved.read_text()) if saved.exists() else 0.0
        self._epoch, self._part = int(done), round(done % 1 * self.parts)
        return self.epochs

    @property
    def epochs(self) -> float:
        return self._epoch + self._part / self.parts if self._part else self._epoch

    def run_epoch(self) -> dict[str, Any] | Cut:
        self.calls.append("run_epoch")
        self._part += 1
        if self._part < self.parts:
            return Cut(self.epochs, next(self.notices))
        self._part = 0
        value = self._curve[self._epoch]
        if isinstance(value, Exception):
            raise value
        self._epoch += 1
        return {"epoch": self._epoch, "val_accuracy": value}

    def save(self, folder: Path) -> None:
        self.calls.append("save")
        write_atomically(folder / "epoch", lambda path: path.write_text(str(self.epochs)))

    def save_model(self, folder: Path) -> None:
        self.calls.append("save_model")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "value").write_text(str(self._curve[self._epoch - 1]))

    def stop(self) -> str | None:
        self.calls.append("stop")
        return next(self.leaks)

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def make_runner() -> Callable[[], ReplayRunner]:
    return ReplayRunner
