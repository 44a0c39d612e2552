"""What pyproject.toml declares, what constraints.txt pins, and what the source imports."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("trainable", "search", "analysis")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in PROJECT["optional-dependencies"].items()}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [line.partition("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in requirements}


def imported_libraries() -> dict[str, str]:
    """Top-level name of every library that our source imports -> a file that does."""
    found = {}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.partition(".")[0]: path.relative_to(ROOT).as_posix() for name in names}
    return {name: file for name, file in found.items() if name not in (*sys.stdlib_module_names, *ROOMS)}


@pytest.mark.parametrize("requirement", [*RUNTIME, *chain(*EXTRAS.values())], ids=str)
def test_every_dependency_is_pinned_to_a_version_that_it_allows(requirement: Requirement) -> None:
    version = pins().get(canonicalize_name(requirement.name))
    assert version is not None, f"constraints.txt must pin {requirement.name}"
    assert requirement.specifier.contains(version), f"constraints.txt pins {version}, but {requirement} is asked for"


def test_every_pin_is_one_exact_public_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)] == []


def test_every_imported_library_is_declared() -> None:
    distributions = importlib.metadata.packages_distributions()
    extras = chain(*(requirements for name, requirements in EXTRAS.items() if name != "dev"))
    declared = {canonicalize_name(requirement.name) for requirement in (*RUNTIME, *extras)}
    undeclared = {
        name: file
        for name, file in imported_libraries().items()
        if not declared & {canonicalize_name(owner) for owner in distributions.get(name, [])}
    }
    assert not undeclared


def test_the_licence_is_the_declared_one() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
