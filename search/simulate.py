"""A whole search in virtual time: the search's own source, scheduler, searcher and ledger on curves that are known.

A slot takes `start_seconds` to start a trial, and each epoch lasts the `epoch_seconds` of its report. Nothing waits:
the clock jumps from one report to the next. The same inputs give the same ledger, byte for byte.

A trial that goes on from another's checkpoint goes on along the curve of its new config, at the epoch that it has come
to: as if its weights had been trained with that config from the start. No curve of one config says what a schedule
gives, so this tells what a population does, and what that costs, rather than how well it learns.

Slots may be lost: then the trial starts again in another, from the last report or the last checkpoint within an epoch,
unless it was lost too often in a row without having come further.

On a ledger that has events already, the search goes on as if it had not been cut off: what was under way reports when
it would have, so but for a further `search_started` the ledger becomes that of a search that was never killed.
"""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from search.ledger import LedgerWriter, read_ledger
from search.recorder import Recorder
from search.resume import rebuild, settle
from search.schedulers import Decision, Scheduler
from search.searchers import Searcher
from search.source import TrialSource
from search.trials import Report, TrialRecord, is_finite
from trainable.config import TrialConfig
from trainable.errors import ConfigError

NODE = "simulated"
ROUNDING = 1e-9


class Curve(Protocol):
    """What becomes of a trial; `search.curves.RecordedCurve` and `search.synthetic_curves.SyntheticCurve` are two."""

    @property
    def reports(self) -> Sequence[Mapping[str, Any]]:
        """One per epoch, each with `epoch` and `epoch_seconds`."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the trial fails in the epoch after its last report; None where it does not."""
        ...


CurveOf = Callable[[Mapping[str, Any], int], Curve]
"""A trial's config and number -> its curve, the same whenever it is asked for."""


LivesOf = Callable[[TrialRecord], float]
"""How many seconds the slot lives that a trial has just got."""


class VirtualClock:
    """The time in a simulated search, in seconds since its start; also the `clock` of its ledger."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is searched for, and on what."""

    metric: str
    mode: str
    """`max` or `min`."""
    trials: int
    """At most so many are drawn."""
    slots: int
    max_epochs: int
    start_seconds: float = 0.2
    """From a trial's start in a slot to the begin of its first epoch there."""
    max_lost_seconds: float = math.inf
    """Epochs that take longer are saved within, so often."""
    max_failures: int = 2
    """Losses in a row without progress after which a trial goes on."""


@dataclass(frozen=True)
class Step:
    """A report that was better than every one before it."""

    seconds: float
    """Virtual time."""
    epochs: int
    """Trained by all trials until then."""
    value: float


@dataclass(frozen=True, kw_only=True)
class SimulatedSearch:
    """How a simulated search went, from its first start."""

    seconds: float
    """Virtual time at its end."""
    epochs: int
    """Trained by all trials; the one that a trial fails in counts."""
    best: Sequence[Step]
    """The best value over time, of trials that fail later too."""
    trials: Mapping[str, TrialRecord]


def simulate(
    plan: Plan,
    ledger: LedgerWriter,
    searcher: Searcher,
    scheduler: Scheduler,
    curve_of: CurveOf,
    *,
    clock: VirtualClock,
    until: Callable[[TrialRecord, Report], bool] | None = None,
    lives_of: LivesOf = lambda trial: math.inf,
) -> SimulatedSearch:
    """Run a search to its end, or to the first report of which `until` is true, which leaves it as a kill would.

    `ledger` must have been opened with `clock`; searcher and scheduler are fresh ones. Raises `ConfigError` for a curve
    that ends before `max_epochs` without a failure.
    """
    events = read_ledger(ledger.path)
    clock.now = events[-1]["time"] if events else clock.now
    earlier = rebuild(events, scheduler, searcher, metric=plan.metric)
    recorder = Recorder(ledger, [], retained=_keep, trials=plan.trials, clock=clock)
    defaults = TrialConfig(max_epochs=plan.max_epochs)
    source = TrialSource(searcher, scheduler, recorder, defaults, metric=plan.metric, trials=plan.trials)
    ledger.search_started()
    settle(source, earlier)
    simulation = _Simulation(plan, source, recorder, curve_of, clock, until, lives_of)
    simulation.take_up(events)
    state = simulation.run()
    if state is not None:
        ledger.search_ended(state)
    return simulation.result()


def _keep(trial: TrialRecord) -> None:
    """A simulated trial has no checkpoints."""


@dataclass(frozen=True)
class _Run:
    """A trial in a slot."""

    trial: TrialRecord
    curve: Curve
    dies: float
    """When the slot is lost (virtual time)."""

    def part(self) -> float:
        """What of the next epoch a checkpoint holds."""
        return max(0.0, self.trial.losses.saved - self.trial.epochs)

    def left_seconds(self) -> float:
        """How long the rest of the next epoch lasts."""
        return self.epoch_seconds() * (1.0 - self.part())

    def epoch_seconds(self) -> float:
        """How long the next epoch lasts; the one it fails in lasts as long as the one before, the first one nothing."""
        reports = self.curve.reports
        return float(reports[min(self.trial.epochs, len(reports) - 1)]["epoch_seconds"]) if reports else 0.0

    def next_report(self) -> dict[str, Any] | None:
        """What the next epoch reports; None where the trial fails in it."""
        epochs = self.trial.epochs
        return dict(self.curve.reports[epochs]) if epochs < len(self.curve.reports) else None


class _Progress:
    """Epochs trained so far, and the best value over time."""

    def __init__(self, plan: Plan) -> None:
        self._metric = plan.metric
        self._sign = 1.0 if plan.mode == "max" else -1.0
        self.epochs = 0
        self.best: list[Step] = []

    def replayed(self, event: Mapping[str, Any]) -> None:
        """An event of an earlier run."""
        if event["event"] == "report":
            self.reported(event)
        elif event["event"] == "ended" and event["state"] == "FAILED":
            self.failed()

    def reported(self, report: Mapping[str, Any]) -> None:
        """A report, as the ledger has it."""
        self.epochs += 1
        if not is_finite(report.get(self._metric)):
            return
        value = float(report[self._metric])
        if not self.best or self._sign * (value - self.best[-1].value) > 0:
            self.best.append(Step(report["time"], self.epochs, value))

    def failed(self) -> None:
        """A trial failed in an epoch."""
        self.epochs += 1


class _Simulation:
    """The loop over what happens next: the next report of the trial whose epoch is over first.

    Of several at one moment the one comes first whose trial began its epoch first, which is also their order in the
    ledger.
    """

    def __init__(
        self,
        plan: Plan,
        source: TrialSource,
        recorder: Recorder,
        curve_of: CurveOf,
        clock: VirtualClock,
        until: Callable[[TrialRecord, Report], bool] | None,
        lives_of: LivesOf,
    ) -> None:
        self._plan = plan
        self._source = source
        self._recorder = recorder
        self._curve_of = curve_of
        self._clock = clock
        self._until = until
        self._lives_of = lives_of
        self._reached = False
        self._due: list[tuple[float, int, _Run]] = []
        self._begun = 0
        self._progress = _Progress(plan)

    def take_up(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Put the trials that were in slots back into them, each at the moment that it had come to."""
        for event in events:
            self._progress.replayed(event)
        last = {event["trial_id"]: (position, event) for position, event in enumerate(events)}
        for trial in sorted(self._cut_off(), key=lambda trial: last[trial.trial_id][0]):
            event = last[trial.trial_id][1]
            if event["event"] in ("report", "saved"):
                self._begin(trial, event["time"])
            elif event["event"] == "started":
                self._begin(trial, event["time"] + self._plan.start_seconds)
            else:
                self._start(trial)

    def run(self) -> str | None:
        """Go on until nothing is left to do; returns the search's state, None where `until` ended it."""
        self._fill()
        while self._due and not self._reached and self._recorder.stop_state is None:
            self._clock.now, _, run = heapq.heappop(self._due)
            self._step(run)
            if not self._reached:
                self._fill()
        if self._reached or self._recorder.stop_state is not None:
            return self._recorder.stop_state
        self._source.end_paused()
        return "COMPLETED"

    def result(self) -> SimulatedSearch:
        """How it went."""
        progress = self._progress
        return SimulatedSearch(
            seconds=self._clock.now, epochs=progress.epochs, best=progress.best, trials=self._recorder.trials
        )

    def _cut_off(self) -> list[TrialRecord]:
        """The trials that the source hands out first, at most as many as there are slots."""
        unfinished = sum(trial.state in ("PENDING", "RUNNING") for trial in self._recorder.trials.values())
        taken = (self._source.next() for _ in range(min(unfinished, self._plan.slots)))
        return [trial for trial in taken if isinstance(trial, TrialRecord)]

    def _fill(self) -> None:
        """Give the free slots trials as long as there are any."""
        while len(self._due) < self._plan.slots:
            trial = self._source.next()
            if not isinstance(trial, TrialRecord):
                return
            self._start(trial)

    def _start(self, trial: TrialRecord) -> None:
        self._recorder.started(trial.trial_id, node=NODE, pid=0)
        self._begin(trial, self._clock.now + self._plan.start_seconds)

    def _begin(self, trial: TrialRecord, seconds: float) -> None:
        """The trial's next epoch begins at a time."""
        curve, epochs = self._curve_of(trial.current_config, trial.number), trial.config["max_epochs"]
        if curve.failure is None and len(curve.reports) < epochs:
            raise ConfigError(
                f"a curve must have a report for each of {epochs} epochs, or a failure, but that of {trial.trial_id} "
                f"has {len(curve.reports)}: lower max_epochs."
            )
        self._push(_Run(trial, curve, self._clock.now + self._lives_of(trial)), seconds)

    def _push(self, run: _Run, seconds: float) -> None:
        """At a time the trial's next epoch begins, or goes on: to its end, a checkpoint, or the slot's loss."""
        self._begun += 1
        worked = min(run.left_seconds(), self._plan.max_lost_seconds)
        heapq.heappush(self._due, (min(seconds + worked, run.dies), self._begun, run))

    def _step(self, run: _Run) -> None:
        """The slot is lost, a checkpoint is due, or the epoch is over."""
        if self._clock.now >= run.dies:
            self._lose(run)
        elif run.left_seconds() > self._plan.max_lost_seconds * (1 + ROUNDING):
            part = run.part() + self._plan.max_lost_seconds / run.epoch_seconds()
            self._recorder.saved(run.trial.trial_id, run.trial.epochs + part)
            self._push(run, self._clock.now)
        else:
            self._end_epoch(run)

    def _lose(self, run: _Run) -> None:
        """Start the trial again elsewhere, or end it."""
        trial_id, failure = run.trial.trial_id, _failure("the slot was lost", kind="SlotDied")
        if self._recorder.may_go_on(trial_id, self._plan.max_failures):
            self._recorder.retried(trial_id, failure)
            self._start(run.trial)
        else:
            self._source.failed(trial_id, failure)

    def _end_epoch(self, run: _Run) -> None:
        """An epoch is over; its slot is free unless the trial's next one begins."""
        trial_id, report = run.trial.trial_id, run.next_report()
        if report is None:
            self._source.failed(trial_id, _failure(str(run.curve.failure)))
            self._progress.failed()
            return
        decision = self._source.decide(trial_id, report)
        self._source.reported(trial_id, report)
        self._progress.reported(run.trial.reports[-1])
        self._reached = self._until is not None and self._until(run.trial, run.trial.reports[-1])
        if not self._reached:
            self._follow(run, decision)

    def _follow(self, run: _Run, decision: Decision) -> None:
        """Do what was decided after a report."""
        if run.trial.epochs >= run.trial.config["max_epochs"] or decision is Decision.STOP:
            self._source.completed(run.trial.trial_id)
        elif decision is Decision.PAUSE:
            self._source.paused(run.trial.trial_id)
        else:
            self._push(run, self._clock.now)


def _failure(message: str, kind: str = "DivergedError") -> dict[str, str]:
    """A failure as a slot would tell it: recorded curves fail by diverging."""
    return {"kind": kind, "message": message, "where": "a learning curve", "traceback": message}
