"""What the weights of an epoch were trained with where trials go on from each other's checkpoints: a schedule."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from search.trials import TrialRecord

ScheduleStep = dict[str, Any]
"""`epoch`, after which it began; `source`, the trial whose checkpoint of that epoch was taken, None at the start;
`changes`, the hyperparameters that had other values from then on, at the start all that ever change."""


def schedule_of(trials: Mapping[str, TrialRecord], trial: TrialRecord, epoch: int) -> list[ScheduleStep]:
    """How the weights of a trial at an epoch came about, oldest first; empty where one config trained them.

    A trial's weights are those of its source up to the epoch that it inherited at, and so on back to one that began.
    """
    stretches: list[tuple[int, str | None, Mapping[str, Any]]] = []
    while inherited := [one for one in trial.inheritances if one.epoch < epoch]:
        last = inherited[-1]
        stretches.insert(0, (last.epoch, last.source, last.config))
        trial, epoch = trials[last.source], last.epoch
    if not stretches:
        return []
    stretches.insert(0, (0, None, trial.config))
    configs = [config for *_, config in stretches]
    changes = [_differences(*pair) for pair in pairwise(configs)]
    at_first = {name: configs[0][name] for name in sorted({name for change in changes for name in change})}
    return [
        {"epoch": began, "source": source, "changes": change}
        for (began, source, _), change in zip(stretches, [at_first, *changes], strict=True)
    ]


def schedule_lines(schedule: Sequence[Mapping[str, Any]]) -> list[str]:
    """A schedule in plain words; empty where there is none."""
    if not schedule:
        return []
    first, *later = schedule
    lines = [f"Its weights were trained by a schedule. At first {_values(first['changes'])}"]
    for one in later:
        lines.append(f"  from epoch {one['epoch'] + 1}, on weights of {one['source']}: {_values(one['changes'])}")
    return lines


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if name not in before or value != before[name]}


def _values(changes: Mapping[str, Any]) -> str:
    shown = [f"{name} {f'{value:.4g}' if isinstance(value, float) else value}" for name, value in changes.items()]
    return ", ".join(shown) or "nothing changed"
