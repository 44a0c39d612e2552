"""The ledger: every event of an experiment, one JSON object a line, only ever appended.

    search_started | search_ended     the experiment: trial_id is null
    created -> started -> report* -> ended     a trial; (saved*) stands before a report where an epoch took long,
                                               (retried -> started) comes again where its processes were lost,
                                               (paused -> promoted -> started) where it waited at a rung,
                                               (promoted -> inherited) where it goes on from another's checkpoint

Every line has `event`, `trial_id` and `time` (Unix seconds). A number that is not finite is written as null. This
module and `search.trials` load neither torch nor ray: they are all that the analysis knows of a search.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from search.ledger_file import lock, mend_last_line, parse_line, plain
from search.slot_time import Slot, Slots
from search.trials import ENDED_STATES, Inherited, TrialRecord
from trainable.errors import ExperimentError

LEDGER_NAME = "ledger.jsonl"
SEARCH_STATES = ("COMPLETED", "INTERRUPTED", "ABORTED", "TIME_BUDGET", "BUDGET", "FAILED")


class LedgerWriter:
    """Appends events to a ledger; one write and flush a line, an fsync where a trial or the search ends.

    Opening takes a lock, so that no second search writes to the same ledger, and mends a last line that was torn when
    the writer before died: a line that lacks only its newline gets it, and anything else after the last newline is
    moved to `ledger.torn` beside the ledger, so nothing is thrown away. Raises `ExperimentError` when the ledger is
    locked; a file system that has no locks is used without. `clock` gives the time of each event in Unix seconds.

    `trials` are the trials of the ledger so far, folded from its lines as a reader would fold them.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            lock(self._file, path)
            mend_last_line(self._file, path)
            self._folded = _fold(read_ledger(path))
        except BaseException:
            self._file.close()
            raise
        self.trials = self._folded.trials

    def spent_seconds(self) -> float:
        """The time of all trials in slots up to now, earlier runs included: seconds times GPUs, or CPUs without GPUs.

        Where GPUs were counted in one run and CPUs in another, it is that of the latest run's unit.
        """
        return self._folded.slots.spent(self._clock())

    def search_started(self, slot: Slot | None = None) -> None:
        """The search begins, or goes on after it was interrupted; from now on a trial takes `slot`."""
        slot = slot or Slot()
        self._append("search_started", None, unit=slot.unit, units=slot.units)

    def search_ended(self, state: str) -> None:
        """The search is over; `state` is one of `SEARCH_STATES`."""
        _check_state(state, SEARCH_STATES)
        self._append("search_ended", None, state=state)
        os.fsync(self._file.fileno())

    def created(self, trial_id: str, number: int, config: Mapping[str, Any], *, confirms: str | None = None) -> None:
        """The searcher drew a trial, or one that was drawn, `confirms`, is to be trained with another seed."""
        of = {} if confirms is None else {"confirms": confirms}
        self._append("created", trial_id, number=number, config=dict(config), **of)

    def started(self, trial_id: str, *, attempt: int, node: str, pid: int, node_id: str | None = None) -> None:
        """The trial got a slot; `attempt` counts from 1, and `node_id` is Ray's name for the node."""
        self._append("started", trial_id, attempt=attempt, node=node, node_id=node_id, pid=pid)

    def retried(self, trial_id: str, *, attempt: int, failure: Mapping[str, Any]) -> None:
        """The processes of an attempt were lost; the trial will be started again."""
        without_progress = self.trials[trial_id].losses.next_in_a_row
        self._append("retried", trial_id, attempt=attempt, failure=dict(failure), without_progress=without_progress)

    def saved(self, trial_id: str, epochs: float) -> None:
        """A checkpoint was written within an epoch; what it holds of that counts as a fraction."""
        self._append("saved", trial_id, epochs=epochs)

    def paused(self, trial_id: str) -> None:
        """The trial gave its slot back, and waits at a rung with its checkpoint."""
        self._append("paused", trial_id)

    def promoted(self, trial_id: str) -> None:
        """A paused trial goes on, and waits for a slot."""
        self._append("promoted", trial_id)

    def inherited(self, trial_id: str, inherited: Inherited) -> None:
        """A promoted trial goes on from another's checkpoint. The line reaches the disk before a slot takes that."""
        self._append("inherited", trial_id, **dataclasses.asdict(inherited))
        os.fsync(self._file.fileno())

    def report(self, trial_id: str, metrics: Mapping[str, Any]) -> None:
        """An epoch is over; `metrics` holds `epoch` and numbers."""
        self._append("report", trial_id, **metrics)

    def ended(self, trial_id: str, state: str, failure: Mapping[str, Any] | None = None) -> None:
        """No further report will come; `state` is one of `ENDED_STATES`."""
        _check_state(state, ENDED_STATES)
        self._append("ended", trial_id, state=state, failure=dict(failure) if failure else None)
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file and release the lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, event: str, trial_id: str | None, /, **values: Any) -> None:
        line = plain({**values, "event": event, "trial_id": trial_id, "time": self._clock()})
        self._folded.apply(line)
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Every event of a ledger file, oldest first.

    A torn last line is what a running or killed writer leaves, and is passed over. Raises `ExperimentError` when the
    file cannot be read or a line before the last is broken.
    """
    try:
        with path.open("rb") as lines:
            return _events(lines, path)
    except OSError as error:
        raise ExperimentError(
            f"an experiment folder must hold a readable {LEDGER_NAME}, but {path}: {error.strerror}. "
            "Give the folder of one search, such as results/demo."
        ) from error


def _events(lines: Iterable[bytes], path: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    broken = 0
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        if broken:
            raise ExperimentError(
                f"every line of {path} must be a JSON object with an event, but line {broken} is not. "
                "Restore the file, or remove that line to go on without it."
            )
        event = parse_line(line)
        if event is None:
            broken = number
        else:
            events.append(event)
        if not line.endswith(b"\n"):
            break  # the last one, though its writer may go on with it before another look
    return events


def read_trials(experiment: Path) -> list[TrialRecord]:
    """The trials of an experiment folder in order of number; raises `ExperimentError` as `read_ledger` does."""
    return fold_trials(read_ledger(experiment / LEDGER_NAME))


def fold_trials(
    events: Iterable[Mapping[str, Any]], spending: list[tuple[float, float]] | None = None
) -> list[TrialRecord]:
    """Fold events into trials, in order of number; events of other kinds are passed over.

    A trial that went on from an older checkpoint reports some epochs again: such a report replaces those of its own
    and of later epochs. `spending` gets the time of each event and what the slots had cost until then, as
    `LedgerWriter.spent_seconds`. Raises `ExperimentError` for an event of a trial that was never created.
    """
    return sorted(_fold(events, spending).trials.values(), key=lambda trial: trial.number)


def search_state(events: Iterable[Mapping[str, Any]]) -> str:
    """`PENDING` before the first `search_started`, `RUNNING` after it, then one of `SEARCH_STATES`.

    A search whose driver was killed reads as RUNNING: its ledger was never closed.
    """
    state = "PENDING"
    for event in events:
        if event["event"] == "search_started":
            state = "RUNNING"
        elif event["event"] == "search_ended":
            state = event["state"]
    return state


class _Folded:
    """What a ledger's events come to."""

    def __init__(self) -> None:
        self.trials: dict[str, TrialRecord] = {}
        self.slots = Slots()

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event; of an unknown kind it says only that the search still ran."""
        kind, trial_id = event["event"], str(event["trial_id"])
        if kind == "created":
            self.trials[trial_id] = TrialRecord(
                trial_id=trial_id,
                number=event["number"],
                config=event["config"],
                confirms=event.get("confirms"),
                created_time=event["time"],
            )
        trial = self.trials.get(trial_id)
        if kind in _FOLDS:
            if trial is None:
                raise ExperimentError(f"a trial must be created before its {kind!r} event, but {trial_id!r} was not.")
            _FOLDS[kind](trial, event)
        self.slots.apply(event, trial.slot_time if trial else None, len(trial.reports) if trial else 0)


def _fold(events: Iterable[Mapping[str, Any]], spending: list[tuple[float, float]] | None = None) -> _Folded:
    folded = _Folded()
    for number, event in enumerate(events, start=1):
        try:
            folded.apply(event)
            if spending is not None:
                spending.append((event["time"], folded.slots.spent(event["time"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ExperimentError(
                f"every event of a ledger must be as a search writes it, but event {number} is not: {error!r}."
            ) from error
    return folded


_NUMBERS = frozenset((float, int, bool, type(None)))


def _fold_started(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    trial.state, trial.failure, trial.ended_time = "RUNNING", None, None
    trial.attempts = event["attempt"]
    trial.node, trial.pid = event.get("node"), event.get("pid")
    if trial.started_time is None:
        trial.started_time = event["time"]


def _fold_report(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    report = dict(event)
    del report["event"], report["trial_id"]
    if not _NUMBERS.issuperset(map(type, report.values())):
        name, value = next((name, value) for name, value in report.items() if type(value) not in _NUMBERS)
        raise TypeError(f"{name} is {value!r}, and no number")
    epoch = int(report["epoch"])
    while trial.reports and trial.reports[-1]["epoch"] >= epoch:
        trial.reports.pop()
    trial.reports.append(report)
    trial.losses.saved = epoch


def _fold_saved(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    trial.losses.saved = float(event["epochs"])


def _fold_retried(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    trial.losses.lose()


def _fold_ended(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    trial.state, trial.failure, trial.ended_time = event["state"], event.get("failure"), event["time"]


def _fold_paused(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    trial.state = "PAUSED"


def _fold_promoted(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    trial.state = "PENDING"


def _fold_inherited(trial: TrialRecord, event: Mapping[str, Any]) -> None:
    trial.inheritances.append(Inherited(source=event["source"], epoch=int(event["epoch"]), config=event["config"]))


_FOLDS: dict[str, Callable[[TrialRecord, Mapping[str, Any]], None]] = {
    "started": _fold_started,
    "paused": _fold_paused,
    "promoted": _fold_promoted,
    "inherited": _fold_inherited,
    "report": _fold_report,
    "saved": _fold_saved,
    "retried": _fold_retried,
    "ended": _fold_ended,
}


def _check_state(state: str, known: tuple[str, ...]) -> None:
    if state not in known:
        raise ValueError(f"state must be one of {', '.join(known)}, but got {state!r}")
