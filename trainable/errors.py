"""Errors that a user can cause, and how a command reports them.

Every message says what must hold, what was got, and what to do.

    GlanceError
    ├── ConfigError        a hyperparameter or flag out of its domain
    ├── DataError          a data set, store or picture that cannot be used
    ├── CheckpointError    a checkpoint that cannot be loaded
    ├── ResourceError      more CPUs or GPUs asked for than there are
    ├── ExperimentError    a results folder that cannot be used
    ├── StorageError       a bucket, or another remote place, that cannot be used (`trainable.storage.storage`)
    └── TrialError         a trial that cannot go on (its ledger state becomes FAILED)
        └── DivergedError  a loss or a gradient that is not finite
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import NoReturn


class GlanceError(Exception):
    """Base of every error whose message is meant for the user."""


class ConfigError(GlanceError):
    """A hyperparameter, flag or search-space expression is not valid."""


class DataError(GlanceError):
    """A data set, store or picture cannot be used."""


class CheckpointError(GlanceError):
    """A checkpoint cannot be loaded."""


class ResourceError(GlanceError):
    """The resources asked for cannot be met."""


class ExperimentError(GlanceError):
    """An experiment folder cannot be used as asked."""


class StorageError(GlanceError):
    """A bucket, or another place that is no folder, cannot be used as asked."""


class TrialError(GlanceError):
    """A trial cannot go on; the search records it as FAILED and carries on."""


class DivergedError(TrialError):
    """The loss or the gradient norm of a trial is not finite."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: ``" Did you mean 'x'?"``, or the known names where none is close."""
    names = sorted(known)
    return close_match(name, names) or f" Known: {', '.join(names)}."


def close_match(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name where one is close, whatever its case: ``" Did you mean 'x'?"``; else nothing."""
    names = {one.casefold(): one for one in sorted(known)}
    close = get_close_matches(name.casefold(), names, n=1)
    return f" Did you mean {names[close[0]]!r}?" if close else ""


def require(holds: bool, rule: str, value: object, error: type[GlanceError] = ConfigError) -> None:
    """Raise the error, which says the rule and the value, unless it holds."""
    if not holds:
        raise error(f"{rule} must hold, but got {value!r}.")


def require_one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raise `ConfigError` for a value that is not known, with the nearest one that is."""
    known = tuple(known)
    if value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(known)}, but got {value!r}.{close_match(value, known)}")


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are `ConfigError`."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint."""
        raise ConfigError(f"{message}. See --help.")

    def read(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """What `argv`, or without it the command line, gives; an unknown flag is told with the nearest known one."""
        known, unknown = self.parse_known_args(argv)
        if unknown and not unknown[0].startswith("-"):
            named = any(not action.option_strings for action in self._actions)
            rule = "nothing more must follow" if named else "every argument must belong to a flag"
            raise ConfigError(f"{rule}, but got {unknown[0]!r}. See --help.")
        if unknown:
            flags = [option for action in self._actions for option in action.option_strings]
            raise ConfigError(f"no flag is called {unknown[0]!r}.{nearest(unknown[0].partition('=')[0], flags)}")
        return known


def run_command(command: Callable[[], int]) -> int:
    """Run a command's body; a `GlanceError` becomes its sentence on stderr and exit status 2, Ctrl-C 130."""
    try:
        return command()
    except GlanceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
