"""The report as one HTML file that opens offline."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from analysis.asked import caveat, classes, commands, facts_tables, headline, identity, question, ranges
from analysis.best_model import best_model_plots, best_model_section, sample_images
from analysis.cost import Spent, in_hours, spent, until_best
from analysis.findings import best_config, causes_of, tiles
from analysis.frames import Experiment
from analysis.hyperparameters import words
from analysis.plot import Drawable
from analysis.tables import trials_table
from analysis.templating import render_template
from analysis.unseen import unseen_section
from analysis.verdict import details, verdict

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
    "importance": (
        "What mattered",
        "Which hyperparameters explain what trials reached, how the configs of good trials run, and how the most "
        "important hyperparameters act in pairs: each cell has its best value and, below it, the number of trials.",
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
    "rungs": (
        "Survivors",
        "How many trials came how far, and what became of the others before the next row.",
    ),
    "slots": (
        "Slots",
        "Which trial ran where and when; what is empty between bars is idle time. Hover for the trial.",
    ),
    "progress": (
        "Best so far",
        "When the search found what it found: where the line is flat, more trials brought nothing.",
    ),
}

_ELSEWHERE = ("failures", "best_model")
"""Plots that stand in a section with other things."""


def render(experiment: Experiment, plots: Mapping[str, Sequence[Drawable]], *, written: datetime | None = None) -> str:
    """The whole page. Every name and text of the experiment is escaped; `written` is now unless given.

    `plots` are by section, as `plots_of` gives them; a section that is not named here stands under its own name.
    """
    model_plots = plots.get("best_model") or best_model_plots(experiment)
    values: dict[str, Any] = {
        "verdict": verdict(experiment),
        "details": details(experiment),
        "tiles": tiles(experiment),
        "question": question(experiment),
        "ranges": ranges(experiment),
        "classes": classes(experiment),
        "samples": sample_images(experiment),
        "best": best_config(experiment),
        "best_model": best_model_section(experiment),
        "best_model_plots": model_plots,
        "unseen": unseen_section(experiment),
        "plot_sections": [_plot_section(name, of) for name, of in plots.items() if of and name not in _ELSEWHERE],
        "causes": causes_of(experiment),
        "failure_plots": plots.get("failures", ()),
        "table": trials_table(experiment),
        "costs": [_cost(one) for one in spent(experiment)],
        "until_best": until_best(experiment),
    }
    return render_template(
        "report.html",
        [*(plot for name, of in plots.items() if name != "best_model" for plot in of), *model_plots],
        **values,
        name=experiment.name,
        state=experiment.state,
        state_words=_SEARCH_WORDS.get(experiment.state, experiment.state),
        running=experiment.state in ("RUNNING", "PENDING"),
        facts=headline(experiment),
        sections=_sections(values),
        metric=words(experiment.metric),
        commands=commands(experiment),
        caveat=caveat(experiment.manifest),
        identity=identity(experiment.manifest),
        report_command=shlex.join(["glance-report", experiment.place]),
        facts_tables=facts_tables(experiment.manifest),
        written=f"{written or datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        source=experiment.place,
    )


def _sections(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Id and title of each section that has something to show, in the order of the page."""
    titles = [
        ("found", "What was found", True),
        ("asked", "What was asked", True),
        ("best", "Best config", values["best"]),
        ("best-model", "Best model", values["best_model"]),
        ("unseen", "Unseen classes", values["unseen"]),
        *((section["id"], section["title"], True) for section in values["plot_sections"]),
        ("failures", "Failures", values["causes"]),
        ("trials", "All trials", values["table"]["rows"]),
        ("cost", "Cost", values["costs"]),
        ("reproduce", "How to reproduce it", True),
    ]
    return [(id_, title) for id_, title, present in titles if present]


def _plot_section(name: str, plots: Sequence[Drawable]) -> dict[str, Any]:
    title, lead = _LEADS.get(name, (name.replace("_", " ").capitalize(), ""))
    return {"id": name.replace("_", "-"), "title": title, "lead": lead, "plots": plots}


def _cost(one: Spent) -> dict[str, Any]:
    """One unit's hours as text, each part with its share in percent."""
    return {
        "unit": one.unit,
        "hours": in_hours(one.hours),
        "money": None if one.money is None else f"{one.money:,.2f}",
        "parts": [{"name": p.name, "hours": in_hours(p.hours), "percent": f"{100 * p.share:.1f}"} for p in one.parts],
    }
