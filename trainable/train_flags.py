"""The flags of `trainable/train.py`, and which of them go together."""

import argparse
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from trainable.config import TrialConfig
from trainable.data_flags import DATA_PATH_HELP, DATASET_HELP
from trainable.errors import CommandParser, ConfigError, nearest, require
from trainable.files import user_path

OVERFIT_IMAGES = 256
MAX_LOST_MINUTES = 10.0

EXAMPLES = """\
examples:
  python trainable/train.py                                       the default config on the built-in faces
  python trainable/train.py --config results/demo/best.json       the best config of a search, on its data
  python trainable/train.py --config s3://bucket/results/demo/best.json
  python trainable/train.py --dataset fer2013 --data-path FOLDER --set learning_rate=1e-3 --max-epochs 30
  python trainable/train.py --resume results/train-20260102-030405
  python trainable/train.py --config results/demo/best.json --overfit 256
  python trainable/train.py --config results/demo/best.json --max-epochs 30 --workers 8      DDP over eight processes
"""


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was asked; raises `ConfigError` for flags that do not go together."""
    arguments = _parser().read(argv)
    _check_combination(arguments)
    return arguments


def parse_setting(text: str) -> tuple[str, Any]:
    """Read `name=value` by the type of the field of `TrialConfig`; raises `ConfigError`."""
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not name or not value:
        raise ConfigError(f"--set must have the form name=value, but got {text!r}. Example: --set learning_rate=1e-3.")
    types = {field.name: field.type for field in dataclasses.fields(TrialConfig)}
    if name not in types:
        raise ConfigError(f"no hyperparameter is called {name!r}.{nearest(name, types)}")
    try:
        return name, _PARSERS[types[name]](value)
    except (ValueError, KeyError):
        raise ConfigError(
            f"--set {name} must be {_KINDS[types[name]]}, but got {value!r}. It takes one value; ranges are for "
            "search/run.py."
        ) from None


_PARSERS: dict[Any, Callable[[str], Any]] = {
    bool: lambda text: {"true": True, "false": False}[text.lower()],
    int: int,
    float: float,
    str: str,
}
_KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="trainable/train.py",
        description="Train one config at full length, or check on a few images that it can learn at all.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_config(parser.add_argument_group("Config"))
    _add_data(parser.add_argument_group("Data"))
    _add_run(parser.add_argument_group("Run"))
    return parser


def _add_config(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--config",
        metavar="FILE",
        help="a config as JSON, or the best.json of a search, which names its data; a file, or an address in a bucket",
    )
    add(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one hyperparameter, such as learning_rate=1e-3 (any field of trainable/config.py); repeatable",
    )
    add("--max-epochs", type=int, metavar="N", help="length of the run (default: the config's; --overfit: at most 100)")
    add(
        "--seed",
        type=int,
        metavar="N",
        help="seeds weights, batches, templates and augmentation (default: the config's)",
    )


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--dataset", metavar="NAME", help=f"{DATASET_HELP} (default: the config's, or synthetic)")
    add("--data-path", metavar="PATH", help=DATA_PATH_HELP)
    add(
        "--unseen",
        metavar="GROUPS",
        help="classes not to train, as VALIDATION[:TEST], a named split or none (default: the config's, or the data's)",
    )


def _add_run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--out", type=user_path, metavar="FOLDER", help="the folder of the run (default: results/train-<time>)")
    add(
        "--resume",
        type=user_path,
        metavar="FOLDER",
        help="go on with the run in this folder, with no other flag but --workers and --max-lost-minutes",
    )
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes that train together with DDP, one GPU each where the Ray cluster has any (default: 1)",
    )
    add(
        "--max-lost-minutes",
        type=float,
        metavar="M",
        help=f"work that may be lost: longer epochs are checkpointed within (default: {MAX_LOST_MINUTES:g})",
    )
    add(
        "--overfit",
        type=int,
        nargs="?",
        const=OVERFIT_IMAGES,
        metavar="N",
        help=f"only check that the config learns N training images by heart (default: {OVERFIT_IMAGES}); keeps nothing",
    )


def _check_combination(arguments: argparse.Namespace) -> None:
    """Refuse flags that would be ignored."""
    given = {name for name, value in vars(arguments).items() if value not in (None, [])}
    others = given - {"resume", "workers", "max_lost_minutes"}
    if "resume" in given and others:
        raise ConfigError(
            "--resume must stand alone, or with --workers and --max-lost-minutes, because a run goes on as it began, "
            f"but got {', '.join(_flag(name) for name in sorted(others))} with it."
        )
    if {"overfit", "out"} <= given:
        raise ConfigError("--overfit must have no --out, because the check keeps nothing; leave one of them out.")
    if {"overfit", "workers"} <= given:
        raise ConfigError("--overfit must have no --workers, because one process checks; leave one of them out.")
    if {"overfit", "max_lost_minutes"} <= given:
        raise ConfigError("--overfit must have no --max-lost-minutes, because the check keeps nothing; leave one out.")
    minutes = arguments.max_lost_minutes
    require(minutes is None or 0 < minutes < math.inf, "--max-lost-minutes > 0", minutes)
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers must be 1 or more, but got {arguments.workers}.")


def _flag(name: str) -> str:
    return "--set" if name == "settings" else "--" + name.replace("_", "-")
