"""Trials as the ledger tells them, and the best of their reports."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from search.losses import Losses
from search.slot_time import SlotTime

STATES = ("PENDING", "RUNNING", "PAUSED", "FINISHED", "STOPPED", "FAILED")
ENDED_STATES = ("FINISHED", "STOPPED", "FAILED")

Report = dict[str, Any]
"""One epoch of one trial: `epoch`, its metrics, and `time`, when it was written (Unix seconds)."""


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """From where on a trial goes on from another's checkpoint."""

    source: str
    """The other trial."""
    epoch: int
    """Of its checkpoint, which is the epoch that the trial itself stood at."""
    config: dict[str, Any]
    """Every hyperparameter of the trial from then on."""

    @property
    def origin(self) -> dict[str, Any]:
        """Which checkpoint it is, as a slot is told."""
        return {"trial_id": self.source, "epoch": self.epoch}


@dataclass(kw_only=True)
class TrialRecord:
    """One trial as the ledger tells it."""

    trial_id: str
    number: int
    """Counts trials in the order in which they were created, from 0."""
    config: dict[str, Any]
    """Every hyperparameter, as it was drawn or fixed."""
    inheritances: list[Inherited] = field(default_factory=list)
    """In order of epoch; what came after each was trained from another trial's checkpoint, with another config."""
    confirms: str | None = None
    """Id of the trial whose config this one trains with another seed, after the search; None for a trial of the search
    itself."""
    state: str = "PENDING"
    """One of `STATES`."""
    attempts: int = 0
    """How often the trial was started."""
    reports: list[Report] = field(default_factory=list)
    """In order of epoch, each epoch once."""
    failure: dict[str, Any] | None = None
    """`kind`, `message`, `where` and `traceback_file` of a FAILED trial."""
    created_time: float
    started_time: float | None = None
    """Of the first attempt."""
    ended_time: float | None = None
    node: str | None = None
    """Host of the latest attempt."""
    pid: int | None = None
    """Process of the latest attempt."""
    slot_time: SlotTime = field(default_factory=SlotTime, compare=False)
    """How long it held slots; of two searches that differ in interruptions alone it may differ."""
    losses: Losses = field(default_factory=Losses, compare=False)
    """How often its processes were lost; differs likewise."""

    @property
    def ended(self) -> bool:
        """Whether no further report can come."""
        return self.state in ENDED_STATES

    @property
    def epochs(self) -> int:
        """The last epoch reported, 0 before the first report."""
        return int(self.reports[-1]["epoch"]) if self.reports else 0

    @property
    def current_config(self) -> dict[str, Any]:
        """Every hyperparameter, as the next epoch is trained with it."""
        return self.inheritances[-1].config if self.inheritances else self.config

    def config_at(self, epoch: int) -> dict[str, Any]:
        """Every hyperparameter, as `epoch` was trained with it."""
        before = [inherited for inherited in self.inheritances if inherited.epoch < epoch]
        return before[-1].config if before else self.config


def searched(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials of the search itself, without those that only confirm others."""
    return [trial for trial in trials if trial.confirms is None]


def unconfirming(trial: TrialRecord) -> TrialRecord:
    """A trial that confirms another, as one that stands for itself."""
    return dataclasses.replace(trial, confirms=None)


def best_report(trials: Iterable[TrialRecord], metric: str, mode: str) -> tuple[TrialRecord, Report] | None:
    """The report with the best finite `metric` of all trials that are not FAILED; None where there is none.

    Trials that only confirm others are passed over. `mode` is `max` or `min`. Ties go to fewer epochs, then to the
    lower trial number.
    """
    sign = {"max": -1.0, "min": 1.0}[mode]
    candidates = [
        (trial, report)
        for trial in trials
        if trial.state != "FAILED" and trial.confirms is None
        for report in trial.reports
        if is_finite(report.get(metric))
    ]
    return min(candidates, key=lambda pair: (sign * pair[1][metric], pair[1]["epoch"], pair[0].number), default=None)


def is_finite(value: object) -> bool:
    """Whether a metric is a finite number; None, the ledger's word for nan and inf, is not."""
    return isinstance(value, int | float) and math.isfinite(value)
