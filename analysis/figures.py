"""The report's plots: each function takes frames as `analysis.load` gives them and returns a `Plot`.

`plot.plotly()` and `plot.matplotlib()` draw it.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

import pandas as pd

from analysis.frames import CONFIG, Experiment
from analysis.hyperparameters import Hyperparameter, infer, words
from analysis.plot import Axis, Mark, Plot, Role, Series, Symbol
from analysis.summary import STATE_WORDS, best_so_far, failures, number, plural
from analysis.trade_off import trade_offs

POINTS = 2_000
"""Most trials that one scatter plot shows."""
CURVE_POINTS = 12_000
"""Most reports that one plot of curves shows."""
NAMED = 3
"""How many of the best trials stand out by name."""

_LABEL_LETTERS = 16
_LEGEND = {**STATE_WORDS, "FINISHED": "to the end"}
_SYMBOLS: dict[str, Symbol] = {
    "STOPPED": "ring",
    "PAUSED": "ring",
    "RUNNING": "triangle",
    "FINISHED": "disc",
    "FAILED": "cross",
}
_ROLES: dict[str, Role] = {
    "STOPPED": "stopped",
    "PAUSED": "stopped",
    "RUNNING": "running",
    "FINISHED": "finished",
    "FAILED": "failed",
}
_PODIUM: tuple[Role, ...] = ("best", "second", "third")


def plots_of(experiment: Experiment) -> dict[str, list[Plot]]:
    """Every plot of the report by section: `hyperparameters`, `trade_off`, `curves`, `progress`, `failures`.

    Empty plots are left out, and that of the failures where all failed alike.
    """
    reports, trials, metric, mode = experiment.reports, experiment.trials, experiment.metric, experiment.mode
    sections = {
        "hyperparameters": [
            against(trials, name, domain, metric=metric, chance=experiment.chance)
            for name, domain in experiment.hyperparameters.items()
        ],
        "trade_off": trade_offs(experiment),
        "curves": [
            curves(reports, trials, column, rungs=rungs_of(experiment.manifest), chance=experiment.chance_of(column))
            for column in dict.fromkeys((metric, "val_accuracy", "train_accuracy", "val_loss", "train_loss"))
        ],
        "progress": [progress(reports, metric=metric, mode=mode, chance=experiment.chance)],
        "failures": [failure_counts(trials)] if len(failures(trials)) > 1 else [],
    }
    return {name: [plot for plot in plots if plot.series] for name, plots in sections.items()}


def against(
    trials: pd.DataFrame,
    name: str,
    domain: Hyperparameter | None = None,
    *,
    metric: str = "val_accuracy",
    chance: float | None = None,
) -> Plot:
    """Each trial's `metric` at its best epoch against one hyperparameter.

    Colour is the number of epochs trained and the symbol the state: a trial stopped after one epoch says little.
    Failed trials are crosses, at the foot of the plot when they never had a value. `domain` gives the axis; without it
    the axis is inferred from the values drawn.
    """
    known = trials.dropna(subset=[CONFIG + name]) if CONFIG + name in trials else trials.iloc[:0]
    shown, note = thin(known, POINTS)
    domain = domain or infer(name, known[CONFIG + name].tolist() if len(known) else [])
    values = shown.get(f"best/{metric}", math.nan)
    shown = shown.assign(x=_positions(shown, domain), y=values, hover=_hover(shown, metric))
    return Plot(
        name=f"{metric}_against_{name}",
        title=_sentence(f"{words(metric)} against {words(name)}"),
        caption=" ".join([*_held(domain), *note, *(["No trial has a value."] if shown["y"].isna().all() else [])]),
        x=_axis(domain),
        y=Axis(label=words(metric)),
        series=_by_state(shown, chance if metric.endswith("accuracy") else None),
        scale="epochs trained",
        marks=_chance_mark(metric, chance),
    )


def curves(
    reports: pd.DataFrame,
    trials: pd.DataFrame,
    column: str,
    *,
    rungs: Sequence[int] = (),
    chance: float | None = None,
) -> Plot:
    """`column` (`val_accuracy`, `train_loss` …) by epoch for every trial, the best trials named, the rungs marked."""
    usable = reports.dropna(subset=[column]) if column in reports else reports.iloc[:0]
    reported = trials[trials["trial_id"].isin(usable["trial_id"])]
    per_trial = max(1.0, len(usable) / max(1, len(reported)))
    shown, note = thin(reported, int(CURVE_POINTS / per_trial))
    named = shown[shown["rank"] <= NAMED].sort_values("rank", ascending=False)
    crowd = shown[~shown["trial_id"].isin(named["trial_id"])]
    series = [
        _lines(_LEGEND[state], usable, crowd[crowd["state"] == state], column, _ROLES[state])
        for state in ("STOPPED", "PAUSED", "FINISHED", "RUNNING", "FAILED")
    ]
    series += [
        _lines(
            f"trial {trial['number']}{' (best)' if trial['rank'] == 1 else ''}",
            usable,
            named.loc[[index]],
            column,
            _PODIUM[int(trial["rank"]) - 1],
        )
        for index, trial in named.iterrows()
    ]
    return Plot(
        name=f"curves_{column}",
        title=_sentence(f"{words(column)} by epoch"),
        caption=" ".join(note),
        x=Axis(label="epoch"),
        y=Axis(label=words(column), log=_spreads(usable[column]) if len(usable) else False),
        series=tuple(entry for entry in series if len(entry.x)),
        marks=(*(Mark(rung, "rung", vertical=True) for rung in rungs), *_chance_mark(column, chance)),
    )


def progress(
    reports: pd.DataFrame, *, metric: str = "val_accuracy", mode: str = "max", chance: float | None = None
) -> Plot:
    """The best value so far against time, over a faint point for every report."""
    best = best_so_far(reports, metric, mode)
    usable = reports.dropna(subset=[metric]) if metric in reports else reports.iloc[:0]
    shown, note = usable, []
    if len(usable) > CURVE_POINTS:
        shown = usable.iloc[:: math.ceil(len(usable) / CURVE_POINTS)]
        note = [f"Shows {len(shown):,} of {len(usable):,} reports."]
    end = float(usable["elapsed_seconds"].max()) if len(usable) else 0.0
    unit, seconds = next((u for u in (("hours", 3600), ("minutes", 60)) if end >= 3 * u[1]), ("seconds", 1))
    series = (
        Series(
            name="every report",
            style="points",
            x=(shown["elapsed_seconds"] / seconds).tolist(),
            y=shown[metric].tolist() if len(shown) else [],
            hover=_report_hover(shown, metric),
        ),
        Series(
            name="best so far",
            style="steps",
            role="best",
            x=[*(best["elapsed_seconds"] / seconds), end / seconds] if len(best) else [],
            y=[*best["value"], best["value"].iloc[-1]] if len(best) else [],
            hover=[*_report_hover(best, "value"), "now"] if len(best) else [],
        ),
    )
    return Plot(
        name="best_so_far",
        title=f"Best {words(metric)} so far",
        caption=" ".join(note),
        x=Axis(label=f"time ({unit})"),
        y=Axis(label=words(metric), log=_spreads(usable[metric]) if len(usable) else False),
        series=tuple(entry for entry in series if len(entry.x)),
        marks=_chance_mark(metric, chance),
    )


def failure_counts(trials: pd.DataFrame) -> Plot:
    """How many trials failed of each cause; no series where none failed."""
    causes = failures(trials).iloc[::-1]
    labels = [
        f"{kind} ({PurePath(where).name})" if where else str(kind)
        for kind, where in zip(causes["kind"], causes["where"], strict=True)
    ]
    hover = [
        f"{plural(count, 'trial')}\n{message}"
        for count, message in zip(causes["count"], causes["message"], strict=True)
    ]
    bars = Series(
        name="failed trials",
        style="bars",
        role="failed",
        x=causes["count"].tolist(),
        y=list(range(len(causes))),
        hover=hover,
        in_legend=False,
    )
    return Plot(
        name="failures",
        title="Failed trials by cause",
        x=Axis(label="trials"),
        y=Axis(label="", categories=tuple(labels)),
        series=(bars,) if len(causes) else (),
    )


def rungs_of(manifest: dict[str, Any]) -> list[int]:
    """The epochs at which successive halving decides, before the last one; none without a halving scheduler."""
    keys = ("grace_epochs", "reduction_factor", "max_epochs")
    if manifest.get("scheduler") != "asha" or not all(isinstance(manifest.get(key), int) for key in keys):
        return []
    rung, factor, last = (int(manifest[key]) for key in keys)
    rungs = []
    while 0 < rung < last and factor > 1:
        rungs.append(rung)
        rung *= factor
    return rungs


def thin(trials: pd.DataFrame, limit: int) -> tuple[pd.DataFrame, list[str]]:
    """At most `limit` trials, the best by rank and others evenly spaced, and the note that says so."""
    if len(trials) <= limit:
        return trials, []
    best = trials.nsmallest(limit // 4, "rank")
    rest = trials.drop(best.index)
    room = max(1, limit - len(best))
    even = rest.iloc[[i * len(rest) // room for i in range(min(room, len(rest)))]]
    shown = pd.concat([best, even]).sort_values("number")
    return shown, [
        f"Shows {len(shown):,} of {len(trials):,} trials: the best {len(best):,} and an even sample of the rest."
    ]


def _by_state(shown: pd.DataFrame, chance: float | None) -> tuple[Series, ...]:
    """One series per state, then the best trial once more as a star. `shown` has columns `x`, `y` and `hover`."""
    valued = shown[shown["y"].notna()]
    foot = _foot([*valued["y"], *([] if chance is None else [chance])])
    series = [
        _points(state, valued[valued["state"] == state], scaled=True)
        for state in ("STOPPED", "PAUSED", "RUNNING", "FINISHED")
    ]
    failed = shown[shown["state"] == "FAILED"]
    series.append(_points("FAILED", failed.assign(y=failed["y"].fillna(foot)), scaled=False))
    best = valued[valued["rank"] == 1]
    star = Series(
        name="best",
        style="points",
        role="best",
        symbol="star",
        x=best["x"].tolist(),
        y=best["y"].tolist(),
        hover=best["hover"].tolist(),
    )
    return tuple(entry for entry in (*series, star) if len(entry.x))


def _points(state: str, group: pd.DataFrame, *, scaled: bool) -> Series:
    return Series(
        name=_LEGEND[state],
        style="points",
        role=_ROLES[state],
        symbol=_SYMBOLS[state],
        x=group["x"].tolist(),
        y=group["y"].tolist(),
        values=group["epochs"].tolist() if scaled else (),
        hover=group["hover"].tolist(),
    )


def _foot(shown: Sequence[float]) -> float:
    """Where trials without a value are drawn: a little below everything else."""
    return min(shown) - 0.07 * ((max(shown) - min(shown)) or 1.0) if shown else 0.0


def _lines(name: str, reports: pd.DataFrame, trials: pd.DataFrame, column: str, role: Role) -> Series:
    """Curves of several trials as one series, with a gap after each."""
    x: list[float] = []
    y: list[float] = []
    hover: list[str] = []
    for _, group in reports[reports["trial_id"].isin(trials["trial_id"])].groupby("number"):
        x += [*group["epoch"].astype(float), math.nan]
        y += [*group[column], math.nan]
        hover += [*_report_hover(group, column), ""]
    return Series(name=name, style="lines", role=role, x=x[:-1], y=y[:-1], hover=hover[:-1])


def _positions(shown: pd.DataFrame, domain: Hyperparameter) -> list[float]:
    """Where each trial stands on the x axis; on a category's axis spread a little, so that equal ones stay apart."""
    values = shown[CONFIG + domain.name].tolist() if CONFIG + domain.name in shown else []
    if not domain.values:
        return [float(value) for value in values]
    spread = [(0.618034 * n % 1 - 0.5) * 0.5 for n in shown["number"]]
    return [domain.values.index(value) + aside for value, aside in zip(values, spread, strict=True)]


def _axis(domain: Hyperparameter) -> Axis:
    if domain.values:
        ends = (-0.5, max(1, len(domain.values)) - 0.5)
        return Axis(
            label=words(domain.name), categories=tuple(_short(number(value)) for value in domain.values), bounds=ends
        )
    return Axis(label=words(domain.name), log=domain.log, bounds=_padded(domain))


def _padded(domain: Hyperparameter) -> tuple[float, float] | None:
    if not domain.low < domain.high:
        return None
    if domain.log:
        pad = (domain.high / domain.low) ** 0.03
        return domain.low / pad, domain.high * pad
    pad = 0.03 * (domain.high - domain.low)
    return domain.low - pad, domain.high + pad


def _hover(trials: pd.DataFrame, metric: str) -> list[str]:
    """One text per trial: its number, fate and result, and every hyperparameter that differs between trials."""
    varied = [name for name in trials if str(name).startswith(CONFIG) and trials[name].nunique() > 1]
    values = trials[f"best/{metric}"].tolist() if f"best/{metric}" in trials else [math.nan] * len(trials)
    columns = [trials[name].tolist() for name in varied]
    heads = zip(trials["number"], trials["state"], trials["epochs"], trials["best_epoch"], values, strict=True)
    texts = []
    for row, (trial, state, epochs, best_epoch, value) in enumerate(heads):
        fate = f"trial {trial}, {STATE_WORDS[state]} after {plural(int(epochs), 'epoch')}"
        result = f"{words(metric)} {value:.4f} at epoch {best_epoch:.0f}" if math.isfinite(value) else "no value"
        config = (
            f"{words(str(name).removeprefix(CONFIG))}: {number(column[row])}"
            for name, column in zip(varied, columns, strict=True)
        )
        texts.append("\n".join([fate, result, *config]))
    return texts


def _report_hover(reports: pd.DataFrame, column: str) -> list[str]:
    if reports.empty:
        return []
    rows = zip(reports["number"], reports["epoch"], reports[column], strict=True)
    return [f"trial {trial}, epoch {epoch}: {value:.4f}" for trial, epoch, value in rows]


def _held(domain: Hyperparameter) -> list[str]:
    return [] if domain.varied or not domain.values else [f"Held at {number(domain.values[0])} in this experiment."]


def _chance_mark(metric: str, chance: float | None) -> tuple[Mark, ...]:
    return (Mark(chance, f"chance {chance:.3f}"),) if chance is not None and metric.endswith("accuracy") else ()


def _spreads(values: Iterable[float]) -> bool:
    """Whether a few values are so large that a linear axis would flatten the rest."""
    positive = pd.Series(values, dtype=float).dropna()
    return bool(len(positive) and positive.min() > 0 and positive.max() > 20 * positive.median())


def _short(name: str) -> str:
    """A category's label: a long name loses its middle."""
    return name if len(name) <= _LABEL_LETTERS else f"{name[: _LABEL_LETTERS // 2]}…{name[1 - _LABEL_LETTERS // 2 :]}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
