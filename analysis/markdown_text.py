"""A report or a comparison as Markdown; every text from the data is escaped."""

import re
from collections.abc import Sequence
from typing import Any

from analysis.asked import facts_tables
from analysis.best_model import best_model_section
from analysis.comparison import Comparison
from analysis.comparison_page import table_of_budget, table_of_experiments, table_of_settings
from analysis.comparison_words import METHOD, METHOD_OF_SEEDS
from analysis.comparison_words import verdict as comparison_verdict
from analysis.cost import costs
from analysis.findings import best_config, causes_of
from analysis.frames import Experiment
from analysis.plot import Drawable
from analysis.tables import trials_table
from analysis.verdict import details, verdict

ROWS = 50
"""Most trials in the table."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def report_text(experiment: Experiment, plots: Sequence[Drawable]) -> str:
    """The verdict, the tables and links to the figures of one experiment."""
    parts = [
        f"# {escape(experiment.name)}",
        _bullets([*verdict(experiment), *details(experiment), *(f"Cost: {c}." for c in costs(experiment))]),
    ]
    if best := best_config(experiment):
        parts += ["## Best config", f"Trial {best['number']} at epoch {best['epoch']}.", _fence(best["config"])]
        parts += [_fence(best["command"])] if best["command"] else []
    if model := best_model_section(experiment):
        parts += ["## Best model", _bullets(model["sentences"])]
        parts += [table(["class", "precision", "recall", "F1", "images"], model["rows"])] if model["rows"] else []
    if causes := causes_of(experiment):
        rows = [[cause["kind"], cause["count"], cause["message"] or "–", cause["where"] or "–"] for cause in causes]
        parts += ["## Failures", table(["kind", "trials", "message", "where"], rows)]
    parts += _trials(experiment)
    parts += _figures(plots)
    for title, pairs in facts_tables(experiment.manifest):
        parts += [f"## {title}", table(["", ""], pairs)] if pairs else []
    return "\n\n".join(parts) + "\n"


def comparison_text(comparison: Comparison, plots: Sequence[Drawable]) -> str:
    """The warnings, the verdict, the tables and links to the figures of a comparison."""
    labels = " · ".join(escape(entry.label) for entry in comparison.entries)
    parts = [f"# {labels}", *(f"> **{escape(one)}**" for one in comparison.warnings)]
    parts += [_bullets(comparison_verdict(comparison)), "## Equal budgets", METHOD]
    parts += [METHOD_OF_SEEDS] if len(comparison.groups) < len(comparison.entries) else []
    for which in range(len(comparison.budgets)):
        found = table_of_budget(comparison, which)
        parts += [f"### {escape(found['title'])}", table(found["headings"], found["rows"])]
    for title, found in (
        ("What differs", table_of_settings(comparison)),
        ("Experiments", table_of_experiments(comparison)),
    ):
        parts += [f"## {title}", table(found["headings"], found["rows"]) if found["rows"] else "Nothing."]
    return "\n\n".join([*parts, *_figures(plots)]) + "\n"


def escape(text: Any) -> str:
    """A text that Markdown, and the HTML within it, show as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; what stands in a cell is escaped."""
    lines = [headings, ["---"] * len(headings), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _trials(experiment: Experiment) -> list[str]:
    found = trials_table(experiment)
    rows = [[cell["text"] for cell in row["cells"]] for row in found["rows"][:ROWS]]
    if not rows:
        return []
    total = len(experiment.trials)
    note = [f"The best {len(rows)} of {total:,}."] if total > len(rows) else []
    return ["## Trials", *note, table([escape(heading) for heading in found["headings"]], rows)]


def _figures(plots: Sequence[Drawable]) -> list[str]:
    links = [
        f"![{escape(plot.title)}](figures/{plot.name}.png)" + (f"\n\n{escape(plot.caption)}" if plot.caption else "")
        for plot in plots
    ]
    return ["## Figures", *links] if links else []


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {escape(sentence)}" for sentence in sentences)


def _fence(text: str) -> str:
    """A block of code, with a fence that is longer than any within it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
