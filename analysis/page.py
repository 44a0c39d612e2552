"""The report as one HTML file that opens offline."""

import json
import math
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.io import to_json
from plotly.offline import get_plotlyjs

from analysis.draw_plotly import template
from analysis.frames import CONFIG, Experiment
from analysis.hyperparameters import words
from analysis.plot import Plot
from analysis.summary import (
    STATE_WORDS,
    best_trial,
    config_of,
    costs,
    count_states,
    duration,
    failures,
    number,
    plural,
    verdict,
)
from analysis.unseen import unseen_section

ROWS = 1_000
"""Most trials in the table."""
TRACEBACK_CHARACTERS = 8_000
"""A longer traceback is shown from its end."""

_MEASURES = ("train_", "val_", "test_")
_SETTINGS = (
    *("seed", "git_commit", "space_name", "algorithm", "scheduler"),
    *("metric", "mode", "max_epochs", "grace_epochs", "reduction_factor", "budget_hours", "price_per_hour"),
)
_SEARCH_WORDS = {
    "PENDING": "not started",
    "RUNNING": "running",
    "COMPLETED": "completed",
    "INTERRUPTED": "interrupted",
    "ABORTED": "aborted",
    "TIME_BUDGET": "ended at its time budget",
    "BUDGET": "ended at its budget of hours",
    "FAILED": "broken off by an error",
}
_LEADS = {
    "hyperparameters": (
        "Hyperparameters",
        "Each point is a trial at its best epoch; hover for its config. The more epochs it trained, the stronger its "
        "colour. A ring was stopped early, so it says little about its hyperparameters; a red cross failed, and stands "
        "at the foot of the plot when it never had a value.",
    ),
    "trade_off": (
        "Trade-off",
        "What each trial reached with its last epoch. A trial on the Pareto front was trained to its end, and no other "
        "such trial is as good in all metrics and better in one.",
    ),
    "curves": (
        "Learning curves",
        "Every trial, epoch by epoch, the best three in bold. Click a name in a legend to hide it, "
        "twice to see it alone.",
    ),
    "progress": (
        "Best so far",
        "When the search found what it found: where the line is flat, more trials brought nothing.",
    ),
}


def render(experiment: Experiment, plots: dict[str, list[Plot]], *, written: datetime | None = None) -> str:
    """The whole page. Every name and text of the experiment is escaped; `written` is now unless given."""
    environment = Environment(
        loader=PackageLoader("analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    causes = _causes(experiment)
    best = _best(experiment)
    shown = [_plot_section(name, plots[name]) for name in _LEADS if plots.get(name)]
    table = _table(experiment)
    unseen = unseen_section(experiment)
    titles = [("found", "What was found"), ("best", "Best config"), ("unseen", "Unseen classes")]
    titles += [(s["id"], s["title"]) for s in shown]
    titles += [("failures", "Failures"), ("trials", "All trials"), ("reproduce", "How to reproduce it")]
    absent = {"best": best is None, "unseen": unseen is None, "failures": not causes, "trials": not table["rows"]}
    return environment.get_template("report.html").render(
        name=experiment.name,
        state=experiment.state,
        state_words=_SEARCH_WORDS.get(experiment.state, experiment.state),
        running=experiment.state in ("RUNNING", "PENDING"),
        facts=_facts(experiment),
        sections=[(id_, title) for id_, title in titles if not absent.get(id_)],
        tiles=_tiles(experiment),
        verdict=verdict(experiment),
        metric=words(experiment.metric),
        best=best,
        unseen=unseen,
        plot_sections=shown,
        causes=causes,
        failure_plots=plots.get("failures", []),
        table=table,
        command=shlex.join(map(str, experiment.manifest.get("command") or [])),
        report_command=shlex.join(["glance-report", experiment.place]),
        facts_tables=_facts_tables(experiment.manifest),
        written=f"{written or datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        source=experiment.place,
        plots_json=_figures_json([plot for section in plots.values() for plot in section]),
        plotly_js=Markup(get_plotlyjs()),
        style=Markup(_asset("report.css")),
        script=Markup(_asset("report.js")),
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _figures_json(plots: list[Plot]) -> Markup:
    """Figures and templates for the page's script; `<` is written so that no text can end the script element."""
    figures = {plot.name: json.loads(to_json(plot.plotly(), validate=False)) for plot in plots}
    for figure in figures.values():
        del figure["layout"]["title"], figure["layout"]["template"]
        figure["layout"]["margin"]["t"] = 36
    templates = {"light": template(dark=False), "dark": template(dark=True)}
    text = json.dumps({"figures": figures, "templates": templates}, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _plot_section(name: str, plots: list[Plot]) -> dict[str, Any]:
    title, lead = _LEADS[name]
    return {"id": name, "title": title, "lead": lead, "plots": plots}


def _facts(experiment: Experiment) -> list[str]:
    """The line under the headline: data, algorithm, when, cost, versions."""
    manifest = experiment.manifest
    dataset, versions = manifest.get("dataset") or {}, manifest.get("versions") or {}
    names = dict.fromkeys(filter(None, (manifest.get("algorithm"), manifest.get("scheduler"))))
    return [
        *([f"data: {dataset['name']}"] if dataset.get("name") else []),
        *([f"search: {' under '.join(map(str, names))}"] if names else []),
        *([f"begun {str(manifest['created'])[:16].replace('T', ' ')} UTC"] if manifest.get("created") else []),
        *(f"cost: {cost}" for cost in costs(experiment)),
        *(f"{name} {versions[name]}" for name in ("glance-tune", "torch", "ray") if versions.get(name)),
    ]


def _tiles(experiment: Experiment) -> list[dict[str, str]]:
    best, counts = best_trial(experiment.trials), count_states(experiment.trials)
    test = ((experiment.best or {}).get("metrics") or {}).get("test_accuracy")
    ended = sum(counts[state] for state in ("FINISHED", "STOPPED", "FAILED"))
    fates = ", ".join(f"{counts[state]:,} {STATE_WORDS[state]}" for state in counts if counts[state])
    chance = f"chance {experiment.chance:.3f}" if experiment.chance and experiment.metric.endswith("accuracy") else ""
    epochs = int(experiment.trials["epochs"].sum())
    asked = experiment.manifest.get("trials")
    return [
        _tile("–" if best is None else f"{best['best_value']:.3f}", f"best {words(experiment.metric)}", chance),
        *([_tile(f"{test:.3f}", "test accuracy", "computed once, at the end")] if test is not None else []),
        _tile(f"{ended:,} of {asked:,}" if isinstance(asked, int) else f"{ended:,}", "trials ended", fates),
        _tile(
            f"{epochs:,}", "epochs trained", f"{duration(float(experiment.trials['train_seconds'].sum()))} of training"
        ),
        _tile(duration(experiment.seconds), "searching", _slots(experiment.manifest)),
    ]


def _tile(value: str, label: str, note: str = "") -> dict[str, str]:
    return {"value": value, "label": label, "note": note}


def _slots(manifest: dict[str, Any]) -> str:
    resources = manifest.get("resources") or {}
    slots, workers = resources.get("slots"), resources.get("workers_per_trial")
    if not isinstance(slots, int):
        return ""
    each = f", {plural(workers, 'worker')} each" if isinstance(workers, int) and workers > 1 else ""
    return f"{plural(slots, 'trial')} at a time{each}"


def _best(experiment: Experiment) -> dict[str, Any] | None:
    """The chosen trial of best.json; while there is none, the best of the ledger so far."""
    chosen, row = experiment.best, best_trial(experiment.trials)
    if chosen is not None:
        same = experiment.trials[experiment.trials["trial_id"] == chosen.get("trial_id")]
        metrics, config, epoch = chosen.get("metrics") or {}, chosen.get("config") or {}, chosen.get("epoch")
        trial = same["number"].iloc[0] if len(same) else chosen.get("trial_id")
        command = shlex.join(["glance-train", "--config", f"{experiment.place}/best.json"])
    elif row is not None:
        metrics = {str(k).removeprefix("best/"): row[k] for k in row.index if str(k).startswith("best/")}
        config, epoch, trial, command = config_of(row), f"{row['best_epoch']:.0f}", row["number"], None
    else:
        return None
    test = metrics.get("test_accuracy")
    return {
        "number": trial,
        "epoch": epoch,
        "test": f"{test:.3f}" if isinstance(test, float) else None,
        "metrics": [(words(k), number(_plain(v))) for k, v in metrics.items() if k.startswith(_MEASURES)],
        "config": json.dumps(config, indent=2, ensure_ascii=False),
        "command": command,
    }


def _causes(experiment: Experiment) -> list[dict[str, Any]]:
    return [
        {
            "kind": row["kind"],
            "count": plural(row["count"], "trial"),
            "message": row["message"],
            "where": row["where"],
            "who": _who(row["numbers"]),
            "file": row["traceback_file"],
            "traceback": _traceback(experiment.path, row["traceback_file"]),
        }
        for row in failures(experiment.trials).to_dict("records")
    ]


def _who(numbers: list[int]) -> str:
    names = ", ".join(map(str, numbers[:12])) + (" …" if len(numbers) > 12 else "")
    return f"trial {names}" if len(numbers) == 1 else f"trials {names}"


def _traceback(experiment: Path, name: str) -> str:
    """A traceback's text; empty where the ledger names none, or none that lies in the experiment folder."""
    path = (experiment / name).resolve()
    if not name or not path.is_file() or not path.is_relative_to(experiment.resolve()):
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if len(text) <= TRACEBACK_CHARACTERS else "…\n" + text[-TRACEBACK_CHARACTERS:]


def _table(experiment: Experiment) -> dict[str, Any]:
    """Trials by rank, the failed ones last, with the hyperparameters that the plots show."""
    trials = experiment.trials.sort_values(["rank", "number"], na_position="last")
    columns = {
        "rank": "rank",
        "number": "trial",
        "state": "state",
        "best_value": words(experiment.metric),
        "best_epoch": "best epoch",
        "epochs": "epochs",
        "train_seconds": "training time",
        **{CONFIG + name: name.replace("_", " ") for name in experiment.hyperparameters},
    }
    shown = trials.head(ROWS)
    states = shown["state"].tolist()
    cells = zip(*([_cell(name, value) for value in shown[name].tolist()] for name in columns), strict=True)
    note = "" if len(shown) == len(trials) else f"The best {len(shown):,} of {len(trials):,}."
    rows = [{"state": state, "cells": row} for state, row in zip(states, cells, strict=True)]
    return {"headings": list(columns.values()), "rows": rows, "note": note}


def _cell(column: str, value: Any) -> dict[str, Any]:
    """A cell's text, and the number to sort it by."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if column == "state":
        return {"text": STATE_WORDS[value], "key": None}
    if not numeric:
        return {"text": "–" if value is None or isinstance(value, float) else str(value), "key": None}
    if column == "train_seconds":
        return {"text": duration(value), "key": value}
    if column in ("rank", "best_epoch"):
        return {"text": f"{value:.0f}", "key": value}
    return {"text": f"{value:.4f}" if column == "best_value" else number(value), "key": value}


def _facts_tables(manifest: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What someone else would need: settings, data, versions, machine."""
    dataset = dict(manifest.get("dataset") or {})
    counts = dataset.pop("counts", None) or {}
    totals = {f"{split} images": sum(n.values()) if isinstance(n, dict) else n for split, n in counts.items()}
    return [
        ("Settings", _pairs({name: manifest.get(name) for name in _SETTINGS})),
        ("Search space", _pairs({**(manifest.get("space") or {}), **(manifest.get("fixed") or {})})),
        ("Data", _pairs({**dataset, **totals})),
        ("Versions", _pairs(manifest.get("versions"))),
        ("Machine", _pairs({**(manifest.get("hardware") or {}), **(manifest.get("resources") or {})})),
    ]


def _pairs(values: dict[str, Any] | None) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), _fact(value))
        for name, value in (values or {}).items()
        if value not in (None, "", [], {})
    ]


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return number(value) if not isinstance(value, dict) else json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
