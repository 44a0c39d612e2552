"""Dimensions that act only in some trials, by the value of another dimension."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.dimensions import Value
from trainable.errors import ConfigError


@dataclass(frozen=True)
class Condition:
    """A dimension acts where its parent has one of `values`; elsewhere it is not drawn, and keeps its default."""

    parent: str
    values: tuple[Value, ...]

    def holds(self, config: Mapping[str, Any]) -> bool:
        """Whether the parent acts in a config that holds acting dimensions alone, and has one of the values."""
        value = config.get(self.parent)
        return any(type(value) is type(allowed) and value == allowed for allowed in self.values)


def check_conditions(names: list[str], conditions: Mapping[str, Condition]) -> None:
    """Raise `ConfigError` unless each condition's parent stands before its dimension in `names`."""
    for name, condition in conditions.items():
        if name not in names or condition.parent not in names[: names.index(name)]:
            raise ConfigError(
                f"a condition must stand between two dimensions of the space, the parent first, but {name} has the "
                f"parent {condition.parent} and the space is {', '.join(names)}."
            )
