"""What the frames say: pure functions from frames to small tables, and to sentences."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.frames import CONFIG, Experiment
from analysis.hyperparameters import Hyperparameter, is_missing, words
from analysis.pareto import FRONT, outcomes
from search.ledger import STATES

EDGE = 0.1
"""A best value within this share of a range's end, on the range's own scale, is called at the edge."""

_EDGED_VALUES = 4

STATE_WORDS = {
    "PENDING": "waiting",
    "RUNNING": "unfinished",
    "PAUSED": "paused at a rung",
    "FINISHED": "trained to the end",
    "STOPPED": "stopped early",
    "FAILED": "failed",
}


@dataclass(frozen=True)
class Edge:
    """A hyperparameter whose best value lies at an end of its range."""

    name: str
    side: str
    """`lower` or `upper`."""
    value: Any
    bound: Any


def count_states(trials: pd.DataFrame) -> dict[str, int]:
    """How many trials are in each state, every state named, in the order of a trial's life."""
    counts = trials["state"].value_counts()
    return {state: int(counts.get(state, 0)) for state in STATES}


def best_trial(trials: pd.DataFrame) -> pd.Series | None:
    """The row of the trial ranked first; None where no trial has a value yet."""
    first = trials[trials["rank"] == 1]
    return None if first.empty else first.iloc[0]


def config_of(trial: pd.Series) -> dict[str, Any]:
    """A trial's hyperparameters as plain Python values, in the order of their columns."""
    return {
        str(name).removeprefix(CONFIG): value.item() if hasattr(value, "item") else value
        for name, value in trial.items()
        if str(name).startswith(CONFIG) and not is_missing(value)
    }


def best_so_far(reports: pd.DataFrame, metric: str = "val_accuracy", mode: str = "max") -> pd.DataFrame:
    """Every report that was better than all before it, in the order of time; failed trials are left out.

    Columns `elapsed_seconds`, `number` (the trial's), `epoch` and `value`.
    """
    columns = ["elapsed_seconds", "number", "epoch", "value"]
    if metric not in reports:
        return pd.DataFrame(columns=columns)
    usable = reports[(reports["state"] != "FAILED") & reports[metric].notna()]
    ordered = usable.sort_values("elapsed_seconds", kind="stable").rename(columns={metric: "value"})
    values = ordered["value"] if mode == "max" else -ordered["value"]
    return ordered.loc[values > values.cummax().shift(fill_value=-math.inf), columns].reset_index(drop=True)


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """Failed trials by cause, the most frequent first.

    Trials with the same kind of error, in the same place and with the same traceback file failed alike: the search
    writes one such file per cause. Columns `kind`, `where`, `message` (the first one's), `traceback_file`, `count` and
    `numbers` (the trials').
    """
    columns = ["kind", "where", "message", "traceback_file", "count", "numbers"]
    failed = trials[trials["state"] == "FAILED"].rename(columns=lambda name: str(name).removeprefix("failure/"))
    failed = failed.fillna({"kind": "unknown error", "where": "", "traceback_file": ""})
    rows = [
        [kind, where, _first_message(group), file, len(group), group["number"].tolist()]
        for (kind, where, file), group in failed.groupby(["kind", "where", "traceback_file"], sort=False)
    ]
    return pd.DataFrame(rows, columns=columns).sort_values("count", ascending=False, kind="stable", ignore_index=True)


def edges(trial: pd.Series, hyperparameters: dict[str, Hyperparameter]) -> list[Edge]:
    """The hyperparameters of a trial that lie at the lower or upper end of the range they were searched over.

    A choice among few values has no edges: most of its values would lie there.
    """
    found = []
    for name, domain in hyperparameters.items():
        value = config_of(trial).get(name)
        position = domain.position(value) if _has_edges(domain) else math.nan
        low, high = (domain.values[0], domain.values[-1]) if domain.values else (domain.low, domain.high)
        if position <= EDGE:
            found.append(Edge(name, "lower", value, low))
        elif position >= 1 - EDGE:
            found.append(Edge(name, "upper", value, high))
    return found


def verdict(experiment: Experiment) -> list[str]:
    """What the search found, in plain sentences: the best trial, the test accuracy, the edges, the trials' fates."""
    return [
        *_found(experiment),
        *_scheduled(experiment),
        *_confirmed(experiment),
        *_tested(experiment),
        *_trade_off_sentences(experiment),
        *_edge_sentences(experiment),
        *_fates(experiment),
        *_failure_sentences(experiment),
    ]


def costs(experiment: Experiment) -> list[str]:
    """What the trials cost, a text for each unit that they held: GPU-hours, CPU-hours where they take no GPU, money."""
    resources, price = experiment.manifest.get("resources") or {}, experiment.manifest.get("price_per_hour")
    priced_unit = "gpu" if resources.get("gpus_per_worker") else "cpu"
    trials = pd.concat([experiment.trials, experiment.confirming], ignore_index=True)
    texts = [_cost(trials, unit, price if unit == priced_unit else None) for unit in ("gpu", "cpu")]
    return [text for text in texts if text]


def _cost(trials: pd.DataFrame, unit: str, price: float | None) -> str:
    """The cost in one unit; empty where there is none."""
    hours, lost = trials[f"{unit}_seconds"] / 3600, trials[f"lost_{unit}_seconds"] / 3600
    by_state = (hours - lost).groupby(trials["state"]).sum()
    wasted = {
        "on trials stopped early": by_state.get("STOPPED", 0.0),
        "on failed trials": by_state.get("FAILED", 0.0),
        "in epochs that were cut off": lost.sum(),
    }
    parts = [f"{_hours(share)} {where}" for where, share in wasted.items() if share > 0]
    of_which = f" ({', '.join(parts)})" if parts else ""
    money = "" if price is None else f", {hours.sum() * price:,.2f} in money"
    return f"{_hours(hours.sum())} {unit.upper()}-hours{of_which}{money}" if hours.sum() else ""


def _hours(hours: float) -> str:
    return f"{hours:,.{0 if hours >= 100 else 2 if hours >= 1 else 3}f}"


def duration(seconds: float) -> str:
    """A time in the two largest units that fit: `4 min 12 s`."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"


def number(value: Any) -> str:
    """A hyperparameter or metric as text: four significant digits, no trailing zeros."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"


def plural(count: int, noun: str) -> str:
    """A count with its noun: `1 trial`, `2 trials`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _found(experiment: Experiment) -> list[str]:
    best = best_trial(experiment.trials)
    if best is None:
        return ["No trial has a result yet." if experiment.state == "RUNNING" else "No trial gave a result."]
    chance = f", where guessing gives {experiment.chance:.3f}" if _beside_chance(experiment) else ""
    epochs = (
        f"{best['best_epoch']:.0f} of {plural(int(experiment.manifest.get('max_epochs', best['epochs'])), 'epoch')}"
    )
    sofar = "so far " if experiment.state == "RUNNING" else ""
    return [
        f"The best {sofar}is trial {best['number']}: {words(experiment.metric)} {best['best_value']:.3f}"
        f" after {epochs}{chance}."
    ]


def _beside_chance(experiment: Experiment) -> bool:
    return experiment.chance is not None and experiment.metric.endswith("accuracy")


def _scheduled(experiment: Experiment) -> list[str]:
    """How the hyperparameters of the best weights changed, where trials went on from each other's checkpoints."""
    steps = (experiment.best or {}).get("schedule") or []
    if not steps:
        return []
    values = [_listed([f"{words(name)} {number(value)}" for name, value in step["changes"].items()]) for step in steps]
    told = zip(steps[1:], values[1:], strict=True)
    later = [f"from epoch {step['epoch'] + 1} on {text}" for step, text in told if text]
    return [
        f"A schedule trained its weights: at first {'; '.join([values[0], *later])}. Its config alone, trained "
        "from the start, is not what was found."
    ]


def _confirmed(experiment: Experiment) -> list[str]:
    found = (experiment.best or {}).get("confirmation") or {}
    if found.get("mean") is None:
        return []
    spread = "" if found["std"] is None else f" ± {found['std']:.3f}"
    return [
        f"Trained again with {plural(len(found['values']), 'further seed')}, its config gives "
        f"{found['mean']:.3f}{spread} on validation: the best of many noisy values flatters."
    ]


def _tested(experiment: Experiment) -> list[str]:
    accuracy = ((experiment.best or {}).get("metrics") or {}).get("test_accuracy")
    if accuracy is None:
        return []
    return [f"On the test split, which the search never saw, it reaches {accuracy:.3f} (measured once, at the end)."]


def _trade_off_sentences(experiment: Experiment) -> list[str]:
    """The front in plain words; empty where there is one metric alone, or no trial came to its end."""
    if len(experiment.metrics) < 2:
        return []
    found = outcomes(experiment.reports, experiment.trials, experiment.metrics)
    front = found[found[FRONT].astype(bool)]
    if front.empty:
        return []
    named = " and ".join(words(name) for name in experiment.metrics)
    ends = [_extreme(front, name, mode) for name, mode in experiment.metrics.items()]
    return [f"In {named} at once no other trial beats {plural(len(front), 'trial')}: {'; '.join(ends)}."]


def _extreme(front: pd.DataFrame, metric: str, mode: str) -> str:
    """The trial of the front with the best value of one metric."""
    best = front.sort_values([metric, "number"], ascending=[mode == "min", True]).iloc[0]
    return f"trial {best['number']} has the best {words(metric)} ({number(float(best[metric]))})"


def _edge_sentences(experiment: Experiment) -> list[str]:
    best = best_trial(experiment.trials)
    ranges = [domain for domain in experiment.hyperparameters.values() if _has_edges(domain)]
    if best is None or not ranges:
        return []
    found = edges(best, experiment.hyperparameters)
    return [
        f"The best {words(edge.name)}, {number(edge.value)}, lies at the {edge.side} edge of its range"
        f" (which ends at {number(edge.bound)}): try beyond it."
        for edge in found
    ] or [f"The best {_listed([words(domain.name) for domain in ranges])} {_lie(len(ranges))}, not at an edge."]


def _has_edges(domain: Hyperparameter) -> bool:
    return domain.varied and domain.ordered and (not domain.values or len(domain.values) >= _EDGED_VALUES)


def _lie(count: int) -> str:
    return "lies inside its range" if count == 1 else "lie inside their ranges"


def _fates(experiment: Experiment) -> list[str]:
    counts = {state: count for state, count in count_states(experiment.trials).items() if count}
    total = sum(counts.values())
    if not total:
        return ["No trial was started yet." if experiment.state == "RUNNING" else "The search started no trial."]
    if len(counts) > 1:
        parts = [f"{count:,} {STATE_WORDS[state]}" for state, count in counts.items()]
        return [f"Of {plural(total, 'trial')}, {_listed(parts)}."]
    fate = STATE_WORDS[next(iter(counts))]
    verb = ("is " if total == 1 else "are ") if fate in ("unfinished", "waiting") else ""
    return [f"{'The only trial' if total == 1 else f'All {total:,} trials'} {verb}{fate}."]


def _failure_sentences(experiment: Experiment) -> list[str]:
    causes = failures(experiment.trials)
    if causes.empty:
        return []
    first = causes.iloc[0]
    where = f" in {first['where']}" if first["where"] else ""
    if len(causes) == 1:
        lead = "The failure" if first["count"] == 1 else "The failures, all alike"
        return [f"{lead}: {first['kind']}{where}."]
    return [f"Trials failed of {len(causes)} causes, most often ({first['count']} times) {first['kind']}{where}."]


def _listed(parts: list[str]) -> str:
    return "".join(parts) if len(parts) < 2 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _first_message(group: pd.DataFrame) -> str:
    messages = group["message"].dropna()
    return "" if messages.empty else str(messages.iloc[0])
