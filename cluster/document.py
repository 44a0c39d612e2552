"""A YAML document with its lines, and what a check finds wrong in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainable.errors import ConfigError

MERGE = "<<"
"""The key by which a YAML mapping takes over another's entries."""

KeyPath = Sequence[str | int]


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong."""

    line: int
    """Counts from 1."""
    sentence: str


@dataclass(frozen=True)
class Document:
    """One document of a YAML file."""

    data: Any
    root: yaml.Node
    text: str
    """The whole file."""

    def line(self, keys: KeyPath) -> int:
        """The line of the entry at `keys`, or of the innermost one on the way there that the file has.

        A value that stands elsewhere under an anchor is found where it is written.
        """
        node, line = self.root, _line(self.root)
        for key in keys:
            entry = _entry(node, key)
            if entry is None:
                break
            holder, node = entry
            line = _line(node if isinstance(node, yaml.ScalarNode) else holder)
        return line

    def finding(self, keys: KeyPath, sentence: str) -> Finding:
        """A finding at the line of `keys`."""
        return Finding(self.line(keys), sentence)

    def line_of_text(self, part: str, otherwise: KeyPath = ()) -> int:
        """The first line that holds `part`, or that of the entry `otherwise`."""
        for number, line in enumerate(self.text.splitlines(), start=1):
            if part in line:
                return number
        return self.line(otherwise)


def read_documents(path: Path) -> list[Document]:
    """The documents of a YAML file; raises `ConfigError` where it is none."""
    try:
        text = path.read_text(encoding="utf-8")
        roots = [root for root in yaml.compose_all(text, Loader=yaml.SafeLoader) if root is not None]
        contents = [data for data in yaml.safe_load_all(text) if data is not None]
    except OSError as error:
        raise ConfigError(f"{path} must be a readable file, but: {error.strerror}.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: this must be YAML, but {error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} must be YAML, but: {error}.") from error
    documents = [Document(data, root, text) for data, root in zip(contents, roots, strict=True)]
    if not documents or not all(isinstance(document.data, dict) for document in documents):
        raise ConfigError(f"{path} must hold YAML mappings, but holds something else or nothing.")
    return documents


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _entry(node: yaml.Node, key: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Where the entry `key` begins, and its value; entries of the mapping itself come before merged ones."""
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, value in node.value:
        if name.value == str(key):
            return name, value
    merged = [value for name, value in node.value if name.value == MERGE]
    sources = [source for value in merged for source in (value.value if _is_list(value) else [value])]
    found = (_entry(source, key) for source in sources)
    return next((entry for entry in found if entry is not None), None)


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode)
