"""The command line of `search/run.py`: flags and, under them, a YAML file, read into `SearchOptions`."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from search.options import FIELD_TYPES, SearchOptions, check_type, flag, full_metric, type_name
from search.place import begun
from search.spaces import SPACES
from trainable.errors import CommandParser, ConfigError, nearest

RESUMABLE = (
    *("trials", "max_epochs", "time_budget", "budget_hours", "price_per_hour", "data_path", "confirm", "keep_best"),
    *("workers_per_trial", "max_concurrent", "cpus_per_worker", "gpus_per_worker", "accelerator_type"),
    *("max_failures", "max_lost_minutes", "logger"),
)
"""What may be asked anew where a search goes on."""
POPULATION = ("trials", "max_epochs")
"""What may not with pbt: the checkpoints that further trials, or epochs, would go on from are gone."""
REPEATABLE = ("warm_start", "logger")
"""Flags that may be given several times; in a file they are a list, or one value."""
MAX_FLAGS = 40
"""A command line longer than this is no longer read by anybody."""

EXAMPLES = """\
examples:
  python search/run.py --algo asha                               16 trials on the built-in faces
  python search/run.py --dataset fer2013 --data-path FOLDER      real faces
  python search/run.py --set learning_rate=1e-3 --set 'embedding_dim=choice(64,128)'
  python search/run.py --algo optuna --space wide --trials 64 --time-budget 2h
  python search/run.py --config search.yaml --trials 8           flags win over the file

search spaces:
""" + "\n".join(f"  {name:<12}{space.description}" for name, space in SPACES.items())


def parse_options(argv: Sequence[str] | None = None) -> SearchOptions:
    """Read the command line; `argv` is without the program's name, None means `sys.argv`.

    A flag wins over the `--config` file, the file over the defaults; the `--set` of both are joined, the flags' last.
    Raises `ConfigError`; `--help` prints and exits.
    """
    values = vars(build_parser().read(argv))
    config = values.pop("config", None)
    from_file = {} if config is None else read_config(Path(_expand_home("config", config)))
    overrides = (*from_file.pop("overrides", ()), *values.pop("overrides", ()))
    merged = {**from_file, **values}
    for name in ("storage", "data_path", "resume", "points"):
        if merged.get(name) is not None:
            merged[name] = _expand_home(name, merged[name])
    for name in REPEATABLE:
        if name in merged:
            merged[name] = tuple(_expand_home(name, item) for item in merged[name])
    if merged.get("resume") is not None:
        return _resumed(merged["resume"], {**merged, **({"overrides": overrides} if overrides else {})})
    return SearchOptions(**merged, overrides=overrides)


def _resumed(where: str, given: dict[str, Any]) -> SearchOptions:
    """What the experiment in a folder or at an address was asked, with what is asked anew; raises `ConfigError`."""
    folder, storage, manifest = begun(where)
    asked, given = manifest.get("options"), {**given, "resume": str(folder)}
    defaults = {field.name: field.default for field in dataclasses.fields(SearchOptions)}
    if not isinstance(asked, dict) or not asked.keys() <= defaults.keys():
        raise ConfigError(
            f"--resume needs an experiment that this version or an older one began, but {where} is of another one."
        )
    asked = {**defaults, **asked}  # an older version had fewer
    tuples = {name: tuple(asked[name]) for name in ("overrides", *REPEATABLE)}
    asked = {**asked, **tuples, "storage": storage, "name": folder.name}
    given = {name: value for name, value in given.items() if value is not None or name in RESUMABLE}
    if "metric" in given:
        given["metric"] = full_metric(given["metric"])
    for name, value in given.items():
        fixed = name not in RESUMABLE or (asked.get("scheduler") == "pbt" and name in POPULATION)
        if fixed and name != "resume" and value != asked[name]:
            raise ConfigError(
                f"{flag(name)} must stay what it was where a search goes on, but it was {asked[name]} and now is "
                f"{value}. Leave it away, or begin a new search."
            )
    return SearchOptions(**{**asked, **given, "storage": asked["storage"], "name": asked["name"]})


def build_parser() -> CommandParser:
    """The parser; a flag that was not given leaves nothing in the namespace."""
    parser = CommandParser(
        prog="search/run.py",
        description="Search the hyperparameters of a CLIP-style emotion model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    fields = dataclasses.fields(SearchOptions)
    groups = {title: parser.add_argument_group(title) for title in dict.fromkeys(f.metadata["group"] for f in fields)}
    for field in fields:
        _add_flag(groups[field.metadata["group"]], field)
    parser.add_argument("--config", metavar="FILE", help="a YAML file of the same names, without the dashes")
    return parser


def flag_table() -> list[tuple[str, str, str]]:
    """Every flag with its default and what it does, in order of --help."""
    rows = []
    for field in dataclasses.fields(SearchOptions):
        default = "" if field.default in (None, ()) else str(field.default)
        rows.append((flag(field.name), default, str(field.metadata["doc"])))
    return [*rows, ("--config", "", "a YAML file of the same names, without the dashes")]


def read_config(path: Path) -> dict[str, Any]:
    """The fields of `SearchOptions` that a YAML file sets; raises `ConfigError`.

    Keys are the flags' names, with dashes or underscores. `set` is a list of ``name=dimension`` or a mapping of name to
    dimension. Null is as if the line were not there; where a search goes on, it lifts what may be changed.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config must name a readable file, but {path}: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--config must name a YAML file, but {path}: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold 'name: value' lines, but holds a {type(document).__name__}.")
    items = (_config_item(path, str(key), value) for key, value in document.items())
    return {name: value for name, value in items if value is not None or name not in ("overrides", *REPEATABLE)}


def _add_flag(group: argparse._ArgumentGroup, field: "dataclasses.Field[Any]") -> None:
    doc = field.metadata["doc"] + ("" if field.default in (None, ()) else f" (default: {field.default})")
    if field.name == "overrides":
        group.add_argument("--set", dest="overrides", action="append", metavar="NAME=VALUE", help=doc)
    elif field.name in REPEATABLE:
        group.add_argument(flag(field.name), action="append", metavar=field.metadata["metavar"], help=doc)
    else:
        kind = FIELD_TYPES[str(type_name(field)).removesuffix(" | None")]
        group.add_argument(flag(field.name), type=kind, metavar=field.metadata["metavar"] or "NAME", help=doc)


def _expand_home(name: str, path: str) -> str:
    """The path with a leading `~` replaced, which no shell does in a file or after `--storage=`."""
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise ConfigError(f"{flag(name)} must begin with ~ only before a user's name, but got {path!r}.") from error


def _config_item(path: Path, key: str, value: Any) -> tuple[str, Any]:
    """One line of the file as a field's name and value, its type checked."""
    names = {
        flag(field.name).removeprefix("--").replace("-", "_"): field for field in dataclasses.fields(SearchOptions)
    }
    name = key.replace("-", "_")
    if name not in names:
        raise ConfigError(f"{path}: no option is called {key!r}.{nearest(name, names)}")
    try:
        if name == "set":
            return "overrides", None if value is None else _overrides(value)
        if name in REPEATABLE and value is not None:
            return name, tuple(value) if isinstance(value, list) else (str(value),)
        check_type(names[name].name, type_name(names[name]), value)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return names[name].name, value


def _overrides(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        return tuple(f"{name}={_yaml_atom(item)}" for name, item in value.items())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ConfigError(f"set must be a list of 'name=value' or a mapping, but got {value!r}.")


def _yaml_atom(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
