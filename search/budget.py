"""What a search costs: GPU-hours, or CPU-hours where its trials take no GPU, and money. Knows no Ray."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from search.slot_time import UNITS, Slot
from search.trials import TrialRecord
from trainable.slot.cluster import TrialResources


def slot_of(resources: TrialResources) -> Slot:
    """What a trial is counted by: its GPUs, or its CPUs where it takes none."""
    if resources.gpus_per_worker:
        return Slot("GPU", resources.workers * resources.gpus_per_worker)
    return Slot("CPU", resources.workers * resources.cpus_per_worker)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The hours that trials held GPUs (or CPUs): `total` is the sum of the others."""

    unit: str
    """`GPU` or `CPU`."""
    hours_total: float
    hours_finished: float
    """On trials that reached their last epoch."""
    hours_stopped: float
    """On trials that the scheduler stopped."""
    hours_failed: float
    hours_open: float
    """On trials that have not ended."""
    hours_lost: float
    """In epochs of any of these that were cut off, by the death of a process or the search's end, or trained again."""
    hours_confirming: float
    """On further seeds of the best configs, whatever came of them."""
    price_per_hour: float | None = None

    @property
    def money(self) -> float | None:
        """What all hours cost; None without a price."""
        return None if self.price_per_hour is None else self.hours_total * self.price_per_hour

    @classmethod
    def of(
        cls, trials: Iterable[TrialRecord], unit: str, *, price_per_hour: float | None = None, now: float = 0.0
    ) -> Self:
        """The cost in one unit; trials that run count up to `now` (Unix seconds), else to their last event."""
        hours = dict.fromkeys(("FINISHED", "STOPPED", "FAILED", "open", "lost", "confirming"), 0.0)
        for trial in trials:
            spent, lost = trial.slot_time.spent_at(now)[unit], trial.slot_time.lost[unit]
            if trial.confirms is not None:
                hours["confirming"] += spent / 3600
                continue
            hours[trial.state if trial.ended else "open"] += (spent - lost) / 3600
            hours["lost"] += lost / 3600
        return cls(
            unit=unit,
            hours_total=sum(hours.values()),
            hours_finished=hours["FINISHED"],
            hours_stopped=hours["STOPPED"],
            hours_failed=hours["FAILED"],
            hours_open=hours["open"],
            hours_lost=hours["lost"],
            hours_confirming=hours["confirming"],
            price_per_hour=price_per_hour,
        )


def cost_lines(trials: Collection[TrialRecord], priced_unit: str, price_per_hour: float | None) -> list[str]:
    """What trials cost, a line for each unit that they held; money for `priced_unit` alone."""
    prices = {priced_unit: price_per_hour}
    costs = [Cost.of(trials, unit, price_per_hour=prices.get(unit)) for unit in UNITS]
    return [_line(cost) for cost in costs if cost.hours_total]


def _line(cost: Cost) -> str:
    told = {
        "on trials stopped early": cost.hours_stopped,
        "on failed trials": cost.hours_failed,
        "in epochs that were cut off": cost.hours_lost,
        "on further seeds of the best configs": cost.hours_confirming,
    }
    parts = [f"{hours_text(hours)} {where}" for where, hours in told.items() if hours]
    of_which = f", of which {', '.join(parts)}" if parts else ""
    money = "" if cost.money is None else f"; {cost.money:,.2f} in money, at {cost.price_per_hour:g} an hour"
    return f"Cost: {hours_text(cost.hours_total)} {cost.unit}-hours{of_which}{money}."


def hours_text(hours: float) -> str:
    """Hours to about three digits."""
    return f"{hours:,.{0 if hours >= 100 else 2 if hours >= 1 else 3}f}"
