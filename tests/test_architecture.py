"""The rules of the house (docs/design.md), read from the source and from what an import loads."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("trainable", "search", "analysis")
OURS = (*ROOMS, "cluster", "tests", "benchmarks")

FOUNDATION = ("trainable.errors", "trainable.files", "trainable.config")
"""What every room of `trainable` may import; `trainable.errors`, the one exception tree, every room of the house."""

MAY_IMPORT = {
    "trainable/errors.py": (),
    "trainable/files.py": ("trainable.errors",),
    "trainable/config.py": ("trainable.errors", "trainable.files"),
    "trainable/storage/": (*FOUNDATION, "trainable.storage"),
    "trainable/data/": (*FOUNDATION, "trainable.storage", "trainable.data"),
    "trainable/model/": (*FOUNDATION, "trainable.data", "trainable.model"),
    "trainable/training/": (*FOUNDATION, "trainable.data", "trainable.model", "trainable.training"),
    "trainable/exports/": (*FOUNDATION, *(f"trainable.{room}" for room in ("data", "model", "training", "exports"))),
    "trainable/": ("trainable",),
    "search/": ("trainable", "search"),
    "analysis/": (
        "search.ledger",
        "search.trials",
        "trainable.errors",
        "trainable.files",
        "trainable.storage",
        "analysis",
    ),
    "cluster/": ("trainable.errors", "cluster"),
    "benchmarks/": (*ROOMS, "benchmarks"),
    "tests/": (*ROOMS, "cluster", "benchmarks", "tests"),
}
"""Of our own modules; the longest prefix of a file's path that stands here decides."""

ONLY_IN = {
    "ray.train": ("trainable/slot/",),
    "ray.tune": ("trainable/slot/", "search/"),
    "ray": ("trainable/slot/", "search/", "cluster/"),
    "optuna": ("search/", "analysis/"),
    "hyperopt": ("search/", "analysis/"),
    "torch": ("trainable/", "search/"),
}
"""Libraries that only some rooms may import; every name that matches decides. Tests and benchmarks are free."""


def imported_names(source: str, package: str) -> Iterator[str]:
    """Every dotted name that a module in `package` imports, wherever in the file; `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve(node.module, node.level, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def resolve(module: str | None, level: int, package: str) -> str:
    """The absolute name of what stands after `from`, with `level` leading dots."""
    parents = package.split(".")[: len(package.split(".")) - level + 1] if level else []
    return ".".join([*parents, *([module] if module else [])])


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def broken_rules(path: str, source: str) -> list[str]:
    """What a file at `path` (from the root, with slashes) imports against the rules."""
    names = sorted(set(imported_names(source, package=path.rpartition("/")[0].replace("/", "."))))
    room = max((prefix for prefix in MAY_IMPORT if path.startswith(prefix)), key=len)
    return [name for name in names if not (keeps_to_rooms(name, MAY_IMPORT[room]) and keeps_to_libraries(name, path))]


def keeps_to_rooms(name: str, allowed: tuple[str, ...]) -> bool:
    """Whether one of our modules may be imported; a package above an allowed module passes as the way to it."""
    ours = name.split(".")[0] in OURS
    return not ours or any(within(name, module) or within(module, name) for module in allowed)


def keeps_to_libraries(name: str, path: str) -> bool:
    if path.startswith(("tests/", "benchmarks/")):
        return True
    return all(path.startswith(rooms) for library, rooms in ONLY_IN.items() if within(name, library))


def python_files() -> list[str]:
    folders = [ROOT / name for name in OURS]
    return sorted(path.relative_to(ROOT).as_posix() for folder in folders for path in folder.rglob("*.py"))


@pytest.mark.parametrize("path", python_files())
def test_a_module_imports_only_what_its_room_may(path: str) -> None:
    broken = broken_rules(path, (ROOT / path).read_text(encoding="utf-8"))
    assert not broken, f"{path} must not import {', '.join(broken)}"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("trainable/train.py", "from search.ledger import read_ledger"),
        ("trainable/train.py", "import ray"),
        ("trainable/train.py", "import analysis"),
        ("trainable/data/store.py", "from trainable.model import towers"),
        ("trainable/data/store.py", "from ..model import towers"),
        ("trainable/model/towers.py", "def f():\n    import trainable.training.trainer"),
        ("trainable/training/trainer.py", "from trainable.slot.trial_slot import TrialSlot"),
        ("trainable/training/trainer.py", "from ray import train"),
        ("trainable/config.py", "import trainable.data"),
        ("search/run.py", "from analysis import load"),
        ("search/run.py", "from ray.train import RunConfig"),
        ("search/run.py", "import cluster"),
        ("analysis/load.py", "from search.spaces import SPACES"),
        ("analysis/load.py", "from search import spaces"),
        ("analysis/load.py", "from trainable.config import TrialConfig"),
        ("analysis/load.py", "import torch.nn"),
        ("analysis/load.py", "import ray"),
        ("trainable/model/towers.py", "import optuna"),
    ],
)
def test_a_forbidden_import_is_found(path: str, line: str) -> None:
    assert broken_rules(path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("trainable/slot/trial_slot.py", "from ray import train, tune"),
        ("trainable/training/trainer.py", "from ..data.store import Store"),
        ("trainable/train.py", "from trainable.training.trainer import Trainer"),
        ("search/run.py", "from ray import tune\nfrom trainable.slot.trial_slot import TrialSlot"),
        ("analysis/load.py", "from search.ledger import read_trials\nfrom trainable.errors import ExperimentError"),
        ("analysis/load.py", "from search import ledger"),
        ("trainable/model/towers.py", "import rayleigh"),
    ],
)
def test_an_allowed_import_passes(path: str, line: str) -> None:
    assert not broken_rules(path, line)


@pytest.mark.parametrize(
    "module",
    [
        *("trainable", "trainable.config", "trainable.errors", "search.ledger", "search.trials", "analysis"),
        *("trainable.storage.keeper", "trainable.storage.s3", "trainable.storage.arrow"),
    ],
)
def test_a_light_import_loads_neither_torch_nor_ray(module: str, tmp_path: Path) -> None:
    code = f"import sys, {module}; print(*({{'torch', 'ray'}} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout.strip()) == (0, ""), answer.stderr


def top_level_names(room: str) -> set[str]:
    """What `python <room>/<command>.py` can import from the room itself, which stands first on its path."""
    return {path.stem for path in (ROOT / room).iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__init__",
        "__pycache__",
    }


@pytest.mark.parametrize("room", [*ROOMS, "cluster"])
def test_no_module_shadows_a_library(room: str) -> None:
    libraries = importlib.metadata.packages_distributions().keys() | sys.stdlib_module_names
    assert "torch" in libraries
    assert not top_level_names(room) & libraries


def test_the_map_of_the_analysis_names_every_module() -> None:
    design = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    start = design.index("| tables and words |")
    table = design[design.rindex("| group |", 0, start) : design.index("\n\n", start)]
    modules = {path.stem for path in (ROOT / "analysis").glob("*.py")}
    assert modules - set(re.findall(r"`(\w+)`", table)) == set()


def tracked_files() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not names:
        pytest.skip("needs a git checkout")
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


MACHINE_PATH = re.compile(r"(?<![\w./~$}])(/work/|/root/|/Users/\w|/home/(?!ray\b)\w|[A-Z]:\\Users\\)")
"""A path that only one machine has; /home/ray is the home in Ray's own container image."""


def test_no_file_holds_the_path_of_a_machine() -> None:
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        if path != Path(__file__) and (MACHINE_PATH.search(text) or str(ROOT) in text):
            found.append(path.relative_to(ROOT).as_posix())
    assert not found


@pytest.mark.parametrize("text", ["open('/work/main/x')", "/root/.cache", "see /home/anna/x", r"C:\Users\Anna"])
def test_a_machine_path_is_recognised(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["/home/ray/glance", "https://a.org/work/x", "~/root/x", "../work/x"])
def test_another_path_is_not_taken_for_one(text: str) -> None:
    assert not MACHINE_PATH.search(text)


def console_commands() -> dict[str, str]:
    """Command name -> module that holds its `main`."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    return {name: target.partition(":")[0] for name, target in scripts.items()}


def test_every_command_is_a_script_of_its_room() -> None:
    for name, module in console_commands().items():
        path = ROOT / (module.replace(".", "/") + ".py")
        assert path.is_file(), f"{name} names {module}, which is no file"
        assert 'if __name__ == "__main__":' in path.read_text(encoding="utf-8"), f"{path} cannot be run as a script"
