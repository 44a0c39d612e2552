"""An experiment folder as tidy pandas frames."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.hyperparameters import Hyperparameter, hyperparameters_of
from analysis.loading import Both, in_turn, no_collection
from analysis.stints import stints
from search.ledger import LEDGER_NAME, fold_trials, read_ledger, search_state
from search.trials import Report, TrialRecord, is_finite, searched
from trainable.errors import ExperimentError
from trainable.files import read_json

CONFIG = "config/"
_FAILURE_KEYS = ("kind", "message", "where", "traceback_file")
_MOST = 2**53
"""Up to here a float holds every integer."""
_OF_TRIAL = ("trial_id", "number", "state")
_REPORT_COLUMNS = (
    *("trial_id", "number", "state", "epoch", "samples_seen"),
    *("time", "elapsed_seconds", "search_slot_seconds"),
)


@dataclass(frozen=True)
class Stretches:
    """Trials in stretches of one config: a trial has a further one where it went on from another's checkpoint."""

    configs: pd.DataFrame
    """A row per stretch, with every hyperparameter as a column `config/<name>`."""
    of_report: np.ndarray
    """The row of `configs` of each row of the reports frame."""

    def configs_of(self, reports: pd.DataFrame) -> pd.DataFrame:
        """The configs of some rows of the reports frame, under their index."""
        return self.configs.take(self.of_report[reports.index]).set_axis(reports.index)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything the analysis knows of one experiment."""

    path: Path
    """The folder that it was read from."""
    manifest: dict[str, Any]
    """`experiment.json`: what was asked, of which data, with which versions."""
    best: dict[str, Any] | None
    """`best.json`, which a search writes when it has chosen; None before."""
    confirmation: dict[str, Any] | None = None
    """`confirmation.json`: the best configs trained again with further seeds; None where that was not asked."""
    state: str
    """PENDING, RUNNING, or how the search ended (`search.ledger.SEARCH_STATES`)."""
    seconds: float
    """Time spent searching until the last event, pauses between two runs left out."""
    reports: pd.DataFrame
    """One row per report; see `analysis.load`. The hyperparameters are in `stretches`."""
    stretches: Stretches
    """What every report was trained with."""
    trials: pd.DataFrame
    """One row per trial of the search itself; see `analysis.load`."""
    confirming: pd.DataFrame
    """The same of the trials that only confirm others."""
    hyperparameters: dict[str, Hyperparameter]
    """Those that are worth a plot, by name."""
    stints: pd.DataFrame = field(default_factory=lambda: stints([], np.asarray))
    """One row per stay of a trial in a slot; see `analysis.stints`."""
    address: str = ""
    """Where it lies, if the folder is only a copy."""

    def with_configs(self, reports: pd.DataFrame) -> pd.DataFrame:
        """Rows of `reports` with every hyperparameter as a column `config/<name>`, as the epoch was trained with it."""
        return pd.concat([reports, self.stretches.configs_of(reports)], axis="columns")

    @property
    def place(self) -> str:
        """How a command names it."""
        return self.address or str(self.path)

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self.manifest.get("name") or self.path.resolve().name)

    @property
    def metric(self) -> str:
        """The metric that the search optimised."""
        return str(self.manifest.get("metric") or "val_accuracy")

    @property
    def mode(self) -> str:
        """`max` or `min`."""
        return "min" if self.manifest.get("mode") == "min" else "max"

    @property
    def metrics(self) -> dict[str, str]:
        """Every metric that the search optimised, with its mode, the one that ranks the trials first."""
        return dict(self.manifest.get("metrics") or {self.metric: self.mode})

    @property
    def chance(self) -> float | None:
        """What guessing gives by the search's metric; None where the manifest does not count the classes."""
        return self.chance_of(self.metric)

    def chance_of(self, metric: str) -> float | None:
        """Accuracy of guessing among the trained classes, or where `metric` is of unseen ones among its candidates."""
        dataset = self.manifest.get("dataset") or {}
        unseen = len((dataset.get("unseen") or {}).get("validation", ()))
        train = (dataset.get("counts") or {}).get("train")
        classes = sum(1 for count in train.values() if count) if isinstance(train, dict) else 0
        if "unseen" in metric:
            return 1 / unseen if unseen else None
        return 1 / (classes + ("harmonic" in metric) * unseen) if classes else None


def load_experiment(path: Path, address: str = "") -> Experiment:
    """Read an experiment folder, whatever its state; raises `ExperimentError` where it is none.

    `address` says where the experiment lies if the folder is only a copy.
    """
    with no_collection():
        return experiment_of(read_folder(path), address)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What an experiment folder holds, as it was read."""

    path: Path
    manifest: dict[str, Any]
    best: dict[str, Any] | None
    confirmation: dict[str, Any] | None
    events: list[dict[str, Any]]
    trials: list[TrialRecord]
    """Those that confirm others, too."""
    spending: list[tuple[float, float]]
    """The time of each event, and what the search had spent in slots until then."""


def read_folder(path: Path) -> Folder:
    """Read an experiment folder; raises `ExperimentError` where it is none."""
    manifest = _read_manifest(path)
    events = read_ledger(path / LEDGER_NAME) if (path / LEDGER_NAME).exists() else []
    spending: list[tuple[float, float]] = []
    return Folder(
        path=path,
        manifest=manifest,
        best=read_json(path / "best.json"),
        confirmation=read_json(path / "confirmation.json"),
        events=events,
        trials=fold_trials(events, spending),
        spending=spending,
    )


def experiment_of(folder: Folder, address: str = "", *, both: Both = in_turn) -> Experiment:
    """The frames of what was read; `both` makes those of reports and those of trials."""
    events, manifest, best, records = folder.events, folder.manifest, folder.best, searched(folder.trials)
    clock = Clock(events)
    metric, mode = str(manifest.get("metric") or "val_accuracy"), str(manifest.get("mode") or "max")
    confirmed = best["trial_id"] if best and best.get("confirmation") else None
    now = events[-1]["time"] if events else 0.0

    def of_reports() -> dict[str, Any]:
        return {"reports": reports_frame(records, clock, folder.spending), "stretches": stretches_of(records)}

    def of_trials() -> dict[str, Any]:
        confirming = [trial for trial in folder.trials if trial.confirms]
        return {
            "trials": trials_frame(records, metric, mode, now=now, first=confirmed),
            "confirming": trials_frame(confirming, metric, mode, now=now),
            "hyperparameters": hyperparameters_of(manifest.get("space") or {}, _drawn(records)),
            "stints": stints(events, clock.elapsed_of),
        }

    frames = both(of_reports, of_trials)
    return Experiment(
        path=folder.path,
        manifest=manifest,
        best=best,
        confirmation=folder.confirmation,
        state=search_state(events),
        seconds=clock.elapsed(now) if events else 0.0,
        address=address,
        **frames[0],
        **frames[1],
    )


class Clock:
    """Turns unix seconds into seconds of searching: pauses between two runs of a search do not count."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self._start = events[0]["time"] if events else 0.0
        self._ends: list[float] = []
        self._paused: list[float] = [0.0]
        for before, event in pairwise(events):
            if event["event"] == "search_started":
                self._ends.append(event["time"])
                self._paused.append(self._paused[-1] + max(0.0, event["time"] - before["time"]))

    def elapsed(self, time: float) -> float:
        """Seconds of searching between the first event and `time` (unix seconds)."""
        return float(self.elapsed_of([time])[0])

    def elapsed_of(self, times: Sequence[float] | np.ndarray) -> np.ndarray:
        """The same of many times."""
        at = np.asarray(times, dtype=float)
        paused = np.asarray(self._paused)[np.searchsorted(self._ends, at, side="right")]
        return np.asarray(at - self._start - paused)


def reports_frame(
    records: Sequence[TrialRecord], clock: Clock, spending: Sequence[tuple[float, float]] = ()
) -> pd.DataFrame:
    """One row per report, in the order of trial and epoch; columns as documented at `analysis.load`, less the configs.

    `spending` is the time of each event and what the search had spent in slots until then.
    """
    reports = [report for record in records for report in record.reports]
    if not reports:
        return pd.DataFrame(columns=list(_REPORT_COLUMNS))
    counts = [len(record.reports) for record in records]
    reported = _numbers_of(reports)
    columns: dict[str, Any] = {
        **{name: pd.Series([getattr(record, name) for record in records]).repeat(counts).array for name in _OF_TRIAL},
        **reported,
        "elapsed_seconds": clock.elapsed_of(reported["time"]),
        "search_slot_seconds": _spent_at(reported["time"], spending),
    }
    front = [name for name in _REPORT_COLUMNS if name in columns]
    return pd.DataFrame({name: columns[name] for name in [*front, *(name for name in columns if name not in front)]})


def stretches_of(records: Sequence[TrialRecord]) -> Stretches:
    """The configs of trials, and which of them each report of the reports frame was trained with."""
    configs: list[dict[str, Any]] = []
    of_report: list[int] = []
    for record in records:
        begun = [0, *(one.epoch for one in record.inheritances)]
        if record.inheritances:
            of_report += [len(configs) + _last_begun(begun, report["epoch"]) for report in record.reports]
        else:
            of_report += [len(configs)] * len(record.reports)
        configs += [record.config, *(one.config for one in record.inheritances)]
    return Stretches(pd.DataFrame(configs).add_prefix(CONFIG), np.asarray(of_report, dtype=int))


def trials_frame(
    records: Sequence[TrialRecord], metric: str, mode: str, *, now: float, first: str | None = None
) -> pd.DataFrame:
    """One row per trial, in the order of creation; columns as documented at `analysis.load`.

    A trial that still runs has held its slot up to `now` (unix seconds). `first` is the id of the trial that came out
    best where the best few were confirmed.
    """
    bests = [_best_of(record, metric, mode) for record in records]
    rows = [_trial_row(record, best, metric, now) for record, best in zip(records, bests, strict=True)]
    frame = pd.DataFrame(rows, columns=None if rows else list(_trial_row(_NOBODY, None, metric, now)))
    frame.insert(3, "rank", _ranks(frame, mode, first))
    metrics = pd.DataFrame([_metrics_of(best) for best in bests], index=frame.index).add_prefix("best/")
    of_best = [record.config_at(best["epoch"] if best else 0) for record, best in zip(records, bests, strict=True)]
    configs = pd.DataFrame(of_best, index=frame.index).add_prefix(CONFIG)
    return pd.concat([frame, metrics, configs], axis="columns")


_NOBODY = TrialRecord(trial_id="", number=0, config={}, created_time=0.0)


def _trial_row(record: TrialRecord, best: dict[str, Any] | None, metric: str, now: float) -> dict[str, Any]:
    failure = record.failure or {}
    spent, lost = record.slot_time.spent_at(now), record.slot_time.lost
    return {
        "trial_id": record.trial_id,
        "number": record.number,
        "state": record.state,
        "attempts": record.attempts,
        "epochs": record.epochs,
        "best_epoch": best["epoch"] if best else math.nan,
        "best_value": best[metric] if best else math.nan,
        "train_seconds": sum(report.get("epoch_seconds") or 0.0 for report in record.reports),
        **{f"{unit.lower()}_seconds": seconds for unit, seconds in spent.items()},
        **{f"lost_{unit.lower()}_seconds": seconds for unit, seconds in lost.items()},
        "created_time": record.created_time,
        "started_time": _or_nan(record.started_time),
        "ended_time": _or_nan(record.ended_time),
        **{f"failure/{key}": failure.get(key) for key in _FAILURE_KEYS},
    }


def _best_of(record: TrialRecord, metric: str, mode: str) -> dict[str, Any] | None:
    """A trial's best report by the search's metric, the earliest of equals; None without a finite value."""
    finite = [report for report in record.reports if is_finite(report.get(metric))]
    sign = 1.0 if mode == "min" else -1.0
    return min(finite, key=lambda report: (sign * report[metric], report["epoch"]), default=None)


def _ranks(trials: pd.DataFrame, mode: str, first: str | None) -> pd.Series:
    """1 for the best trial; equals go to fewer epochs, then to the lower number, as in `search.trials.best_report`."""
    eligible = trials[(trials["state"] != "FAILED") & trials["best_value"].notna()]
    ordered = eligible.sort_values(["best_value", "best_epoch", "number"], ascending=[mode == "min", True, True])
    ordered = ordered.sort_values("trial_id", key=lambda ids: ids != first, kind="stable")
    return pd.Series(range(1, len(ordered) + 1), index=ordered.index, dtype=float).reindex(trials.index)


def _metrics_of(report: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in _with_nan(report or {}).items() if key not in ("epoch", "time")}


def _last_begun(begun: Sequence[int], epoch: int) -> int:
    """Which of the stretches that began after these epochs an epoch belongs to."""
    return max((place for place, first in enumerate(begun) if first < max(1, epoch)), key=lambda place: begun[place])


def _spent_at(times: np.ndarray, spending: Sequence[tuple[float, float]]) -> np.ndarray:
    """What the search had spent in slots at each time, in unit-seconds."""
    events, spent = zip((-math.inf, 0.0), *spending, strict=True)
    return np.asarray(spent)[np.searchsorted(events, times, side="right") - 1]


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every key of many mappings, in order of their first appearance."""
    return list(dict.fromkeys(chain.from_iterable(rows)))


def _numbers_of(reports: Sequence[Report]) -> dict[str, np.ndarray]:
    """A column per name: of integers where all are, else of floats.

    None, the ledger's word for what is not finite, is NaN, and so is what is not there.
    """
    names = _names(reports)
    rows = [tuple(map(report.get, names)) for report in reports]
    values = np.array(rows, dtype=float)
    columns = {}
    for at, name in enumerate(names):
        column = values[:, at]
        whole = type(rows[0][at]) is int and all(type(row[at]) is int for row in rows)
        columns[name] = column.astype(int) if whole and (np.abs(column) <= _MOST).all() else column
    return columns


def _drawn(records: Sequence[TrialRecord]) -> dict[str, list[Any]]:
    configs = [record.config for record in records]
    return {name: [config.get(name) for config in configs] for name in _names(configs)}


def _with_nan(report: dict[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in report.items()}


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = read_json(path / "experiment.json")
    if manifest is not None:
        if not isinstance(manifest.get("dataset") or {}, dict):
            raise ExperimentError(
                f"{path / 'experiment.json'} must say which data the search is of, but its dataset is "
                f"{manifest['dataset']!r}. Restore the file."
            )
        return manifest
    beside = [folder.parent.name for folder in path.parent.glob("*/experiment.json")] if path.parent.is_dir() else []
    close = get_close_matches(path.name, beside, n=1)
    hint = (
        f"Did you mean {path.parent / close[0]}?" if close else "Give the folder of one search, such as results/demo."
    )
    raise ExperimentError(f"an experiment folder must hold experiment.json, but {path} does not. {hint}")
