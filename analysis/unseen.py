"""What the best model makes of classes that it was not trained on, as `best.json` says after the test."""

from collections.abc import Mapping
from typing import Any

from analysis.frames import Experiment

GROUPS = {
    "test": "Classes kept for the test",
    "validation": "Classes that the search could see on validation, measured here on the test split too",
}
"""Group of unseen classes -> its heading."""


def unseen_section(experiment: Experiment) -> dict[str, Any] | None:
    """What the report shows of unseen classes; None where there are none, or the best trial is not tested yet.

    `measures` are rows of name, accuracy, balanced accuracy and chance; `groups` have a heading, a sentence or none on
    the parts, and of each class its name, what its name says, images and shares as text. Classes whose names say no
    parts come last, and `apart` says that there are both kinds.
    """
    best = experiment.best or {}
    metrics, groups = best.get("metrics") or {}, best.get("unseen") or {}
    if not groups or "test_accuracy" not in metrics:
        return None
    return {
        "measures": _measures(metrics),
        "groups": [_group(GROUPS[name], groups[name]) for name in GROUPS if groups.get(name)],
    }


def both_parts(classes: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The share of all images of classes with parts whose nearest two seen classes are these; None without any."""
    named = [figures for figures in classes.values() if "both_parts" in figures]
    images = sum(figures["images"] for figures in named)
    return sum(figures["images"] * figures["both_parts"] for figures in named) / images if images else None


def _measures(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = (
        ("seen, among the seen", "", "chance"),
        ("unseen, among the unseen", "unseen_", "unseen_chance"),
        ("seen, among all", "generalised_seen_", "generalised_chance"),
        ("unseen, among all", "generalised_unseen_", "generalised_chance"),
        ("harmonic mean of the last two", "harmonic_", "generalised_chance"),
    )
    return [
        (
            words,
            *(_share(metrics.get(f"test_{key}")) for key in (f"{name}accuracy", f"{name}balanced_accuracy", chance)),
        )
        for words, name, chance in rows
        if f"test_{name}accuracy" in metrics
    ]


def _group(heading: str, classes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    named = {name: figures for name, figures in classes.items() if "parts" in figures}
    others = {name: figures for name, figures in classes.items() if "parts" not in figures}
    share = both_parts(classes)
    sentence = (
        None
        if share is None
        else f"Of the images of classes whose name says two seen ones, {share:.0%} lie nearest to these two."
    )
    return {
        "heading": heading,
        "chance": f"{1 / len(classes):.3f}",
        "sentence": sentence,
        "rows": [_row(name, figures) for name, figures in (*named.items(), *others.items())],
        "apart": bool(named and others),
    }


def _row(name: str, figures: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": name.replace("_", " "),
        "parts": " and ".join(figures.get("parts", ())),
        "images": f"{figures['images']:,}",
        "accuracy": _share(figures["accuracy"]),
        "generalised": _share(figures["generalised_accuracy"]),
        "both": _share(figures.get("both_parts")),
    }


def _share(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"
