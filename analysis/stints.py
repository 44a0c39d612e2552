"""The stays of trials in slots: which trial ran where, from when to when."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ("trial_id", "number", "attempt", "node", "pid", "slot", "fate", "began", "ended")
_ENDS = ("paused", "retried", "ended")


def stints(events: Sequence[Mapping[str, Any]], elapsed_of: Callable[[Sequence[float]], np.ndarray]) -> pd.DataFrame:
    """One row per stay of a trial in a slot, in the order in which they began. Trials that confirm others count too.

    `elapsed_of` turns unix seconds into seconds of searching.

    | column | meaning |
    |---|---|
    | `trial_id`, `number`, `attempt` | the trial, its place in the order of creation, and its how many-th start |
    | `node`, `pid` | host and process of its first worker |
    | `slot` | the ledger numbers no slots: the lowest free one of the node, that of the same process before others |
    | `fate` | FINISHED, STOPPED, FAILED or PAUSED; LOST where it was cut off; RUNNING where it goes on |
    | `began`, `ended` | seconds of searching since the start; RUNNING ones are counted to the last event |
    """
    rows = _Folded().of(events)
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "slot"])
    began, ended = (elapsed_of(frame[name].astype(float).tolist()) for name in ("began", "ended"))
    frame = frame.assign(began=began, ended=np.maximum(began, ended))
    ordered = frame.sort_values("began", kind="stable", ignore_index=True)
    return ordered.assign(slot=_slots(ordered))[list(COLUMNS)]


def busy_share(frame: pd.DataFrame, seconds: float, bins: int = 1) -> np.ndarray:
    """Which share of each of `bins` equal stretches of the search each slot was taken: (slots, bins), from 0 to 1.

    Slots in the order of `slot_names`.
    """
    edges = np.linspace(0.0, seconds, bins + 1)
    rows = [np.diff(_taken(group, edges)) for _, group in frame.groupby(["node", "slot"], sort=True)]
    return np.asarray(rows).reshape(-1, bins) / max(seconds / bins, 1e-9)


def slot_names(frame: pd.DataFrame) -> dict[tuple[str, int], str]:
    """Node and slot -> what the slot is called, nodes by name and their slots in order."""
    places = sorted(set(zip(frame["node"], frame["slot"], strict=True)))
    one_node = len({node for node, _ in places}) == 1
    return {(node, slot): f"slot {slot + 1}" if one_node else f"{node} · {slot + 1}" for node, slot in places}


def _taken(group: pd.DataFrame, times: np.ndarray) -> np.ndarray:
    """For how many seconds a slot had been taken at each of `times`."""
    began, ended = np.sort(group["began"].to_numpy(float)), np.sort(group["ended"].to_numpy(float))
    return _since(began, times) - _since(ended, times)


def _since(moments: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The sum over all `moments` (sorted) before each time of the seconds since then."""
    count = np.searchsorted(moments, times, side="right")
    return count * times - np.concatenate([[0.0], np.cumsum(moments)])[count]


@dataclass
class _Folded:
    """What of the events is known so far."""

    numbers: dict[str, int] = field(default_factory=dict)
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def of(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows of all events."""
        last = 0.0
        for event in events:
            self._apply(event, last)
            last = event["time"]
        for trial_id in list(self.open):
            self._close(trial_id, "RUNNING", last)
        return self.rows

    def _apply(self, event: Mapping[str, Any], last: float) -> None:
        kind, trial_id, time = event["event"], str(event["trial_id"]), event["time"]
        if kind in ("search_started", "search_ended"):
            for held in list(self.open):
                self._close(held, "LOST", last if kind == "search_started" else time)
        elif kind == "created":
            self.numbers[trial_id] = event["number"]
        elif kind == "started":
            self._close(trial_id, "LOST", time)
            self.open[trial_id] = {
                "trial_id": trial_id,
                "number": self.numbers[trial_id],
                "attempt": event["attempt"],
                "node": str(event.get("node") or "unknown node"),
                "pid": event.get("pid"),
                "began": time,
            }
        elif kind in _ENDS:
            self._close(trial_id, {"paused": "PAUSED", "retried": "LOST"}.get(kind) or event["state"], time)

    def _close(self, trial_id: str, fate: str, time: float) -> None:
        held = self.open.pop(trial_id, None)
        if held is not None:
            self.rows.append({**held, "fate": fate, "ended": time})


def _slots(frame: pd.DataFrame) -> list[int]:
    """A slot for each stay, so that no two stays overlap in one."""
    free_from: dict[str, list[float]] = {}
    last_pid: dict[tuple[str, int], Any] = {}
    slots = []
    for node, pid, began, ended in zip(frame["node"], frame["pid"], frame["began"], frame["ended"], strict=True):
        ends = free_from.setdefault(node, [])
        free = [slot for slot, end in enumerate(ends) if end <= began]
        slot = next((one for one in free if last_pid[node, one] == pid), free[0] if free else len(ends))
        ends[slot : slot + 1] = [ended]
        last_pid[node, slot] = pid
        slots.append(slot)
    return slots
