"""The page of a comparison, and its tables."""

import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from analysis.comparison import Comparison, Standing
from analysis.comparison_words import METHOD, METHOD_OF_SEEDS, budget_text, verdict
from analysis.cost import costs
from analysis.hyperparameters import words
from analysis.plot import Plot
from analysis.summary import number
from analysis.templating import render_template

LEADS = {
    "courses": (
        "Best so far",
        "What each had found when it had spent so much. Experiments of one colour were asked for the same but for the "
        "seed.",
    ),
    "budgets": ("Equal budgets", METHOD),
}


def render_comparison(comparison: Comparison, plots: dict[str, list[Plot]], *, written: datetime | None = None) -> str:
    """The whole page. Every name and text is escaped; `written` is now unless given."""
    places = [entry.experiment.place for entry in comparison.entries]
    return render_template(
        "comparison.html",
        [plot for section in plots.values() for plot in section],
        names=[entry.label for entry in comparison.entries],
        verdict=verdict(comparison),
        warnings=comparison.warnings,
        tables=[table_of_budget(comparison, kind) for kind in range(len(comparison.budgets))],
        method_of_seeds=METHOD_OF_SEEDS if len(comparison.groups) < len(comparison.entries) else "",
        experiments=table_of_experiments(comparison),
        settings=table_of_settings(comparison),
        sections=[(name, *LEADS[name], plots[name]) for name in LEADS if plots.get(name)],
        command=shlex.join(["glance-report", *places, "--out", "comparison"]),
        written=f"{written or datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def table_of_budget(comparison: Comparison, which: int) -> dict[str, Any]:
    """Title, headings and rows of one equal budget, the best first."""
    budget = comparison.budgets[which]
    sign = -1.0 if comparison.mode == "max" else 1.0
    ordered = sorted(budget.standings, key=lambda one: (one.value != one.value, sign * one.value))
    headings = [
        "experiment",
        "group",
        "seed",
        "trials by then",
        f"best {words(comparison.metric)}",
        "95 % of resamples",
    ]
    if len(comparison.groups) == len(comparison.entries):
        headings.remove("group")
    rows = [_standing_row(one, with_group="group" in headings) for one in ordered]
    return {"title": f"After {budget_text(budget)}", "headings": headings, "rows": rows}


def _standing_row(one: Standing, *, with_group: bool) -> list[str]:
    known = one.value == one.value
    return [
        one.entry.label,
        *([one.entry.group] if with_group else []),
        "–" if one.entry.seed is None else str(one.entry.seed),
        f"{one.trials:,}",
        f"{one.value:.4f}" if known else "–",
        f"{one.low:.4f} to {one.high:.4f}" if known else "–",
    ]


def table_of_experiments(comparison: Comparison) -> dict[str, Any]:
    """What each experiment found and cost in all, without any equal budget."""
    headings = ["experiment", "state", "trials", "epochs", f"best {words(comparison.metric)}", "test accuracy", "cost"]
    rows = []
    for entry in comparison.entries:
        one, best = entry.experiment, entry.course["best"]
        test = ((one.best or {}).get("metrics") or {}).get("test_accuracy")
        rows.append(
            [
                entry.label,
                one.state.lower(),
                f"{len(one.trials):,}",
                f"{len(entry.course):,}",
                "–" if best.isna().all() else f"{best.iloc[-1]:.4f}",
                f"{test:.4f}" if isinstance(test, float) else "–",
                "; ".join(cost.partition(" (")[0] for cost in costs(one)) or "–",
            ]
        )
    return {"headings": headings, "rows": rows}


def table_of_settings(comparison: Comparison) -> dict[str, Any]:
    """What was asked differently, a row per setting and a column per experiment."""
    return {
        "headings": ["setting", *(entry.label for entry in comparison.entries)],
        "rows": [[_setting(name), *map(_text, values)] for name, values in comparison.settings.items()],
    }


def _setting(name: str) -> str:
    return name.replace("_", " ").replace(".", ": ")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return number(value)
