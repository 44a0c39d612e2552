"""A report or a comparison in each of its formats."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis import comparison_words
from analysis.best_model import best_model_section
from analysis.comparison import Comparison
from analysis.comparison_figures import comparison_plots
from analysis.comparison_page import render_comparison, table_of_budget, table_of_experiments, table_of_settings
from analysis.cost import costs, spent
from analysis.figures import plots_of
from analysis.frames import Experiment
from analysis.markdown_text import comparison_text, report_text
from analysis.page import render
from analysis.plot import Drawable
from analysis.summary import best_trial, config_of, failures
from analysis.unseen import unseen_section
from analysis.verdict import details, verdict

EXPERIMENT = "experiment"
"""The column that says of which experiment a row is, where several are compared."""

Sections = Mapping[str, Sequence[Drawable]]
Begin = Callable[[Sequence[Drawable]], object]
"""Begins to draw figures; it is called with some of them as soon as they are known."""


@dataclass(frozen=True)
class Report:
    """What is to be written."""

    render: Callable[[], dict[str, bytes]]
    """Gives `files`."""
    plots: Sequence[Drawable]
    """The figures that belong to it; none where the format has no use for them."""
    verdict: Sequence[str]
    """What it comes to, in sentences."""

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Name -> content; rendered when first asked for, so that figures can be drawn meanwhile."""
        return self.render()


def report_of(experiment: Experiment, form: str, *, printed: bool = False, begin: Begin = lambda plots: None) -> Report:
    """The report of one experiment as `html`, `md`, `json`, `csv` or `parquet`; what is printed has no figures."""
    if form in _TABLES:
        return Report(lambda: _tables(_frames(experiment), form), (), verdict(experiment))
    if form == "json":
        document = _data(experiment, plots_of(experiment))
        return Report(lambda: {"report.json": _json(document)}, (), verdict(experiment))
    if printed:
        return Report(lambda: {"report.md": report_text(experiment, ()).encode()}, (), verdict(experiment))
    sections = plots_of(experiment, begin)
    plots, words = [plot for section in sections.values() for plot in section], verdict(experiment)
    if form == "md":
        return Report(lambda: {"report.md": report_text(experiment, plots).encode()}, plots, words)
    return Report(lambda: {"report.html": render(experiment, sections).encode()}, plots, words)


def comparison_of(
    comparison: Comparison, form: str, *, printed: bool = False, begin: Begin = lambda plots: None
) -> Report:
    """A comparison in the same formats; its tables are those of all experiments, with a column `experiment`."""
    words = [*comparison.warnings, *comparison_words.verdict(comparison)]
    if form in _TABLES:
        return Report(lambda: _tables(_all_frames(comparison), form), (), words)
    if form == "json":
        document = _comparison_data(comparison, comparison_plots(comparison))
        return Report(lambda: {"comparison.json": _json(document)}, (), words)
    if printed:
        return Report(lambda: {"comparison.md": comparison_text(comparison, ()).encode()}, (), words)
    sections = comparison_plots(comparison)
    plots = [plot for section in sections.values() for plot in section]
    begin(plots)
    if form == "md":
        return Report(lambda: {"comparison.md": comparison_text(comparison, plots).encode()}, plots, words)
    return Report(lambda: {"comparison.html": render_comparison(comparison, sections).encode()}, plots, words)


def _data(experiment: Experiment, sections: Sections) -> dict[str, Any]:
    """All that the page says, as data."""
    best = best_trial(experiment.trials)
    return {
        "name": experiment.name,
        "place": experiment.place,
        "state": experiment.state,
        "metrics": experiment.metrics,
        "chance": experiment.chance,
        "seconds": experiment.seconds,
        "verdict": verdict(experiment),
        "details": details(experiment),
        "costs": costs(experiment),
        "spent": [asdict(one) for one in spent(experiment)],
        "best": experiment.best,
        "best_trial": None if best is None else {"number": best["number"], "config": config_of(best)},
        "best_model": best_model_section(experiment),
        "unseen": unseen_section(experiment),
        "hyperparameters": {name: asdict(domain) for name, domain in experiment.hyperparameters.items()},
        "trials": experiment.trials.to_dict("records"),
        "confirming": experiment.confirming.to_dict("records"),
        "failures": failures(experiment.trials).to_dict("records"),
        "plots": _plots(sections),
        "manifest": experiment.manifest,
    }


def _comparison_data(comparison: Comparison, sections: Sections) -> dict[str, Any]:
    budgets = [
        {
            "kind": budget.kind,
            "amount": budget.amount,
            "unit": budget.unit,
            "standings": [
                {
                    "experiment": one.entry.label,
                    "trials": one.trials,
                    "value": one.value,
                    "low": one.low,
                    "high": one.high,
                }
                for one in budget.standings
            ],
            "evidence": [asdict(one) for one in budget.evidence],
            "table": table_of_budget(comparison, which),
        }
        for which, budget in enumerate(comparison.budgets)
    ]
    experiments = [
        {"label": entry.label, "group": entry.group, "seed": entry.seed, "place": entry.experiment.place}
        for entry in comparison.entries
    ]
    return {
        "metric": comparison.metric,
        "mode": comparison.mode,
        "experiments": experiments,
        "verdict": comparison_words.verdict(comparison),
        "warnings": comparison.warnings,
        "budgets": budgets,
        "settings": comparison.settings,
        "tables": {"experiments": table_of_experiments(comparison), "settings": table_of_settings(comparison)},
        "plots": _plots(sections),
    }


def _frames(experiment: Experiment) -> dict[str, pd.DataFrame]:
    return {"trials": experiment.trials, "reports": experiment.with_configs(experiment.reports)}


def _all_frames(comparison: Comparison) -> dict[str, pd.DataFrame]:
    every = {entry.label: _frames(entry.experiment) for entry in comparison.entries}

    def together(name: str) -> pd.DataFrame:
        frames = {label: frames[name] for label, frames in every.items()}
        return pd.concat(frames, names=[EXPERIMENT, None]).reset_index(EXPERIMENT).reset_index(drop=True)

    return {"trials": together("trials"), "reports": together("reports")}


def _plots(sections: Sections) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [
            {"name": plot.name, "title": plot.title, "caption": plot.caption, "traces": _traces(plot)} for plot in plots
        ]
        for name, plots in sections.items()
    }


def _traces(plot: Drawable) -> list[dict[str, Any]]:
    """What a figure draws: type, name, coordinates and the text of each point."""
    kept = ("type", "name", "x", "y", "z", "base", "hovertext")
    return [
        {key: value for key, value in trace.to_plotly_json().items() if key in kept} for trace in plot.plotly().data
    ]


def _tables(frames: Mapping[str, pd.DataFrame], form: str) -> dict[str, bytes]:
    return {f"{name}.{form}": _TABLES[form](frame) for name, frame in frames.items()}


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _parquet(frame: pd.DataFrame) -> bytes:
    """A column of several kinds of values (numbers and words) is written as their JSON."""
    buffer = io.BytesIO()
    mixed = {str(name): frame[name].map(_cell) for name in frame if _is_mixed(frame[name])}
    frame.assign(**mixed).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _is_mixed(column: pd.Series) -> bool:
    kinds = {type(value) for value in column.dropna()} if column.dtype == object else set()
    return len(kinds) > 1


def _cell(value: Any) -> str | None:
    return None if value is None or value is pd.NA or value != value else json.dumps(_plain(value), ensure_ascii=False)


_TABLES: dict[str, Callable[[pd.DataFrame], bytes]] = {"csv": _csv, "parquet": _parquet}


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(_plain(document), ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """Only what JSON has; a number that is not finite is null."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
