"""The plots of a comparison."""

import math
from collections.abc import Sequence

from analysis.comparison import EPOCHS, Comparison, Entry, EqualBudget, Standing
from analysis.comparison_words import budget_text
from analysis.hyperparameters import words
from analysis.plot import Axis, Mark, Plot, Role, Series

COLOURS: tuple[Role, ...] = ("best", "second", "third", "finished", "running", "failed", "stopped")
"""One for each group, then from the first again."""
STEPS = 4_000
"""Most steps of one line; the reports between two steps brought nothing better."""


def comparison_plots(comparison: Comparison) -> dict[str, list[Plot]]:
    """Every plot of a comparison by section: `courses`, `budgets`. Empty plots are left out."""
    courses = [course_plot(comparison, column) for column in ("trials", "epochs", "elapsed_seconds", "slot_seconds")]
    sections = {"courses": courses, "budgets": [standing_plot(comparison, one) for one in comparison.budgets]}
    return {name: [plot for plot in plots if plot.series] for name, plots in sections.items()}


def course_plot(comparison: Comparison, column: str) -> Plot:
    """The best value so far of every experiment against one of the columns of `course_of`, a colour for each group."""
    unit, size = _unit(comparison, column)
    drawn = [_line(entry, column, size, colour, first) for entry, colour, first in _coloured(comparison)]
    marks = tuple(
        Mark(budget.amount / size, "equal budget", vertical=True)
        for budget in comparison.budgets
        if budget.kind == column
    )
    again = len(comparison.groups) > len(COLOURS)
    return Plot(
        name=f"best_so_far_by_{column}",
        title=f"Best {words(comparison.metric)} so far by {unit.partition(' (')[0]}",
        caption="More groups than colours: some share one." if again else "",
        x=Axis(label=unit),
        y=Axis(label=words(comparison.metric)),
        series=tuple(series for series in drawn if len(series.x)),
        marks=marks,
    )


def standing_plot(comparison: Comparison, budget: EqualBudget) -> Plot:
    """The best value of every experiment at an equal budget, with its interval, a row for each."""
    coloured = [(one, colour, row) for row, (one, colour) in enumerate(_rows(comparison, budget))]
    known = [item for item in coloured if not math.isnan(item[0].value)]
    lines = [
        Series(name=one.entry.group, style="lines", role=colour, x=[one.low, one.high], y=[row, row], in_legend=False)
        for one, colour, row in known
    ]
    points = [
        Series(
            name=one.entry.label,
            style="points",
            role=colour,
            x=[one.value],
            y=[row],
            hover=[f"{one.entry.label}: {one.value:.4f} (95 %: {one.low:.4f} to {one.high:.4f}), {one.trials} trials"],
            in_legend=False,
        )
        for one, colour, row in known
    ]
    return Plot(
        name=f"equal_{budget.kind}",
        title=f"After {budget_text(budget)}",
        caption="Best value so far, and the interval in which that of resampled trials lies with 95 %.",
        x=Axis(label=f"best {words(comparison.metric)}"),
        y=Axis(
            label="",
            categories=tuple(one.entry.label for one, _, _ in coloured),
            bounds=(-0.5, len(coloured) - 0.5),
        ),
        series=(*lines, *points),
    )


def _rows(comparison: Comparison, budget: EqualBudget) -> list[tuple[Standing, Role]]:
    colours = dict(zip(comparison.groups, _colours(len(comparison.groups)), strict=True))
    sign = 1.0 if comparison.mode == "max" else -1.0
    ordered = sorted(budget.standings, key=lambda one: -math.inf if math.isnan(one.value) else sign * one.value)
    return [(one, colours[one.entry.group]) for one in ordered]


def _coloured(comparison: Comparison) -> list[tuple[Entry, Role, bool]]:
    """Each experiment with its group's colour, and whether it is the group's first, which stands in the legend."""
    colours = _colours(len(comparison.groups))
    return [
        (entry, colour, entry is members[0])
        for members, colour in zip(comparison.groups.values(), colours, strict=True)
        for entry in members
    ]


def _colours(count: int) -> list[Role]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]


def _line(entry: Entry, column: str, size: float, colour: Role, first: bool) -> Series:
    """Steps at the reports that were better than all before, and the last one."""
    course = entry.course.dropna(subset=["best"])
    better = course[course["best"].diff().ne(0) | (course.index == course.index.max())]
    shown = better.iloc[:: math.ceil(len(better) / STEPS) or 1] if len(better) else better
    rows: Sequence[tuple[int, float]] = list(zip(shown["number"], shown["best"], strict=True))
    return Series(
        name=entry.group,
        style="steps",
        role=colour,
        x=(shown[column] / size).tolist(),
        y=shown["best"].tolist(),
        hover=[f"{entry.label}: {best:.4f} (trial {number})" for number, best in rows],
        in_legend=first,
    )


def _unit(comparison: Comparison, column: str) -> tuple[str, float]:
    """An axis' label, and how many of the column's units are one of it."""
    if column in ("trials", EPOCHS):
        return {"trials": "trials that reported", EPOCHS: "epochs trained"}[column], 1.0
    end = max((float(entry.course[column].max()) for entry in comparison.entries if len(entry.course)), default=0.0)
    name, size = next(((n, s) for n, s in (("hours", 3600.0), ("minutes", 60.0)) if end >= 3 * s), ("seconds", 1.0))
    if column == "elapsed_seconds":
        return f"time ({name})", size
    units = "/".join(sorted({entry.unit for entry in comparison.entries}))
    return f"{units}-{name} in slots", size
