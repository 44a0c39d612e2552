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

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


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
