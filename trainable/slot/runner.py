"""The verbs by which a slot drives one trial: start, run an epoch, save, stop.

`InProcessRunner` trains in the slot's own process. A worker group, or a fake that replays recorded learning curves,
stands behind the same verbs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from trainable.training.device_data import DeviceData
    from trainable.training.trainer import Trainer


class Runner(Protocol):
    """One trial at a time, start to stop, in a process that outlives it."""

    def start(self, config: Mapping[str, Any], folder: Path) -> int:
        """Begin a trial, from the checkpoint in `folder` where there is one; returns the epochs that it has done."""
        ...

    def run_epoch(self) -> dict[str, Any]:
        """Train and evaluate one epoch; returns the report."""
        ...

    def save(self, folder: Path) -> None:
        """Write a checkpoint from which `start` goes on exactly."""
        ...

    def save_model(self, folder: Path) -> None:
        """Write weights and config alone."""
        ...

    def stop(self) -> None:
        """Forget the trial and give its memory back; harmless where none was started."""
        ...

    def close(self) -> None:
        """Give everything back; the runner is not used again."""
        ...


class InProcessRunner:
    """Trains in this process; the data stay open and the imports warm from trial to trial.

    `threads` is the number of CPU threads that torch may use, `gpu` whether the slot was given (a share of) one.
    """

    def __init__(self, store_path: Path, *, threads: int, gpu: bool) -> None:
        self._store_path = store_path
        self._threads = threads
        self._gpu = gpu
        self._data: DeviceData | None = None
        self._trainer: Trainer | None = None

    def start(self, config: Mapping[str, Any], folder: Path) -> int:
        """Build the trial's model; raises `ConfigError`, `DataError` or `CheckpointError`."""
        import torch

        from trainable.config import TrialConfig
        from trainable.training.checkpoint import FILE_NAME
        from trainable.training.trainer import Trainer

        torch.set_num_threads(self._threads)
        trainer = Trainer(TrialConfig.from_dict(config), self._open_data())
        if (folder / FILE_NAME).exists():
            trainer.load(folder)
        self._trainer = trainer
        return trainer.state.epoch

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch and evaluate on the validation split; raises `DivergedError`."""
        return dict(self._started().run_epoch())

    def save(self, folder: Path) -> None:
        """Write the full training state."""
        self._started().save(folder)

    def save_model(self, folder: Path) -> None:
        """Write weights and config, as `best/` holds them."""
        from trainable.training.predictor import save_model

        trainer = self._started()
        save_model(folder, trainer.model, trainer.config, trainer.data, epoch=trainer.state.epoch)

    def stop(self) -> None:
        """Drop the trainer; the data stay open."""
        self._trainer = None

    def close(self) -> None:
        """Drop the trainer and the data."""
        self._trainer = None
        self._data = None

    def _open_data(self) -> "DeviceData":
        import torch

        from trainable.data.store import Store
        from trainable.training.device_data import DeviceData

        if self._data is None:
            self._data = DeviceData(Store.open(self._store_path), torch.device("cuda" if self._gpu else "cpu"))
        return self._data

    def _started(self) -> "Trainer":
        if self._trainer is None:
            raise RuntimeError("a trial must be started before it can run or be saved")
        return self._trainer
