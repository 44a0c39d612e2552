"""The verbs by which a slot drives one trial: start, run an epoch, save, stop.

`InProcessRunner` trains in the process that calls it: a slot's own, or one worker of a group. A group of workers
(`trainable.slot.worker_group`), or a fake that replays recorded learning curves, stands behind the same verbs.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trainable.slot.memory import MemoryGuard
from trainable.slot.notice import NOTICE, Notice

if TYPE_CHECKING:
    from trainable.training.device_data import DeviceData
    from trainable.training.trainer import Trainer


class WorkersLostError(Exception):
    """Processes that trained a trial died, to no known fault of the trial's: it may go on from its checkpoint."""


class Cut(NamedTuple):
    """An epoch was cut before its end: it is time for a checkpoint, after which `run_epoch` goes on with it."""

    epochs: float
    """Epochs done, and what is done of this one as a fraction."""
    notice: str | None = None
    """Why no more may be trained here."""


class Runner(Protocol):
    """One trial at a time, start to stop, in processes that outlive it. Each verb may raise `WorkersLostError`."""

    def start(self, config: Mapping[str, Any], folder: Path, inherited: bool = False) -> float:
        """Begin a trial, from the checkpoint in `folder` where there is one; returns the epochs that it has done.

        A checkpoint written within an epoch counts the part that it holds of that as a fraction.

        One that is `inherited` may be of another config: see `trainable.training.trainer.CHANGEABLE`.
        """
        ...

    def run_epoch(self) -> dict[str, Any] | Cut:
        """Train and evaluate one epoch, or the rest of one; returns the report, or where it was cut."""
        ...

    def save(self, folder: Path) -> None:
        """Write a checkpoint from which `start` goes on exactly; its files are replaced, never written into."""
        ...

    def save_model(self, folder: Path) -> None:
        """Write weights and config alone."""
        ...

    def stop(self) -> str | None:
        """Forget the trial and give its memory back; harmless where none was started.

        Returns why no further trial should run here, such as memory that did not come back; None where one may.
        """
        ...

    def close(self) -> None:
        """Give everything back; the runner is not used again."""
        ...


class InProcessRunner:
    """Trains in this process; the data stay open and the imports warm from trial to trial.

    `store` is the path of a store, or the reference of one in a bucket (`trainable.data.fetched.reference`).
    `threads` is the number of CPU threads that torch may use, `device` torch's name of where to train, `unseen` what
    `trainable.data.unseen.UnseenClasses` says of the classes that are not trained. An epoch is cut when it has been
    trained for `max_lost_seconds`, and upon a `notice`. Where this process is connected with others
    (`torch.distributed`), it is one of them, and each must call the same verbs.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        threads: int,
        device: str = "cpu",
        guard: MemoryGuard | None = None,
        unseen: Mapping[str, Sequence[str]] | None = None,
        max_lost_seconds: float | None = None,
        notice: Notice = NOTICE,
    ) -> None:
        self._store = str(store)
        self._threads = threads
        self._device = device
        self._unseen = unseen
        self._guard = guard or MemoryGuard()
        self._max_lost_seconds = max_lost_seconds
        self._notice = notice
        self._data: DeviceData | None = None
        self._trainer: Trainer | None = None
        self._reported = False

    def start(self, config: Mapping[str, Any], folder: Path, inherited: bool = False) -> float:
        """Build the trial's model; raises `ConfigError`, `DataError` or `CheckpointError`."""
        import torch

        from trainable.config import TrialConfig
        from trainable.training.checkpoint import FILE_NAME
        from trainable.training.ranks import Ranks
        from trainable.training.trainer import Trainer

        torch.set_num_threads(self._threads)
        self._reported = False
        trainer = Trainer(TrialConfig.from_dict(config), self._open_data(), Ranks.current())
        if (folder / FILE_NAME).exists():
            trainer.load(folder, inherited=inherited)
        self._trainer = trainer
        return trainer.epochs_done

    def run_epoch(self) -> dict[str, Any] | Cut:
        """Train one epoch and evaluate on the validation split; raises `DivergedError`."""
        from trainable.training.pace import Pace

        trainer = self._started()
        pace = Pace(
            trainer.ranks,
            trainer.device,
            limit_seconds=self._max_lost_seconds,
            wanted=lambda: self._notice.reason is not None,
        )
        if not trainer.advance(pace.is_over):
            return Cut(trainer.epochs_done, self._notice.reason)
        report = dict(trainer.run_epoch())
        self._reported = True
        return report

    def save(self, folder: Path) -> None:
        """Write the full training state."""
        self._started().save(folder)

    def save_model(self, folder: Path) -> None:
        """Write weights and config, as `best/` holds them."""
        self._started().save_model(folder)

    def stop(self) -> str | None:
        """Drop the trainer; the data stay open. Returns what leaked, if anything did."""
        self._trainer = None
        return self._guard.leak(reported=self._reported)

    def close(self) -> None:
        """Drop the trainer and the data."""
        self._trainer = None
        self._data = None

    def _open_data(self) -> "DeviceData":
        import torch

        from trainable.data.unseen import UnseenClasses
        from trainable.slot.node_data import open_data
        from trainable.training.device_data import DeviceData

        if self._data is None:
            unseen = UnseenClasses.from_dict(self._unseen)
            self._data = DeviceData(open_data(self._store), torch.device(self._device), unseen)
        return self._data

    def _started(self) -> "Trainer":
        if self._trainer is None:
            raise RuntimeError("a trial must be started before it can run or be saved")
        return self._trainer


def enter_working_folder(folder: str | None) -> None:
    """Let relative paths in a config mean what they mean where the search was started, on a node with that folder."""
    if folder is not None and Path(folder).is_dir():
        os.chdir(folder)
