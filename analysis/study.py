"""An experiment as a study of Optuna, for its plots, its importances and its samplers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from analysis.frames import CONFIG, Experiment
from analysis.hyperparameters import Hyperparameter, is_missing

_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
_STATES = {"FINISHED": TrialState.COMPLETE, "STOPPED": TrialState.PRUNED, "FAILED": TrialState.FAIL}


def study_of(experiment: Experiment) -> optuna.Study:
    """Every trial of an experiment, as `analysis.to_optuna_study` says."""
    distributions = distributions_of(experiment)
    reports = _by_trial(experiment)
    trials = [
        _frozen(row, experiment, distributions, reports.get(row["number"], []))
        for row in experiment.trials.to_dict("records")
    ]
    return study_with(trials, experiment.name, list(experiment.metrics.values()))


def study_with(trials: list[FrozenTrial], name: str, modes: list[str]) -> optuna.Study:
    """A study in memory with these trials; `modes` has `max` or `min` of each objective."""
    with _quiet():
        study = optuna.create_study(study_name=name, directions=[_DIRECTIONS[mode] for mode in modes])
        study.add_trials(trials)
    return study


def distributions_of(experiment: Experiment) -> dict[str, BaseDistribution]:
    """What each hyperparameter that was searched was drawn from, widened to hold every value that a trial had."""
    space = experiment.manifest.get("space") or {}
    return {
        name: _distribution(domain, str(space.get(name, "")), experiment.trials[CONFIG + name].dropna().tolist())
        for name, domain in experiment.hyperparameters.items()
        if domain.varied and CONFIG + name in experiment.trials
    }


def params_of(row: Mapping[Any, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The hyperparameters of a row of the trials frame that acted in its trial, as Optuna takes them."""
    values = {name: row[CONFIG + name] for name in distributions if not is_missing(row[CONFIG + name])}
    return {name: _as(distributions[name], value) for name, value in values.items()}


def _frozen(
    row: Mapping[Any, Any],
    experiment: Experiment,
    distributions: Mapping[str, BaseDistribution],
    reports: list[dict[str, Any]],
) -> FrozenTrial:
    params = params_of(row, distributions)
    fixed = {
        str(name).removeprefix(CONFIG): value
        for name, value in row.items()
        if str(name).startswith(CONFIG) and str(name).removeprefix(CONFIG) not in params and not is_missing(value)
    }
    values = _values(row, experiment, reports)
    state = _STATES.get(row["state"], TrialState.RUNNING)
    if state is TrialState.COMPLETE and values is None:
        state = TrialState.FAIL
    several = len(experiment.metrics) > 1
    trial = optuna.create_trial(
        state=state,
        values=values if state is TrialState.COMPLETE or (state is TrialState.PRUNED and not several) else None,
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs={"trial_id": row["trial_id"], "number": row["number"], **fixed, **_reason(row)},
        intermediate_values={} if several else _curve(reports, experiment.metric),
    )
    trial.datetime_start = datetime.fromtimestamp(row["created_time"])
    if state.is_finished():
        ended = row["created_time"] if is_missing(row["ended_time"]) else row["ended_time"]
        trial.datetime_complete = datetime.fromtimestamp(ended)
    return trial


def _values(row: Mapping[Any, Any], experiment: Experiment, reports: list[dict[str, Any]]) -> list[float] | None:
    """Of one metric the best value, of several those of the last report; None where one is missing."""
    if len(experiment.metrics) == 1:
        values = [row["best_value"]]
    else:
        values = [reports[-1].get(name) for name in experiment.metrics] if reports else [None]
    return None if any(map(is_missing, values)) else values


def _reason(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {} if is_missing(row["failure/kind"]) else {"failure": f"{row['failure/kind']}: {row['failure/message']}"}


def _curve(reports: list[dict[str, Any]], metric: str) -> dict[int, float]:
    return {report["epoch"]: report[metric] for report in reports if not is_missing(report.get(metric))}


def _by_trial(experiment: Experiment) -> dict[int, list[dict[str, Any]]]:
    """The epoch and the metrics of every report, by trial."""
    columns = ["number", "epoch", *(name for name in experiment.metrics if name in experiment.reports)]
    found: dict[int, list[dict[str, Any]]] = {}
    for report in experiment.reports[columns].to_dict("records"):
        found.setdefault(report["number"], []).append({str(name): value for name, value in report.items()})
    return found


def _distribution(domain: Hyperparameter, expression: str, drawn: list[Any]) -> BaseDistribution:
    if domain.values:
        return CategoricalDistribution(domain.values)
    low, high = min([domain.low, *drawn]), max([domain.high, *drawn])
    if expression.lstrip().startswith("randint") or (not expression and all(isinstance(one, int) for one in drawn)):
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=domain.log)


def _as(distribution: BaseDistribution, value: Any) -> Any:
    """A value of a frame, where numbers of a column may all have become floats, as the distribution has it."""
    match distribution:
        case IntDistribution():
            return int(value)
        case FloatDistribution():
            return float(value)
        case CategoricalDistribution(choices=choices):
            alike = [one for one in choices if one == value and isinstance(one, bool) == isinstance(value, bool)]
            return alike[0] if alike else value
    return value


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Optuna not say that a study was made."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
