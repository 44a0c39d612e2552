"""Failed trials by their cause, and when so many of one kind mean that the search itself is wrong."""

import hashlib
import heapq
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.trials import TrialRecord
from trainable.files import write_atomically

CONFIG_DEPENDENT = ("DivergedError", "OutOfMemoryError")
"""Failures that one config has and the next may not."""
CONFIG_DEPENDENT_FACTOR = 4
"""So many times more failures of those kinds are needed before the search is stopped."""

_VARYING = (
    (re.compile(r"0x[0-9a-fA-F]+"), "<address>"),
    (re.compile(r"(?<![0-9A-Za-z])(?=[a-f]*[0-9])[0-9a-f]{6,}(?![0-9A-Za-z])"), "<id>"),
    (re.compile(r"[+-]?(?<![0-9A-Za-z])[0-9]+(?:\.[0-9]+)*(?:e[+-]?[0-9]+)?", re.IGNORECASE), "<n>"),
)


@dataclass(frozen=True)
class Cause:
    """One cause of failure and the trials that had it."""

    kind: str
    """The exception's class."""
    summary: str
    """The last line of the first such trial's traceback."""
    where: str
    """`file:line` in this project."""
    trials: tuple[TrialRecord, ...]
    """In order of their end."""
    traceback_file: str | None
    """Relative to the experiment."""


def cause_key(failure: Mapping[str, Any]) -> str:
    """What two failures share when they have the same cause: a short hash.

    Made of the exception's class, the last line of its traceback without numbers, ids and addresses, and the place.
    """
    text = "\n".join((failure["kind"], _without_varying(_last_line(failure)), failure["where"]))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def record_failure(experiment: Path, failure: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger's form of a failure; its `traceback` goes to `failures/<cause>.txt`, once per cause."""
    file = Path("failures") / f"{cause_key(failure)}.txt"
    path = experiment / file
    if not path.exists():
        write_atomically(path, lambda temporary: _write(temporary, failure["traceback"]))
    return {
        "kind": failure["kind"],
        "message": failure["message"],
        "where": failure["where"],
        "traceback_file": file.as_posix(),
    }


def group_failures(trials: Iterable[TrialRecord]) -> list[Cause]:
    """The causes of the FAILED trials, the most frequent first."""
    groups: dict[str, list[TrialRecord]] = {}
    for trial in sorted((trial for trial in trials if trial.failure is not None), key=_end):
        groups.setdefault(cause_key(trial.failure or {}), []).append(trial)
    return sorted((_cause(group) for group in groups.values()), key=lambda cause: -len(cause.trials))


def first_failures_alike(trials: Iterable[TrialRecord], count: int) -> Cause | None:
    """The cause that the first `count` ended trials all failed with; None where one did not, or fewer have ended.

    A kind that depends on the config needs `CONFIG_DEPENDENT_FACTOR` times as many: where half of the learning rates
    diverge, three diverged trials in a row say nothing about the next.
    """
    first = heapq.nsmallest(count * CONFIG_DEPENDENT_FACTOR, (trial for trial in trials if trial.ended), key=_end)
    causes = group_failures(first[:count])
    if len(causes) == 1 and causes[0].kind in CONFIG_DEPENDENT:
        count *= CONFIG_DEPENDENT_FACTOR
        causes = group_failures(first)
    return causes[0] if len(causes) == 1 and len(causes[0].trials) == count else None


def _write(path: Path, text: str) -> None:
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def _cause(trials: list[TrialRecord]) -> Cause:
    failure = trials[0].failure or {}
    return Cause(
        kind=failure["kind"],
        summary=_last_line(failure),
        where=failure["where"],
        trials=tuple(trials),
        traceback_file=failure.get("traceback_file"),
    )


def _end(trial: TrialRecord) -> tuple[float, int]:
    """Sorts trials by their end."""
    return trial.ended_time or 0.0, trial.number


def _last_line(failure: Mapping[str, Any]) -> str:
    """The exception's class and first line of its message; where the message carries a traceback, that one's last."""
    lines = [line.strip() for line in failure["message"].splitlines() if line.strip()] or [""]
    return lines[-1] if "Traceback (most recent call last)" in failure["message"] else f"{failure['kind']}: {lines[0]}"


def _without_varying(text: str) -> str:
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text
