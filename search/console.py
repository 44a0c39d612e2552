"""What a person sees of a running search: one live table, or plain lines when the output is no terminal."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.failures import Cause, group_failures
from search.trials import STATES, TrialRecord, best_report

LOOK_SECONDS = 0.5
"""The trials are looked at, and the live table is drawn, at most this often."""
LOOK_SHARE = 0.05
"""Looking takes at most this share of the time: with 10,000 trials it happens less often."""
STATUS_SECONDS = 10.0
"""Plain lines: where trials ended, a status line comes at most this often."""
QUIET_SECONDS = 60.0
"""Plain lines: a status line comes at least this often."""
LINE_PER_TRIAL = 100
"""Plain lines: a search of at most so many trials has one for each that ends."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked of a search, as far as its progress depends on it."""

    trials: int
    max_epochs: int
    metric: str
    mode: str
    """`max` or `min`."""
    stops_early: bool
    """Whether a scheduler may end trials before `max_epochs`."""
    time_budget_seconds: float | None = None
    budget_hours: float | None = None
    """GPU-hours, or CPU-hours without GPUs."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a search stands."""

    states: dict[str, int]
    """Trials by state; PENDING counts those not drawn yet too."""
    trials: int
    epochs_done: int
    epochs_left: int
    """At most so many where a scheduler stops trials early, exactly so many where none does."""
    stops_early: bool
    seconds_elapsed: float
    seconds_left: float | None
    """None before the first report."""
    metric: str
    best_value: float | None
    best_number: int | None
    best_epoch: int | None

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return self.states["FINISHED"] + self.states["STOPPED"] + self.states["FAILED"]


def snapshot(trials: Collection[TrialRecord], plan: Plan, *, started_time: float, now: float) -> Progress:
    """Sum up the trials at the time `now` of a search that began, or went on, at `started_time` (Unix seconds).

    Time left is the epochs left at the pace since then, and at most what is left of the time budget, and of the budget
    of hours at as many slots as are held now.
    """
    unborn = max(0, plan.trials - len(trials))
    states = Counter(trial.state for trial in trials)
    states["PENDING"] += unborn
    running = [trial for trial in trials if not trial.ended]
    epochs_left = unborn * plan.max_epochs + sum(max(0, plan.max_epochs - trial.epochs) for trial in running)
    best = best_report(trials, plan.metric, plan.mode)
    return Progress(
        states={state: states[state] for state in STATES},
        trials=max(plan.trials, len(trials)),
        epochs_done=sum(len(trial.reports) for trial in trials),
        epochs_left=epochs_left,
        stops_early=plan.stops_early,
        seconds_elapsed=now - started_time,
        seconds_left=_seconds_left(trials, plan, epochs_left, started_time, now),
        metric=plan.metric,
        best_value=best[1][plan.metric] if best else None,
        best_number=best[0].number if best else None,
        best_epoch=best[1]["epoch"] if best else None,
    )


def table(progress: Progress, causes: Collection[Cause] = ()) -> Table:
    """The live table."""
    view = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    view.add_row("[bold]trials[/]", _states_text(progress))
    view.add_row("[bold]best so far[/]", _best_text(progress))
    view.add_row("[bold]epochs[/]", f"{progress.epochs_done} done, {_epochs_left_text(progress)}")
    view.add_row("[bold]time[/]", f"{duration(progress.seconds_elapsed)} so far, {_time_left_text(progress)}")
    for cause in causes:
        view.add_row("[bold red]failed[/]", Text(cause_text(cause)))
    return view


def status_line(progress: Progress) -> str:
    """The same as one plain line."""
    return (
        f"{progress.ended}/{progress.trials} trials ended | {_states_text(progress)} | best {_best_text(progress)} | "
        f"{_epochs_left_text(progress)} | {_time_left_text(progress)}"
    )


def trial_line(trial: TrialRecord, metric: str, mode: str) -> str:
    """How one trial ended."""
    text = f"trial {trial.number} {trial.state} after {_count(trial.epochs, 'epoch')}"
    if trial.failure is not None:
        return f"{text}: {trial.failure['kind']}"
    best = best_report([trial], metric, mode)
    return f"{text}, {metric} {best[1][metric]:.4f}" if best else f"{text}, no {metric}"


def cause_text(cause: Cause) -> str:
    """One cause of failure: last line of the traceback, where, how many trials, where the whole traceback lies."""
    file = f", see {cause.traceback_file}" if cause.traceback_file else ""
    return f"{_count(len(cause.trials), 'trial')}: {cause.summary} [{cause.where}]{file}"


def failure_table(causes: Collection[Cause]) -> Table:
    """Every cause once."""
    view = Table(title="Failed trials", title_justify="left")
    for heading in ("trials", "cause", "where", "traceback"):
        view.add_column(heading, overflow="fold")
    for cause in causes:
        view.add_row(str(len(cause.trials)), Text(cause.summary), Text(cause.where), cause.traceback_file or "")
    return view


class Display:
    """Shows a search's progress from `update` to `update`; use it as a context.

    It draws a live table on a terminal. Elsewhere it prints lines: one per trial that ends in a small search, and the
    status every now and then. `clock` gives Unix seconds.
    """

    def __init__(self, plan: Plan, console: Console | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._plan = plan
        self._console = console or Console()
        self._clock = clock
        self._started_time = self._status_time = clock()
        self._next_look_time = self._started_time + LOOK_SECONDS
        draws = self._console.is_terminal and not self._console.is_dumb_terminal
        # What others print belongs in the log, not above the table.
        live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live = live if draws else None
        self._told: set[str] = set()
        self._broken = False

    def __enter__(self) -> Self:
        if self._live is not None:
            self._attempt(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._attempt(self._live.stop)

    def update(self, trials: Collection[TrialRecord], *, final: bool = False) -> None:
        """Show the trials as they are now; cheap to call at every event. `final` shows them in any case.

        Where the output is gone (a closed pipe, a lost terminal, a full disk) nothing is shown any more.
        """
        self._attempt(lambda: self._update(trials, final))

    def _attempt(self, show: Callable[[], None]) -> None:
        """Show something; rich answers a closed pipe with `SystemExit`."""
        if self._broken:
            return
        try:
            show()
        except (OSError, ValueError, SystemExit) as error:
            self._broken = True
            with contextlib.suppress(OSError):
                print(f"the search is not shown any more: {error!r}", file=sys.stderr)

    def _update(self, trials: Collection[TrialRecord], final: bool) -> None:
        now = self._clock()
        if not final and now < self._next_look_time:
            return
        if self._live is not None:
            progress = snapshot(trials, self._plan, started_time=self._started_time, now=now)
            self._live.update(table(progress, group_failures(trials)), refresh=True)
        else:
            self._print(trials, now, final)
        self._next_look_time = now + max(LOOK_SECONDS, (self._clock() - now) / LOOK_SHARE)

    def _print(self, trials: Collection[TrialRecord], now: float, final: bool) -> None:
        ended = [trial for trial in trials if trial.ended and trial.trial_id not in self._told]
        self._told.update(trial.trial_id for trial in ended)
        for trial in ended if self._plan.trials <= LINE_PER_TRIAL else ():
            self._line(trial_line(trial, self._plan.metric, self._plan.mode))
        if final or now - self._status_time >= (STATUS_SECONDS if ended else QUIET_SECONDS):
            self._status_time = now
            self._line(status_line(snapshot(trials, self._plan, started_time=self._started_time, now=now)))

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _seconds_left(
    trials: Collection[TrialRecord], plan: Plan, epochs_left: int, started_time: float, now: float
) -> float | None:
    fresh = sum(report["time"] >= started_time for trial in trials for report in trial.reports)
    pace = epochs_left * (now - started_time) / fresh if fresh else None
    if epochs_left == 0:
        return 0.0
    budget = None if plan.time_budget_seconds is None else max(0.0, started_time + plan.time_budget_seconds - now)
    limits = (pace, budget, _budget_seconds_left(trials, plan, now))
    return min((seconds for seconds in limits if seconds is not None), default=None)


def _budget_seconds_left(trials: Collection[TrialRecord], plan: Plan, now: float) -> float | None:
    """For how long the budget of hours holds; None without one, or while no trial runs."""
    slots = [trial.slot_time.slot for trial in trials if trial.slot_time.slot is not None]
    if plan.budget_hours is None or not slots:
        return None
    spent = sum(trial.slot_time.spent_at(now)[slots[0].unit] for trial in trials)
    return max(0.0, 3600 * plan.budget_hours - spent) / sum(slot.units for slot in slots)


def _states_text(progress: Progress) -> str:
    return ", ".join(f"{count} {state}" for state, count in progress.states.items() if count)


def _best_text(progress: Progress) -> str:
    if progress.best_value is None:
        return f"no {progress.metric} yet"
    return f"{progress.metric} {progress.best_value:.4f} (trial {progress.best_number}, epoch {progress.best_epoch})"


def _epochs_left_text(progress: Progress) -> str:
    most = "at most " if progress.stops_early and progress.epochs_left else ""
    return f"{most}{_count(progress.epochs_left, 'epoch')} left"


def _time_left_text(progress: Progress) -> str:
    if progress.seconds_left is None:
        return "time left not known yet"
    about = "at most about" if progress.stops_early and progress.seconds_left else "about"
    return f"{about} {duration(progress.seconds_left)} left"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
