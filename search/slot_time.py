"""The time in which trials hold slots, which is what a search costs. Part of folding a ledger.

What is in a checkpoint within an epoch is not lost where the attempt ends before the epoch does.

An attempt holds its slot from `started` to the trial's `paused`, `retried` or `ended`, or to the `search_ended` that
cut it off; where the driver died, to the last event that it wrote. A second counts as often as the slot has GPUs, or
CPUs where it has none. Every time here is in such unit-seconds, and GPUs and CPUs are never added.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNITS = ("GPU", "CPU")


@dataclass(frozen=True)
class Slot:
    """What one slot takes."""

    unit: str = "CPU"
    """One of `UNITS`: `GPU` where the slot takes any."""
    units: float = 1.0
    """How many, over all workers."""


def _none_yet() -> dict[str, float]:
    return dict.fromkeys(UNITS, 0.0)


@dataclass
class SlotTime:
    """The time of one trial in slots."""

    spent: dict[str, float] = field(default_factory=_none_yet)
    """By unit, up to the trial's last event."""
    lost: dict[str, float] = field(default_factory=_none_yet)
    """Of that, by unit, in epochs that were cut off or trained again."""
    slot: Slot | None = None
    """What it holds now."""
    counted_time: float = 0.0
    """Up to when the slot held now is counted (Unix seconds)."""
    unreported: float = 0.0
    """In the slot held now, since the last report or checkpoint there."""
    kept: float = 0.0
    """Since the last report, up to the last checkpoint within the epoch."""
    by_report: list[tuple[str, float]] = field(default_factory=list)
    """Unit and time of each of the trial's reports."""

    def spent_at(self, now: float) -> dict[str, float]:
        """By unit, up to the time `now` (Unix seconds)."""
        running = {self.slot.unit: self.spent[self.slot.unit] + self._since(now)} if self.slot else {}
        return {**self.spent, **running}

    def take(self, slot: Slot, time: float) -> None:
        """A slot took the trial; one that it still had is taken for dead."""
        self.cut_off(time)
        self.slot, self.counted_time = slot, time

    def report(self, time: float, *, kept: int) -> None:
        """An epoch is over; of the reports before it, the first `kept` still count."""
        self._count(time)
        while len(self.by_report) > kept:
            unit, seconds = self.by_report.pop()
            self.lost[unit] += seconds
        self.by_report.append(((self.slot or Slot()).unit, self.kept + self.unreported))
        self.kept = self.unreported = 0.0

    def save(self, time: float) -> None:
        """A checkpoint within the epoch was written."""
        self._count(time)
        self.kept, self.unreported = self.kept + self.unreported, 0.0

    def give_back(self, time: float) -> None:
        """The trial ended, or waits at a rung."""
        self._count(time)
        self.slot, self.unreported = None, 0.0

    def cut_off(self, time: float) -> None:
        """Processes died, or the search ended: what was not reported is lost."""
        self._count(time)
        if self.slot is not None:
            self.lost[self.slot.unit] += self.unreported
        self.slot, self.unreported = None, 0.0

    def _count(self, time: float) -> None:
        if self.slot is not None and time > self.counted_time:
            seconds = self._since(time)
            self.spent[self.slot.unit] += seconds
            self.unreported += seconds
            self.counted_time = time

    def _since(self, time: float) -> float:
        return self.slot.units * max(0.0, time - self.counted_time) if self.slot else 0.0


class Slots:
    """The slots of a search from event to event. An event costs the same, however many trials there are."""

    def __init__(self) -> None:
        self._slot = Slot()
        self._time = 0.0
        self._spent = _none_yet()
        self._holders: dict[str, SlotTime] = {}

    def spent(self, now: float) -> float:
        """Of all trials up to the time `now` (Unix seconds), in the unit of the search's latest run."""
        return self._spent[self._slot.unit] + self._since(now)

    def apply(self, event: Mapping[str, Any], trial: SlotTime | None, reports: int) -> None:
        """Take in the next event; of its trial, where it has one, the slot time and the number of reports after it."""
        kind, time = event["event"], event["time"]
        if kind == "search_started":
            self._cut_off(self._time)
            self._slot, self._time = _slot_of(event), time
            return
        if time > self._time:
            self._spent[self._slot.unit] += self._since(time)
            self._time = time
        if kind == "search_ended":
            self._cut_off(time)
        elif trial is not None:
            self._of_trial(event, trial, reports)

    def _of_trial(self, event: Mapping[str, Any], trial: SlotTime, reports: int) -> None:
        trial_id, time = event["trial_id"], event["time"]
        match event["event"]:
            case "report":
                trial.report(time, kept=reports - 1)
            case "saved":
                trial.save(time)
            case "started":
                trial.take(self._slot, time)
                self._holders[trial_id] = trial
            case "paused" | "ended":
                trial.give_back(time)
                self._holders.pop(trial_id, None)
            case "retried":
                trial.cut_off(time)
                self._holders.pop(trial_id, None)

    def _cut_off(self, time: float) -> None:
        for trial in self._holders.values():
            trial.cut_off(time)
        self._holders.clear()

    def _since(self, time: float) -> float:
        return len(self._holders) * self._slot.units * max(0.0, time - self._time)


def _slot_of(event: Mapping[str, Any]) -> Slot:
    """What a `search_started` says of the slots; one of an earlier version says nothing."""
    slot = Slot(event.get("unit", "CPU"), event.get("units", 1.0))
    if slot.unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(UNITS)}, but got {slot.unit!r}")
    return slot
