"""The plot of one metric against another, where a search had several."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.frames import Experiment
from analysis.hyperparameters import words
from analysis.pareto import FRONT, outcomes
from analysis.plot import Axis, Plot, Role, Series, Symbol
from analysis.summary import number, plural


def trade_offs(experiment: Experiment) -> list[Plot]:
    """The first metric against each of the others; none where there is one metric alone."""
    first, *others = experiment.metrics
    if not others:
        return []
    found = outcomes(experiment.reports, experiment.trials, experiment.metrics)
    return [trade_off(found, first, other) for other in others]


def trade_off(found: pd.DataFrame, metric: str, other: str) -> Plot:
    """`metric` against `other` of the trials of `outcomes`, those on the front apart."""
    front = found[found[FRONT].astype(bool)].sort_values([other, metric])
    rest = found.drop(front.index)
    series = (
        _points("stopped early", rest[rest["state"] == "STOPPED"], metric, other, "stopped", "ring"),
        _points("running", rest[rest["state"] == "RUNNING"], metric, other, "running", "triangle"),
        _points("to the end", rest[rest["state"] == "FINISHED"], metric, other, "finished", "disc"),
        _points("Pareto front", front, metric, other, "best", "disc"),
    )
    return Plot(
        name=f"{metric}_against_{other}",
        title=f"{words(metric)} against {words(other)}".capitalize(),
        caption=f"{plural(len(front), 'trial')} of {len(found):,} on the front." if len(found) else "",
        x=Axis(label=words(other)),
        y=Axis(label=words(metric)),
        series=tuple(entry for entry in series if len(entry.x)),
    )


def _points(name: str, group: pd.DataFrame, metric: str, other: str, role: Role, symbol: Symbol) -> Series:
    return Series(
        name=name,
        style="points",
        role=role,
        symbol=symbol,
        x=group[other].astype(float).tolist(),
        y=group[metric].astype(float).tolist(),
        hover=[_hover(row, metric, other) for row in group.to_dict("records")],
    )


def _hover(row: Mapping[Any, Any], metric: str, other: str) -> str:
    values = "\n".join(f"{words(name)} {number(float(row[name]))}" for name in (metric, other))
    return f"trial {row['number']}, after {plural(int(row['epoch']), 'epoch')}\n{values}"
