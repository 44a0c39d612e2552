"""The shell commands in a launcher file."""

from collections.abc import Iterator
from typing import Any

from cluster.document import KeyPath


def commands_of(config: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Every shell command of the file with where it stands."""
    holders: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), config)]
    holders += [(("available_node_types", name), kind) for name, kind in config.get("available_node_types", {}).items()]
    for path, holder in holders:
        for key in (key for key in holder if key.endswith("_commands")):
            for index, command in enumerate(holder[key]):
                yield (*path, key, index), command
