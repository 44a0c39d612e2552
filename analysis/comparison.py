"""Several experiments side by side: who had found what when the same budget was spent, and how sure that is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.evidence import Evidence, Seeds, best_of_resamples, by_seed, by_trials, interval
from analysis.frames import Experiment
from analysis.hyperparameters import words
from trainable.errors import ConfigError, ExperimentError

EPOCHS = "epochs"
SLOT_TIME = "slot_seconds"

_NOT_ASKED = frozenset(
    (
        *("version", "name", "created", "command", "versions", "git_commit", "hardware", "dataset", "resources"),
        *("metrics", "options", "storage", "resume", "config", "logger", "keep_best", "price_per_hour", "data_path"),
        *("algo", "time_budget", "overrides"),
    )
)
"""What happened, what is told in other words, and what no trial notices."""
_ASKED_OF_A_SLOT = ("slots", "workers_per_trial", "gpus_per_worker", "cpus_per_worker")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One of the experiments that are compared."""

    label: str
    """Its name, or where two have the same its place."""
    group: str
    """What it shares with the experiments that were asked for the same, but for the seed."""
    experiment: Experiment
    course: pd.DataFrame
    """See `course_of`."""

    @property
    def seed(self) -> int | None:
        """The manifest's seed."""
        seed = self.experiment.manifest.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def unit(self) -> str:
        """`GPU`, or `CPU` where its trials take no GPU."""
        return "GPU" if (self.experiment.trials["gpu_seconds"] > 0).any() else "CPU"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What one experiment had found when a budget was spent."""

    entry: Entry
    trials: int
    """Trials that had reported by then."""
    values: np.ndarray
    """Best value of each of these trials by then; NaN where it has none, or failed."""
    value: float
    """The best of them."""
    low: float
    """Lower end of the interval of the best value."""
    high: float
    """Upper end."""


@dataclass(frozen=True, kw_only=True)
class EqualBudget:
    """All experiments, cut off at the smallest budget that all of them reached."""

    kind: str
    """`EPOCHS`, or `SLOT_TIME`: seconds times the GPUs, or else CPUs, of all slots."""
    amount: float
    unit: str
    """`epochs`, `GPU-seconds` or `CPU-seconds`."""
    standings: tuple[Standing, ...]
    evidence: tuple[Evidence, ...]
    """The leader against each of the others, the nearest first; empty where there is nobody to compare with."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that the page of a comparison says."""

    entries: tuple[Entry, ...]
    metric: str
    mode: str
    budgets: tuple[EqualBudget, ...]
    settings: dict[str, tuple[Any, ...]]
    """What was asked differently: setting -> its value in each experiment, None where it has none."""
    warnings: tuple[str, ...]

    @property
    def groups(self) -> dict[str, list[Entry]]:
        """The experiments by group, in the order in which they were named."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.group, []).append(entry)
        return found


def compare(experiments: Sequence[Experiment]) -> Comparison:
    """Compare two or more experiments of the same metric; raises `ExperimentError` where the metrics differ."""
    if len({one.place for one in experiments}) < max(2, len(experiments)):
        raise ConfigError("a comparison must have two or more different experiments. Name each once.")
    metric, mode = _same_metric(experiments)
    asked = [asked_of(one.manifest) for one in experiments]
    labels = _labels(experiments)
    courses = [course_of(one) for one in experiments]
    entries = tuple(
        Entry(label=label, group=group, experiment=experiment, course=course)
        for label, group, experiment, course in zip(labels, _groups(labels, asked), experiments, courses, strict=True)
    )
    return Comparison(
        entries=entries,
        metric=metric,
        mode=mode,
        budgets=tuple(filter(None, (_at_equal(entries, kind, mode) for kind in (EPOCHS, SLOT_TIME)))),
        settings=_differing(asked),
        warnings=tuple(_warnings(entries)),
    )


def course_of(experiment: Experiment) -> pd.DataFrame:
    """How an experiment went: one row per report in the order of time.

    Columns: `number` (the trial's), `value` (the search's metric; NaN where the trial failed), `best` (the best value
    so far), and what had been spent: `trials` that had reported, `epochs`, `slot_seconds` (seconds times the GPUs, or
    else CPUs, of all slots) and `elapsed_seconds`.
    """
    ordered = experiment.reports.sort_values("elapsed_seconds", kind="stable", ignore_index=True)
    values = ordered[experiment.metric] if experiment.metric in ordered else pd.Series(np.nan, ordered.index)
    value = values.astype(float).where(ordered["state"] != "FAILED")
    return pd.DataFrame(
        {
            "number": ordered["number"],
            "value": value,
            "best": (value.cummax() if experiment.mode == "max" else value.cummin()).ffill(),
            "trials": (~ordered["number"].duplicated()).cumsum(),
            "epochs": np.arange(1, len(ordered) + 1),
            "slot_seconds": ordered["search_slot_seconds"].astype(float),
            "elapsed_seconds": ordered["elapsed_seconds"].astype(float),
        }
    )


def asked_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of a search, flat: its settings, ranges as `space.<name>`, the data, and what a slot takes."""
    dataset = manifest.get("dataset") or {}
    resources = manifest.get("resources") or {}
    told = {**(manifest.get("options") or {}), **manifest}
    asked = {name: value for name, value in told.items() if name not in _NOT_ASKED}
    fixed = {name: value for name, value in (asked.pop("fixed", None) or {}).items() if name not in asked}
    return {
        **_flat({**asked, "fixed": fixed}),
        "data": " ".join(filter(None, (dataset.get("name"), str(dataset.get("content_hash") or "")[:8]))),
        **{name: resources[name] for name in _ASKED_OF_A_SLOT if resources.get(name) is not None},
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif value not in (None, "", []):
            found[prefix + name] = value
    return found


def _same_metric(experiments: Sequence[Experiment]) -> tuple[str, str]:
    asked = {(one.metric, one.mode) for one in experiments}
    if len(asked) > 1:
        told = "; ".join(f"{one.place}: {one.metric} ({one.mode})" for one in experiments)
        raise ExperimentError(
            f"experiments must have searched by the same metric to be compared, but {told}. Compare those that did."
        )
    return asked.pop()


def _labels(experiments: Sequence[Experiment]) -> list[str]:
    names = [one.name for one in experiments]
    return [one.name if names.count(one.name) == 1 else one.place for one in experiments]


def _groups(labels: Sequence[str], asked: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each experiment's group: those that differ by the seed alone were asked for the same.

    A group of several is named after what the groups were asked differently, or else after its first experiment.
    """
    keys = [repr(sorted((name, value) for name, value in one.items() if name != "seed")) for one in asked]
    if len(set(keys)) == len(keys):
        return list(labels)
    firsts = [asked[keys.index(key)] for key in dict.fromkeys(keys)]
    names = [_telling(one, firsts) for one in firsts]
    if len(set(names)) < len(names) or not all(names):
        names = [labels[keys.index(key)] + " …" for key in dict.fromkeys(keys)]
    return [names[list(dict.fromkeys(keys)).index(key)] for key in keys]


def _telling(asked: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """What tells one group from the others, in few words; empty where it takes many."""
    differing = [name for name in _differing(others) if name != "seed"]
    if "algorithm" in differing and len({other.get("algorithm") for other in others}) == len(others):
        return str(asked.get("algorithm"))
    if not differing:
        return "all"
    if len(differing) > 2:
        return ""
    return ", ".join(f"{words(name.removeprefix('space.'))} {asked.get(name, '–')}" for name in differing)


def _differing(asked: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    names = dict.fromkeys(name for one in asked for name in one)
    rows = {name: tuple(one.get(name) for one in asked) for name in names}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def _at_equal(entries: Sequence[Entry], kind: str, mode: str) -> EqualBudget | None:
    """The standings at the smallest budget that all reached; None where one has no report, or the units differ."""
    units = {"epochs"} if kind == EPOCHS else {f"{entry.unit}-seconds" for entry in entries}
    if len(units) > 1 or any(entry.course.empty for entry in entries):
        return None
    amount = min(float(entry.course[kind].iloc[-1]) for entry in entries)
    standings = tuple(_standing(entry, kind, amount, mode) for entry in entries)
    return EqualBudget(
        kind=kind, amount=amount, unit=units.pop(), standings=standings, evidence=tuple(_evidence(standings, mode))
    )


def _standing(entry: Entry, kind: str, amount: float, mode: str) -> Standing:
    within = entry.course[entry.course[kind] <= amount]
    by_trial = within.groupby("number")["value"]
    values = (by_trial.max() if mode == "max" else by_trial.min()).to_numpy(dtype=float)
    low, high = interval(*best_of_resamples(values, mode))
    known = values[~np.isnan(values)]
    best = np.nan if not len(known) else known.max() if mode == "max" else known.min()
    return Standing(entry=entry, trials=len(values), values=values, value=float(best), low=low, high=high)


def _evidence(standings: Sequence[Standing], mode: str) -> list[Evidence]:
    """The leader against each of the others, the nearest first.

    Groups are compared seed by seed where there are two and each has two experiments or more, else the experiments by
    resampling their trials.
    """
    sign = 1.0 if mode == "max" else -1.0
    groups: dict[str, list[Standing]] = {}
    for one in standings:
        groups.setdefault(one.entry.group, []).append(one)
    if len(groups) > 1 and all(len(members) > 1 for members in groups.values()):
        seeds = {name: _seeds(members) for name, members in groups.items()}
        pairs = math.comb(len(seeds), 2)
        leader, *others = sorted(seeds, key=lambda name: _order(sign * seeds[name].mean))
        return [by_seed(leader, seeds[leader], other, seeds[other], mode, pairs) for other in others]
    first, *rest = sorted(standings, key=lambda one: _order(sign * one.value))
    return [by_trials(first.entry.label, first.values, one.entry.label, one.values, mode) for one in rest]


def _order(value: float) -> float:
    """Sorts the largest first, and what has no value last."""
    return np.inf if np.isnan(value) else -value


def _seeds(members: Sequence[Standing]) -> Seeds:
    return Seeds(tuple((one.entry.seed, one.value) for one in members))


def _warnings(entries: Sequence[Entry]) -> list[str]:
    """What a reader must know before the figures mean anything."""
    found = []
    data = {entry.label: asked_of(entry.experiment.manifest)["data"] or "data of no name" for entry in entries}
    if len(set(data.values())) > 1:
        told = ", ".join(f"{label} on {name}" for label, name in data.items())
        found.append(f"The data differ ({told}): a better value may come from easier data, not from a better search.")
    hardware = {repr(entry.experiment.manifest.get("hardware") or {}) for entry in entries}
    if len(hardware) > 1:
        found.append("The machines differ, so the same time in slots was not the same work.")
    if len({entry.unit for entry in entries}) > 1:
        found.append("Some trials took GPUs and some none: GPU-seconds and CPU-seconds are not compared.")
    empty = [entry.label for entry in entries if entry.course.empty]
    if empty:
        found.append(f"Without a report nothing can be compared at equal budgets: {', '.join(empty)}.")
    running = [entry.label for entry in entries if entry.experiment.state in ("PENDING", "RUNNING")]
    if running:
        found.append(f"Not ended yet: {', '.join(running)}.")
    return found
