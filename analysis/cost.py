"""What a search cost: the time for which its trials held slots, and money where an hour has a price."""

from dataclasses import dataclass

from analysis.frames import Experiment

_STATES = {
    "trials trained to the end": ("FINISHED",),
    "trials stopped early": ("STOPPED",),
    "failed trials": ("FAILED",),
    "trials not ended": ("RUNNING", "PAUSED", "PENDING"),
}
_CUT_OFF = "epochs that were cut off"
_AGAIN = "further seeds of the best configs"
_TOLD = {"trials stopped early": "on", "failed trials": "on", _CUT_OFF: "in", _AGAIN: "on"}
"""The parts that a sentence tells, each with the word before it."""


@dataclass(frozen=True)
class Share:
    """One part of the cost."""

    name: str
    hours: float
    """Hours times GPUs, or times CPUs where trials take no GPU."""
    share: float
    """Of the unit's total, from 0 to 1."""


@dataclass(frozen=True)
class Spent:
    """All that was spent in one unit."""

    unit: str
    """`GPU` or `CPU`."""
    hours: float
    parts: tuple[Share, ...]
    """Those that are not empty; they sum to `hours`."""
    money: float | None
    """None where the manifest gives this unit no price."""


def costs(experiment: Experiment) -> list[str]:
    """What the trials cost, a text for each unit that they held: GPU-hours, CPU-hours where they take no GPU, money."""
    return [_text(one) for one in spent(experiment)]


def spent(experiment: Experiment) -> list[Spent]:
    """Where the hours went, for each unit in which anything was spent."""
    return [found for unit in ("gpu", "cpu") if (found := _spent(experiment, unit)).hours]


def until_best(experiment: Experiment) -> float | None:
    """The share of the search's own cost that was spent when the best trial reported its best epoch."""
    reports, trials = experiment.reports, experiment.trials
    best = trials[trials["rank"] == 1]
    if best.empty or "search_slot_seconds" not in reports:
        return None
    at = reports[(reports["number"] == best["number"].iloc[0]) & (reports["epoch"] == best["best_epoch"].iloc[0])]
    total = float(reports["search_slot_seconds"].max())
    return float(at["search_slot_seconds"].iloc[0]) / total if total and len(at) else None


def _spent(experiment: Experiment, unit: str) -> Spent:
    trials, confirming = experiment.trials, experiment.confirming
    hours, lost = trials[f"{unit}_seconds"] / 3600, trials[f"lost_{unit}_seconds"] / 3600
    kept = (hours - lost).groupby(trials["state"]).sum()
    parts = {name: sum(float(kept.get(state, 0.0)) for state in states) for name, states in _STATES.items()}
    parts[_CUT_OFF] = float(lost.sum())
    parts[_AGAIN] = float(confirming[f"{unit}_seconds"].sum()) / 3600
    total, price = sum(parts.values()), price_of(experiment, unit)
    shares = tuple(Share(name, part, part / total) for name, part in parts.items() if part > 0)
    return Spent(unit.upper(), total, shares, None if price is None else price * total)


def _text(one: Spent) -> str:
    told = [f"{in_hours(part.hours)} {_TOLD[part.name]} {part.name}" for part in one.parts if part.name in _TOLD]
    of_which = f" ({', '.join(told)})" if told else ""
    money = "" if one.money is None else f", {one.money:,.2f} in money"
    return f"{in_hours(one.hours)} {one.unit}-hours{of_which}{money}"


def price_of(experiment: Experiment, unit: str) -> float | None:
    """The price of one hour in a unit, `gpu` or `cpu`: only that which the trials take has one."""
    resources = experiment.manifest.get("resources") or {}
    priced_unit = "gpu" if resources.get("gpus_per_worker") else "cpu"
    return experiment.manifest.get("price_per_hour") if unit == priced_unit else None


def in_hours(hours: float) -> str:
    """Hours as text, with as many digits as their size deserves."""
    return f"{hours:,.{0 if hours >= 100 else 2 if hours >= 1 else 3}f}"
