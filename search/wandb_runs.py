"""A search in Weights & Biases: a group of its name in a project, a run per trial.

Ray's `WandbLoggerCallback` starts two processes for each trial that runs, says of a failed trial that it finished, and
has a run per trial of Tune's, which differ from ours (docs/design.md).
"""

import os
from typing import Any

import wandb

from search.trackers import Tracked
from search.trials import Report, TrialRecord

PROJECT = "glance"
"""Where the environment names no other."""


class WandbRuns:
    """Follows the trials; `WANDB_PROJECT`, `WANDB_ENTITY`, `WANDB_MODE` and `WANDB_DIR` are W&B's own.

    A run is open only while its trial runs, and goes on after the last epoch that W&B has. Offline, each time that a
    trial is started makes a folder of the same run, with all its epochs.
    """

    def __init__(self, tracked: Tracked) -> None:
        self._tracked = tracked
        self._runs: dict[str, Any] = {}

    def started(self, trial: TrialRecord) -> None:
        """Open the trial's run, and send what it lacks."""
        if trial.trial_id in self._runs:
            return
        run = self._runs[trial.trial_id] = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=self._tracked.name,
            id=f"{self._tracked.identity}-{trial.number:04d}",
            name=self._tracked.run_name(trial),
            config=trial.config,
            dir=os.environ.get("WANDB_DIR", self._tracked.folder),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, disable_code=True),
        )
        for report in trial.reports:
            if report["epoch"] >= run.starting_step:
                self.reported(trial, report)

    def reported(self, trial: TrialRecord, report: Report) -> None:
        """Send every number of a report, at the epoch as step."""
        self._runs[trial.trial_id].log(self._tracked.numbers(trial, report), step=int(report["epoch"]))

    def paused(self, trial: TrialRecord) -> None:
        """Close the run until the trial goes on."""
        self._finish(trial.trial_id, trial.state)

    def ended(self, trial: TrialRecord) -> None:
        """Say how the trial ended, and why; a trial that failed before it was told of has no run."""
        if trial.trial_id in self._runs:
            why = {} if trial.failure is None else {"failure": f"{trial.failure['kind']}: {trial.failure['message']}"}
            self._finish(trial.trial_id, trial.state, why)

    def close(self) -> None:
        """The search ends, and cuts off the trials that run."""
        for trial_id in list(self._runs):
            self._finish(trial_id, "CUT_OFF")

    def _finish(self, trial_id: str, state: str, more: dict[str, str] | None = None) -> None:
        run = self._runs.pop(trial_id)
        run.summary.update({"state": state, **(more or {})})
        run.finish(exit_code=int(state == "FAILED"))
