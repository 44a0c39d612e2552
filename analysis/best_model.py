"""What the best model makes of the test split, as `best/evaluation.json` tells it once the search has ended.

The file is documented at `trainable.training.evaluation_file`. A search of an older version has none.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.frames import Experiment
from analysis.plot import HeatMap
from trainable.files import read_json

FILE = "best/evaluation.json"
VERSION = 1
TEXTS = 15
"""Classes that a map shows with a number in each cell; with more the numbers are read by hovering."""
_PICTURE = re.compile(r"data:image/(?:jpeg|png);base64,[A-Za-z0-9+/]+=*")
_SHARES = ("precision", "recall", "f1")


def read_evaluation(experiment: Experiment) -> dict[str, Any] | None:
    """The file's content; None where there is none, or one that only another version of Glance can read."""
    evaluation = read_json(experiment.path / FILE)
    return evaluation if evaluation is not None and evaluation.get("version") == VERSION else None


def best_model_plots(experiment: Experiment) -> list[HeatMap]:
    """The matrix of mistakes and the map of the prompts, where they are known and small enough to be seen."""
    evaluation = read_evaluation(experiment) or {}
    plots = []
    if evaluation.get("confusion"):
        plots.append(confusion_matrix(evaluation["classes"], evaluation["confusion"]))
    if evaluation.get("prompts"):
        plots.append(prompt_similarity(evaluation["prompts"]))
    return plots


def confusion_matrix(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> HeatMap:
    """How many images of each class (rows) the model took for which (columns)."""
    names, totals = [*map(spaced, classes)], [max(1, sum(row)) for row in counts]
    shares = [[count / total for count in row] for row, total in zip(counts, totals, strict=True)]
    hover = [
        [
            f"{truth}, taken for {told}: {count:,} of {sum(row):,} ({count / total:.0%})"
            for told, count in zip(names, row, strict=True)
        ]
        for truth, row, total in zip(names, counts, totals, strict=True)
    ]
    return HeatMap(
        name="confusion",
        title="What is taken for what",
        caption="Test images by class; the colour is the share of the row, so the diagonal is each class's recall.",
        rows=names,
        columns=names,
        row_label="what it is",
        column_label="what the model takes it for",
        values=shares,
        scale="share of the class's images",
        bounds=(0.0, 1.0),
        texts=[[f"{count:,}" for count in row] for row in counts] if len(names) <= TEXTS else (),
        hover=hover,
    )


def prompt_similarity(prompts: Mapping[str, Any]) -> HeatMap:
    """How near the classes' prompts lie to each other in the space of the best model."""
    seen = prompts["seen"]
    names = [spaced(name) + (" *" if place >= seen else "") for place, name in enumerate(prompts["classes"])]
    values = prompts["similarity"]
    unseen = " Classes with * were not trained on." if seen < len(names) else ""
    language = {"en": "English", "ko": "Korean", "both": "English and Korean"}.get(prompts["language"], "")
    return HeatMap(
        name="prompt_similarity",
        title="How alike the prompts are",
        caption=f"Cosine of the means of the classes' {language} prompts: near 1 they are hard to tell apart.{unseen}",
        rows=names,
        columns=names,
        values=values,
        scale="cosine similarity",
        texts=[[f"{value:.2f}" for value in row] for row in values] if len(names) <= TEXTS else (),
        hover=[
            [f"{one} and {other}: {value:.3f}" for other, value in zip(names, row, strict=True)]
            for one, row in zip(names, values, strict=True)
        ],
    )


def best_model_section(experiment: Experiment) -> dict[str, Any] | None:
    """What the report shows of the best model; None while there is none.

    `sentences` are what to know first. `rows` are a class each (name, precision, recall, F1, images, as text), the last
    one their mean; `mistakes` have truth, prediction, both probabilities as text, and the picture.
    """
    if experiment.best is None:
        return None
    evaluation = read_evaluation(experiment)
    if evaluation is None:
        return {"sentences": [_why_nothing(experiment.best)], "rows": [], "mistakes": []}
    figures = evaluation["per_class"].items()
    return {
        "sentences": _sentences(evaluation),
        "rows": [_row(spaced(name), of) for name, of in figures] + [_row("mean of the classes", evaluation["macro"])],
        "mistakes": [_mistake(one) for one in evaluation["mistakes"] if _is_picture(one["picture"])],
    }


def sample_images(experiment: Experiment) -> list[dict[str, Any]]:
    """A few test images of each class, class by class: `name`, whether it is `seen`, and `pictures`; [] without any."""
    groups: dict[str, dict[str, Any]] = {}
    for one in (read_evaluation(experiment) or {}).get("samples", []):
        if _is_picture(one["picture"]):
            group = groups.setdefault(one["truth"], {"name": spaced(one["truth"]), "seen": one["seen"], "pictures": []})
            group["pictures"].append(one["picture"])
    return list(groups.values())


def spaced(name: str) -> str:
    """A class's name as people write it, with spaces for underscores."""
    return name.replace("_", " ")


def _why_nothing(best: Mapping[str, Any]) -> str:
    if "test_accuracy" not in (best.get("metrics") or {}):
        return "The best model is not tested: what it makes of each class is measured once, when a search has ended."
    return (
        f"What the best model makes of each class is not known: {FILE} is missing, as it is where an older version of "
        "Glance made the search, or of another version."
    )


def _sentences(evaluation: Mapping[str, Any]) -> list[str]:
    macro = evaluation["macro"]
    sentences = [
        f"{macro['support']:,} test images of the trained classes, each told among these: once, after the search chose "
        "this model."
    ]
    scored = {name: of["f1"] for name, of in evaluation["per_class"].items() if of["f1"] is not None}
    if len(scored) > 1:
        best, worst = max(scored, key=scored.__getitem__), min(scored, key=scored.__getitem__)
        sentences.append(
            f"Best told is {spaced(best)} (F1 {scored[best]:.2f}), worst {spaced(worst)} (F1 {scored[worst]:.2f})."
        )
    never = [spaced(name) for name, of in evaluation["per_class"].items() if of["precision"] is None]
    if never:
        sentences.append(f"Never predicted: {', '.join(never)}.")
    return [*sentences, *_commonest_mistake(evaluation), *_left_out(evaluation)]


def _commonest_mistake(evaluation: Mapping[str, Any]) -> list[str]:
    names = evaluation["classes"]
    shares = {
        (count / sum(row), truth, told)
        for truth, row in enumerate(evaluation["confusion"] or [])
        for told, count in enumerate(row)
        if truth != told and count
    }
    if not shares:
        return []
    share, truth, told = max(shares)
    return [f"The commonest mistake: {share:.0%} of {spaced(names[truth])} are taken for {spaced(names[told])}."]


def _left_out(evaluation: Mapping[str, Any]) -> list[str]:
    missing = [name for name in ("confusion", "prompts") if evaluation[name] is None]
    return [f"With {len(evaluation['classes'])} classes there are too many for maps of all pairs."] if missing else []


def _row(name: str, figures: Mapping[str, Any]) -> list[str]:
    return [name, *(_share(figures[key]) for key in _SHARES), f"{figures['support']:,}"]


def _mistake(one: Mapping[str, Any]) -> dict[str, str]:
    return {
        "truth": spaced(one["truth"]),
        "predicted": spaced(one["predicted"]),
        "probability": f"{one['probability']:.0%}",
        "of_truth": f"{one['probability_of_truth']:.0%}",
        "picture": one["picture"],
    }


def _is_picture(address: object) -> bool:
    """Whether an address is a picture that the page holds itself, and nothing else."""
    return isinstance(address, str) and _PICTURE.fullmatch(address) is not None


def _share(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}"
