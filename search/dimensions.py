"""The dimensions of a search space: what one hyperparameter may be drawn from.

`str(dimension)` is an expression that `search.grammar.parse_dimension` reads back.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainable.errors import ConfigError

Value = bool | int | float | str
"""One hyperparameter's value."""

BARE_WORD = re.compile(r"[^\s(),'\"=]+")
"""What needs no quotes: no blank, bracket, comma, quote or equals sign."""
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Uniform:
    """A float, uniform over [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Raise `ConfigError` unless low < high."""
        _check_interval("uniform", self.low, self.high)

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return float(rng.uniform(self.low, self.high))

    def edges(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"uniform({_bound(self.low)},{_bound(self.high)})"


@dataclass(frozen=True)
class LogUniform:
    """A float whose logarithm is uniform over [ln low, ln high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Raise `ConfigError` unless 0 < low < high."""
        _check_interval("loguniform", self.low, self.high)
        if self.low <= 0:
            raise ConfigError(f"loguniform must have 0 < low, but got low {_bound(self.low)}: use uniform.")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value; clipped, because exp(ln x) may miss x by a rounding."""
        value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return float(min(max(value, self.low), self.high))

    def edges(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"loguniform({_bound(self.low)},{_bound(self.high)})"


@dataclass(frozen=True)
class RandInt:
    """An integer, uniform over low, low + 1, ..., high: both ends belong to it."""

    low: int
    high: int

    def __post_init__(self) -> None:
        """Raise `ConfigError` unless both are integers and low < high."""
        for value in (self.low, self.high):
            if not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(f"randint must have integers, but got {value!r}: use uniform for floats.")
        _check_interval("randint", self.low, self.high)

    def sample(self, rng: np.random.Generator) -> int:
        """Draw one value."""
        return int(rng.integers(self.low, self.high, endpoint=True))

    def edges(self) -> tuple[int, int]:
        """The smallest and the largest value."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"randint({self.low},{self.high})"


@dataclass(frozen=True)
class Choice:
    """One of several values, each as likely as the others."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        """Raise `ConfigError` unless there are two values or more, all different."""
        if len(self.values) < 2:
            raise ConfigError(f"choice must have two values or more, but got {self}: write the value alone to fix it.")
        if len({(isinstance(value, bool), value) for value in self.values}) < len(self.values):
            raise ConfigError(f"choice must have different values, but got {self}.")

    def sample(self, rng: np.random.Generator) -> Value:
        """Draw one value."""
        return self.values[int(rng.integers(len(self.values)))]

    def edges(self) -> tuple[Value, ...]:
        """Every value."""
        return self.values

    def __str__(self) -> str:
        return f"choice({','.join(atom(value) for value in self.values)})"


@dataclass(frozen=True)
class Fixed:
    """One value that every trial has."""

    value: Value

    def sample(self, rng: np.random.Generator) -> Value:
        """The value; nothing is drawn."""
        return self.value

    def edges(self) -> tuple[Value]:
        """The one value."""
        return (self.value,)

    def __str__(self) -> str:
        return atom(self.value)


Dimension = Uniform | LogUniform | RandInt | Choice | Fixed


def can_hold(dimension: Dimension, value: Any) -> bool:
    """Whether a dimension can have a value; true is not 1, and a whole number passes as a float."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match dimension:
        case Uniform(low, high) | LogUniform(low, high):
            return number and low <= value <= high
        case RandInt(low, high):
            return number and isinstance(value, int) and low <= value <= high
        case Choice() | Fixed():
            return any(same(value, own) for own in dimension.edges())


def same(one: Any, other: Any) -> bool:
    """Whether two values of a hyperparameter are the same; true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def atom(value: Value) -> str:
    """A value as the grammar writes it: true, 64, 0.5, kaiming, "two words"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    bare = BARE_WORD.fullmatch(value) and not NUMBER.fullmatch(value) and value.lower() not in ("true", "false")
    return value if bare else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _bound(value: float) -> str:
    """The shortest decimal that reads back as the same float."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _check_interval(name: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{name} must have finite bounds, low < high, but got {name}({low},{high}).")
