"""One slot: trial after trial in one process, without Ray.

A trial's files, all below `checkpoints/<trial_id>/`, are written in this order after each epoch, so that a process
that dies anywhere leaves a state from which the next one goes on:

    report.json    the epoch's report
    last/          the checkpoint after that epoch; where others may go on from it, it is kept for them too
    best/          weights and config, where the metric improved; then best.json, which epoch that was

An epoch that takes long is cut, and last/ then holds a checkpoint within it, which a later one replaces. `step` returns
what is saved, and the next `step` goes on with that epoch.

A trial that goes on sends the report of its checkpoint's epoch again, because nobody knows whether the dead process
still delivered it. If the process died between report.json and last/, the epoch is trained again, with the same
result.

A trial that goes on from another's checkpoint takes that into its own last/, then says so in origin.json: when it is
begun again, it goes on from what it has trained since.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainable.files import read_json, write_json
from trainable.slot import shared_checkpoints
from trainable.slot.failure import Failure, describe_failure, is_device_broken, with_sizes
from trainable.slot.runner import Cut, Runner, WorkersLostError, enter_working_folder
from trainable.slot.trial_files import LocalFiles, TrialFiles
from trainable.training.report import require_finite


@dataclass(frozen=True, kw_only=True)
class SlotOptions:
    """What every trial of an experiment shares."""

    store: str
    """Path of the data store, or the reference of one in a bucket."""
    unseen: Mapping[str, Sequence[str]] | None = None
    """The classes that are not trained, as `trainable.data.unseen.UnseenClasses` gives them."""
    checkpoints: str
    """Folder that gets one folder per trial."""
    metric: str
    """Name of the report's entry that decides which epoch is best."""
    mode: str
    """`max` or `min`."""
    workers: int = 1
    """Processes that train one trial together."""
    threads: int = 1
    """CPUs of each worker, and its CPU threads."""
    gpus: float = 0.0
    """GPUs of each worker; a share of one only where a trial has one worker."""
    accelerator: str | None = None
    """A name that the GPUs must have."""
    working_folder: str | None = None
    """What relative paths in a config are relative to, on a node that has that folder."""
    population: str = ""
    """Folder of the checkpoints that other trials may go on from."""
    keep_every: int = 0
    """At each multiple of so many epochs, but the last, a checkpoint is kept for others; 0: never."""
    desk: str = ""
    """Name of the actor that leads to the storage where trials are kept; empty where all nodes see `checkpoints`."""
    prefix: str = ""
    """Where trials lie in that storage."""
    max_lost_seconds: float | None = None
    """How much work of a trial may be lost: an epoch that takes longer is cut for a checkpoint."""


class Slot:
    """Runs trials one after another through a `Runner`.

    An exception inside a trial ends that trial with a `Failure`, and the slot goes on.
    `retire_reason` is set once the slot should train no more: after a leak, a CUDA error, or a notice that its
    processes will be ended.
    """

    def __init__(self, options: SlotOptions, runner: Runner, files: TrialFiles | None = None) -> None:
        self._options = options
        self._runner = runner
        self._files = files or LocalFiles()
        self._epochs: float | None = None
        self._trial_id = ""
        self._config: Mapping[str, Any] = {}
        self._origin: Mapping[str, Any] | None = None
        self._running = False
        self.retire_reason: str | None = None

    def begin(
        self,
        trial_id: str,
        config: Mapping[str, Any],
        origin: Mapping[str, Any] | None = None,
        epochs: float | None = None,
    ) -> None:
        """Take the next trial; the one before it is released. The first `step` starts it.

        `origin` is what it goes on from unless it has done so already: `trial_id` and `epoch` of a kept checkpoint.
        `epochs` are those that were reported or saved before; None where it was never started.
        """
        self._release()
        self._trial_id = trial_id
        self._config = config
        self._origin = origin
        self._epochs = epochs

    def step(self) -> dict[str, Any]:
        """Run one epoch; returns `{"report": {...}, "done": bool}`, or `{"failure": {...}, "done": True}`.

        Where the epoch was cut it is `{"saved": epochs, "done": False}`, the part of the epoch counted as a fraction.
        Raises `WorkersLostError`, after which the trial may be begun again, here or elsewhere.
        """
        try:
            report = self._resume_or_run()
            if isinstance(report, Cut):
                return {"saved": self._keep_part(report), "done": False}
            done = report["epoch"] >= self._config["max_epochs"]
        except WorkersLostError:
            self._release()
            raise
        except Exception as error:
            failure = self._describe(error)
        else:
            if done:
                self._release()
            return {"report": report, "done": done}
        self._release()  # outside the handler: the exception's frames hold the trial
        return {"failure": failure, "done": True}

    @property
    def running(self) -> bool:
        """Whether a trial has begun here and not come to its end."""
        return self._running

    def describe(self) -> dict[str, Any]:
        """Where this slot runs, and whether it is about to retire."""
        return {"node": platform.node(), "pid": os.getpid(), "retire_reason": self.retire_reason}

    def close(self) -> None:
        """Release the trial and everything the runner holds."""
        self._release()
        self._runner.close()

    @property
    def _folder(self) -> Path:
        return Path(self._options.checkpoints) / self._trial_id

    def _resume_or_run(self) -> dict[str, Any] | Cut:
        if not self._running:
            resumed = self._start()
            if resumed is not None:
                return resumed
        report = self._runner.run_epoch()
        if isinstance(report, Cut):
            return report
        self._check(report)
        write_json(self._folder / "report.json", report)
        self._runner.save(self._folder / "last")
        self._keep_for_others(report)
        self._keep_best(report)
        self._files.keep(self._trial_id, self._folder, report["epoch"])
        return report

    def _keep_part(self, cut: Cut) -> float:
        """Write a checkpoint within an epoch; returns the epochs that are saved."""
        self._runner.save(self._folder / "last")
        self._files.keep(self._trial_id, self._folder, cut.epochs)
        self.retire_reason = self.retire_reason or cut.notice
        return cut.epochs

    def _start(self) -> dict[str, Any] | None:
        """Start the trial; one that goes on from a checkpoint returns the report of the last epoch that it holds.

        What was not made of a whole epoch's checkpoint is made up for.
        """
        self._running = True
        enter_working_folder(self._options.working_folder)
        self._files.bring(self._trial_id, self._folder, self._epochs)
        if self._origin is None:
            epochs_done = self._runner.start(self._config, self._folder / "last")
        else:
            self._take(self._origin)
            epochs_done = self._runner.start(self._config, self._folder / "last", inherited=True)
        report = read_json(self._folder / "report.json")
        if report is None or report["epoch"] != int(epochs_done):
            return None
        if report["epoch"] == epochs_done:
            self._keep_for_others(report)
            self._keep_best(report)
            self._files.keep(self._trial_id, self._folder, epochs_done)
        return report

    def _take(self, origin: Mapping[str, Any]) -> None:
        """Let the origin's checkpoint be the trial's last one, once; the trial's own last report was delivered."""
        marker = self._folder / "origin.json"
        if read_json(marker) == origin:
            return
        (self._folder / "report.json").unlink(missing_ok=True)
        shared_checkpoints.take(Path(self._options.population), origin, self._folder / "last")
        write_json(marker, dict(origin))

    def _keep_for_others(self, report: Mapping[str, Any]) -> None:
        every, epoch = self._options.keep_every, report["epoch"]
        if every and epoch % every == 0 and epoch < self._config["max_epochs"]:
            shared_checkpoints.keep(Path(self._options.population), self._trial_id, epoch, self._folder / "last")

    def _check(self, report: Mapping[str, Any]) -> None:
        """A report must hold the metric, and finite numbers only: no scheduler or searcher ever sees another."""
        if self._options.metric not in report:
            known = ", ".join(sorted(report))
            raise KeyError(f"the report must hold the metric {self._options.metric!r}, but holds {known}")
        require_finite(report)

    def _keep_best(self, report: Mapping[str, Any]) -> None:
        best = read_json(self._folder / "best.json")
        value = report[self._options.metric]
        sign = 1 if self._options.mode == "max" else -1
        if best is None or sign * value > sign * best[self._options.metric]:
            self._runner.save_model(self._folder / "best")
            write_json(self._folder / "best.json", {"epoch": report["epoch"], self._options.metric: value})

    def _describe(self, error: Exception) -> Failure:
        failure = with_sizes(describe_failure(error), self._config, self._options.workers)
        if is_device_broken(error):
            self.retire_reason = f"a CUDA error: {failure['message'].splitlines()[0]}"
        return failure

    def _release(self) -> None:
        """Give the trial's memory back, and retire where it did not come back."""
        if not self._running:
            return
        self._running = False
        try:
            leak = self._runner.stop()
            self.retire_reason = self.retire_reason or leak
        except Exception as error:
            self.retire_reason = f"its memory could not be released: {error}"
        self._files.leave(self._trial_id, self._folder)
