"""What a search was asked and of which data, and what somebody else needs to do the same again."""

import json
import math
import shlex
from typing import Any

from analysis.cost import costs
from analysis.frames import Experiment
from analysis.hyperparameters import Hyperparameter, parse_expression, words
from analysis.summary import listed, number, plural

_SETTINGS = (
    *("space_name", "algorithm", "scheduler", "metric", "mode", "trials"),
    *("max_epochs", "grace_epochs", "reduction_factor", "max_failures", "budget_hours", "price_per_hour"),
)
_DIRTY = "-dirty"
_SPLITS = ("train", "validation", "test")
_SPLIT_WORDS = {"train": "training", "validation": "validation", "test": "test"}


def headline(experiment: Experiment) -> list[str]:
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


def question(experiment: Experiment) -> str:
    """What was asked, in a sentence."""
    manifest = experiment.manifest
    aims = [
        f"the {'lowest' if mode == 'min' else 'highest'} {words(name)}" for name, mode in experiment.metrics.items()
    ]
    bounds = [
        *([f"{plural(manifest['trials'], 'trial')}"] if isinstance(manifest.get("trials"), int) else []),
        *([f"at most {plural(manifest['max_epochs'], 'epoch')} each"] if manifest.get("max_epochs") else []),
    ]
    varied = [domain for domain in experiment.hyperparameters.values() if domain.varied]
    over = f" over {plural(len(varied), 'hyperparameter')}" if varied else ""
    return f"Which config gives {listed(aims)}? Searched{over}{' with ' + ' of '.join(bounds) if bounds else ''}."


def ranges(experiment: Experiment) -> list[list[str]]:
    """A row of the search space each: name, what it could be, and the scale that it was drawn on."""
    space = experiment.manifest.get("space") or {}
    rows = []
    for name, expression in space.items():
        domain = parse_expression(name, str(expression))
        rows.append([words(name), *(_range(domain) if domain else (str(expression), "–"))])
    return rows


def classes(experiment: Experiment) -> dict[str, Any]:
    """Images by class and split: `headings`, and `rows` of name and counts as text; the classes in the data's order.

    Empty where the manifest does not count them.
    """
    counts = (experiment.manifest.get("dataset") or {}).get("counts") or {}
    splits = [split for split in _SPLITS if isinstance(counts.get(split), dict)]
    names = dict.fromkeys(name for split in splits for name in counts[split])
    rows = [[name.replace("_", " "), *(_count(counts[split].get(name)) for split in splits)] for name in names]
    total = ["all", *(_count(sum(counts[split].values())) for split in splits)]
    return {"headings": ["class", *(_SPLIT_WORDS[s] for s in splits)], "rows": [*rows, total]} if rows else {}


def commands(experiment: Experiment) -> str:
    """What to type to do it again: the commit, the command, the report; empty where the manifest names no command."""
    manifest = experiment.manifest
    command = [str(part) for part in manifest.get("command") or []]
    if not command:
        return ""
    commit = str(manifest.get("git_commit") or "").removesuffix(_DIRTY)
    python = ["python"] if command[0].endswith(".py") else []
    return "\n".join(
        [
            *([shlex.join(["git", "checkout", commit])] if commit else []),
            shlex.join([*python, *command]),
            shlex.join(["glance-report", experiment.place]),
        ]
    )


def caveat(manifest: dict[str, Any]) -> str:
    """A sentence on what the commit does not hold; empty where it holds all."""
    dirty = str(manifest.get("git_commit") or "").endswith(_DIRTY)
    return "The code had changes that no commit holds when the search began." if dirty else ""


def identity(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """What decides a result: commit, seed and data."""
    dataset = manifest.get("dataset") or {}
    facts = {"git_commit": manifest.get("git_commit"), "seed": manifest.get("seed"), "data": dataset.get("name")}
    return _pairs({**facts, "data_hash": dataset.get("content_hash")})


def facts_tables(manifest: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What someone else would need: settings, data, versions, machine."""
    dataset = dict(manifest.get("dataset") or {})
    counts = dataset.pop("counts", None) or {}
    totals = {f"{split} images": sum(n.values()) if isinstance(n, dict) else n for split, n in counts.items()}
    for told in ("name", "content_hash", *(("classes", "unseen_classes") if counts else ())):
        dataset.pop(told, None)
    return [
        ("Settings", _pairs({name: manifest.get(name) for name in _SETTINGS})),
        ("Held fixed", _pairs(manifest.get("fixed"))),
        ("Data", _pairs({**dataset, **totals})),
        ("Versions", _pairs(manifest.get("versions"))),
        ("Machine", _pairs({**(manifest.get("hardware") or {}), **(manifest.get("resources") or {})})),
    ]


def _range(domain: Hyperparameter) -> tuple[str, str]:
    if domain.values:
        return listed([number(value) for value in domain.values]).replace(" and ", " or "), "choice"
    scale = "logarithmic" if domain.log else "linear"
    return f"{number(domain.low)} to {number(domain.high)}", scale if math.isfinite(domain.low) else "–"


def _count(count: Any) -> str:
    return f"{count:,}" if isinstance(count, int) else "–"


def _pairs(values: dict[str, Any] | None) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " ").replace(" bytes", ""), _size(value) if name.endswith("_bytes") else _fact(value))
        for name, value in (values or {}).items()
        if value not in (None, "", [], {})
    ]


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return number(value) if not isinstance(value, dict) else json.dumps(value, ensure_ascii=False)


def _size(value: Any) -> str:
    return f"{value / 1e9:,.1f} GB" if isinstance(value, int | float) else _fact(value)
