"""Hyperparameters as axes: which of them varied, over what range, on which scale."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WORDS = {
    "epoch_seconds": "seconds per epoch",
    "learning_rate": "learning rate",
    "logit_scale": "initial logit scale (log space)",
    "embedding_dim": "embedding dim",
    "weight_init": "weight initialisation",
    "val_accuracy": "validation accuracy",
    "val_balanced_accuracy": "balanced validation accuracy",
    "val_loss": "validation loss",
    "train_accuracy": "training accuracy",
    "train_loss": "training loss",
    "test_accuracy": "test accuracy",
    "val_unseen_accuracy": "validation accuracy on unseen classes",
    "val_unseen_balanced_accuracy": "balanced validation accuracy on unseen classes",
    "val_harmonic_accuracy": "harmonic mean of validation accuracies on seen and unseen classes",
    "val_harmonic_balanced_accuracy": "harmonic mean of balanced validation accuracies on seen and unseen classes",
}
"""Names that read better in other words; every other name only loses its underscores."""

FOUR = ("learning_rate", "logit_scale", "embedding_dim", "weight_init")
"""The hyperparameters that every report plots, varied or not."""

_LOG_SPREAD = 30.0
_FEW_VALUES = 8
_EXPRESSION = re.compile(r"^\s*(\w+)\s*\((.*)\)\s*$", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Hyperparameter:
    """One hyperparameter's domain: an interval on a linear or logarithmic scale, or a list of values."""

    name: str
    log: bool = False
    low: float = math.nan
    high: float = math.nan
    values: tuple[Any, ...] = ()
    """The values of a choice, numbers in rising order; empty for an interval."""

    @property
    def varied(self) -> bool:
        """Whether more than one value was possible."""
        return len(self.values) > 1 or self.low < self.high

    @property
    def ordered(self) -> bool:
        """Whether its values have a lower and an upper end."""
        return not self.values or all(_is_number(value) for value in self.values)

    def position(self, value: Any) -> float:
        """Where a value lies, from 0 (the lower end) to 1 (the upper end), on its own scale."""
        if self.values:
            return self.values.index(value) / max(1, len(self.values) - 1) if value in self.values else math.nan
        if not _is_number(value) or (self.log and value <= 0):
            return math.nan
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low) if low < high else math.nan

    def value_at(self, position: float) -> float:
        """The value of an interval at a position from 0 to 1, which `position` turns back; NaN for a choice."""
        if self.log:
            return float(self.low * (self.high / self.low) ** position)
        return float(self.low + (self.high - self.low) * position)


def words(name: str) -> str:
    """A hyperparameter or metric in words."""
    return WORDS.get(name, name.replace("_", " "))


def is_missing(value: Any) -> bool:
    """Whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def parse_expression(name: str, expression: str) -> Hyperparameter | None:
    """Read one entry of the manifest's search space; None for an expression of an unknown kind."""
    match = _EXPRESSION.match(expression)
    if match is None:
        return Hyperparameter(name=name, values=tuple(_atoms(expression)))
    kind, arguments = match[1], _atoms(match[2])
    if kind == "choice":
        return Hyperparameter(name=name, values=_in_order(arguments))
    if kind not in ("uniform", "loguniform", "randint") or list(map(_is_number, arguments)) != [True, True]:
        return None
    low, high = arguments
    if kind == "randint" and high - low < _FEW_VALUES:
        return Hyperparameter(name=name, values=tuple(range(low, high + 1)))
    return Hyperparameter(name=name, log=kind == "loguniform", low=low, high=high)


def infer(name: str, values: Sequence[Any]) -> Hyperparameter:
    """A domain inferred from the values that were drawn, for a hyperparameter that the manifest does not describe."""
    distinct = list(dict.fromkeys(value for value in values if not is_missing(value)))
    if len(distinct) <= _FEW_VALUES or not all(_is_number(value) for value in distinct):
        return Hyperparameter(name=name, values=_in_order(distinct))
    low, high = min(distinct), max(distinct)
    return Hyperparameter(name=name, log=low > 0 and high / low >= _LOG_SPREAD, low=low, high=high)


def hyperparameters_of(space: Mapping[str, str], drawn: Mapping[str, Sequence[Any]]) -> dict[str, Hyperparameter]:
    """Every hyperparameter worth a plot, the usual four first, then the rest of the space, then what else differs.

    `space` is the manifest's; `drawn` maps each hyperparameter to its values over the trials. Hyperparameters that were
    neither searched nor differ between trials are left out, the usual four excepted.
    """
    found: dict[str, Hyperparameter] = {}
    for name in dict.fromkeys([*FOUR, *space, *drawn]):
        domain = parse_expression(name, str(space[name])) if name in space else None
        domain = domain or infer(name, drawn.get(name, ()))
        wanted = name in FOUR or (domain.varied and (name in space or name != "seed"))
        if name in drawn and wanted:
            found[name] = _covering(domain, drawn[name])
    return found


def _covering(domain: Hyperparameter, drawn: Sequence[Any]) -> Hyperparameter:
    """The same choice, completed by values drawn that it does not list, so that no trial falls off the plot."""
    if not domain.values:
        return domain
    known = [*domain.values, *(value for value in drawn if not is_missing(value))]
    return Hyperparameter(name=domain.name, values=_in_order(list(dict.fromkeys(known))))


def _atoms(text: str) -> list[Any]:
    """The values of a comma-separated list; strings stand bare, or in double quotes with backslash escapes."""
    row = next(csv.reader([text], skipinitialspace=True, escapechar="\\", doublequote=False), [])
    return [_atom(item.strip()) for item in row]


def _atom(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _in_order(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(sorted(values)) if all(_is_number(value) for value in values) else tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
