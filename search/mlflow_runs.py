"""A search in MLflow: an experiment of its name, a run per trial.

Ray's `MLflowLoggerCallback` has a run per trial of Tune's, which differ from ours (docs/design.md), and asks the
server about each number twice; here a report is one request.
"""

from typing import Any

from mlflow.entities import Metric, Param, Run
from mlflow.tracking import MlflowClient

from search.trackers import Tracked
from search.trials import Report, TrialRecord

SEARCH = "glance.search"
TRIAL = "glance.trial_id"
STATE = "glance.state"
FAILURE = "glance.failure"
"""Tags of a run. MLflow's own status knows no trial that a scheduler stopped, which is FINISHED there."""

_STATUS = {"FINISHED": "FINISHED", "STOPPED": "FINISHED", "FAILED": "FAILED"}


class MlflowRuns:
    """Follows the trials; `MLFLOW_TRACKING_URI` names the server, and without it MLflow chooses.

    What the ledger says and MLflow lacks, of a search that goes on, is sent first. A run whose trial was cut off by the
    search's end is KILLED there until it goes on.
    """

    def __init__(self, tracked: Tracked) -> None:
        self._tracked = tracked
        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(tracked.name)
        self._experiment = self._client.create_experiment(tracked.name) if found is None else found.experiment_id
        self._runs: dict[str, str] = {}
        self._running: set[str] = set()
        self._catch_up()

    def started(self, trial: TrialRecord) -> None:
        """Create the trial's run, or let it go on."""
        if trial.trial_id in self._runs:
            self._client.update_run(self._runs[trial.trial_id], status="RUNNING")
        else:
            self._create(trial)
        self._running.add(trial.trial_id)

    def reported(self, trial: TrialRecord, report: Report) -> None:
        """Send every number of a report, at the epoch as step."""
        when, step = round(1000 * report["time"]), int(report["epoch"])
        numbers = self._tracked.numbers(trial, report)
        metrics = [Metric(name, value, when, step) for name, value in numbers.items()]
        self._client.log_batch(self._runs[trial.trial_id], metrics=metrics)

    def paused(self, trial: TrialRecord) -> None:
        """The run waits."""
        self._client.update_run(self._runs[trial.trial_id], status="SCHEDULED")
        self._running.discard(trial.trial_id)

    def ended(self, trial: TrialRecord) -> None:
        """Say how the trial ended, and why."""
        run = self._runs[trial.trial_id]
        self._client.set_tag(run, STATE, trial.state)
        if trial.failure is not None:
            self._client.set_tag(run, FAILURE, f"{trial.failure['kind']}: {trial.failure['message']}")
        ended = None if trial.ended_time is None else round(1000 * trial.ended_time)
        self._client.set_terminated(run, status=_STATUS[trial.state], end_time=ended)
        self._running.discard(trial.trial_id)

    def close(self) -> None:
        """The search ends, and cuts off the trials that run."""
        for trial_id in self._running:
            self._client.set_terminated(self._runs[trial_id], status="KILLED")

    def _create(self, trial: TrialRecord) -> None:
        run = self._client.create_run(
            self._experiment,
            start_time=round(1000 * (trial.started_time or trial.created_time)),
            tags={SEARCH: self._tracked.identity, TRIAL: trial.trial_id},
            run_name=self._tracked.run_name(trial),
        )
        self._runs[trial.trial_id] = run.info.run_id
        self._client.log_batch(
            run.info.run_id, params=[Param(name, str(value)) for name, value in trial.config.items()]
        )

    def _catch_up(self) -> None:
        """Send what MLflow lacks of the trials of before."""
        runs = {run.data.tags[TRIAL]: run for run in self._own_runs()}
        self._runs = {trial_id: run.info.run_id for trial_id, run in runs.items()}
        for trial in self._tracked.trials:
            run = runs.get(trial.trial_id)
            if run is None and trial.attempts:
                self._create(trial)
            sent = 0 if run is None else int(run.data.metrics.get("epoch", 0))
            for report in trial.reports:
                if report["epoch"] > sent:
                    self.reported(trial, report)
            if trial.ended and (run is None or STATE not in run.data.tags):
                self.ended(trial)

    def _own_runs(self) -> list[Run]:
        """The runs that MLflow has of this search, in pages."""
        found: list[Run] = []
        page: Any = ""
        while page is not None:
            answer = self._client.search_runs(
                [self._experiment], f"tags.`{SEARCH}` = '{self._tracked.identity}'", page_token=page or None
            )
            found, page = [*found, *answer], answer.token or None
        return found
