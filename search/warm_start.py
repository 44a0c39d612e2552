"""What a search learns from earlier experiments (`--warm-start`): their ended trials, told to the searcher alone.

The scheduler never hears of them: what another search reached at an epoch, on other data perhaps, is no measure for
who may go on here. Random draws have nothing to learn either, and only pass over the configs that were tried.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.dimensions import atom, can_hold, same
from search.experiment import Experiment
from search.ledger import read_trials
from search.spaces import Space
from search.trials import TrialRecord, searched
from trainable.config import TrialConfig
from trainable.data.unseen import UnseenClasses
from trainable.errors import ConfigError, ExperimentError, StorageError
from trainable.storage.storage import is_remote, split_uri
from trainable.storage.working_copy import fetch_to_read


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier experiment, of whatever algorithm."""

    name: str
    manifest: Mapping[str, Any]
    trials: Sequence[TrialRecord]
    """Those that had ended when it was read, in order of number."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The search that learns."""

    space: Space
    max_epochs: int
    seed: int
    dataset: str
    content_hash: str
    unseen: UnseenClasses = field(default_factory=UnseenClasses)
    """The classes that no trial is trained on."""
    learns: bool
    """Whether its draws follow from what came back."""


def read_earlier(places: Sequence[str], metric: str, mode: str, *, resumed: bool) -> tuple[list[Earlier], list[str]]:
    """The experiments at folders or addresses, and a line for each that cannot be read where the search is `resumed`.

    Raises `ExperimentError` for a place that holds no experiment and `StorageError` for a bucket that cannot be read,
    of a search that begins, and `ConfigError` for one that ranked its trials otherwise, or two of one name.
    """
    found: list[Earlier] = []
    gone = []
    for place in places:
        try:
            with _folder_of(place) as folder:
                found.append(_read(folder, place, metric, mode))
        except (ExperimentError, StorageError) as error:
            if not resumed:
                raise type(error)(f"--warm-start: {error}") from error
            gone.append(f"warm start: {error} The search goes on without it.")
    names = [earlier.name for earlier in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"--warm-start must name experiments of different names, but got {twice} more than once.")
    return found, gone


def learn(earlier: Sequence[Earlier], asked: Asked) -> tuple[list[TrialRecord], list[str]]:
    """The trials that the space could have drawn, as `<experiment>/<trial id>`, and what a person should know of them.

    One that went on from another's checkpoint is none: it shows what a schedule gives, not what its config does.
    Their numbers are negative, so that they come before those of the search.
    """
    taken: list[TrialRecord] = []
    lines: list[str] = []
    for one in earlier:
        inside = [trial for trial in one.trials if not trial.inheritances and _lies_in(asked, trial.config)]
        taken += (dataclasses.replace(trial, trial_id=f"{one.name}/{trial.trial_id}") for trial in inside)
        lines += (f"warm start from {one.name}: {difference}" for difference in differences(one.manifest, asked))
        lines.append(f"warm start from {one.name}: {_count(len(inside), len(one.trials))}")
    if lines and not asked.learns:
        lines.append("warm start: random draws learn nothing, and only pass over the configs that were tried")
    numbered = [dataclasses.replace(trial, number=place - len(taken)) for place, trial in enumerate(taken)]
    return numbered, lines


def differences(manifest: Mapping[str, Any], asked: Asked) -> list[str]:
    """What was otherwise in an earlier experiment, a sentence each: data, epochs, dimensions."""
    dataset = manifest.get("dataset") or {}
    pairs = {
        "the data set": (dataset.get("name"), asked.dataset),
        "max_epochs": (manifest.get("max_epochs"), asked.max_epochs),
    }
    if dataset.get("name") == asked.dataset:
        pairs["the images' hash"] = (str(dataset.get("content_hash"))[:12], asked.content_hash[:12])
        pairs["--unseen"] = (str(UnseenClasses.from_dict(dataset.get("unseen"))), str(asked.unseen))
    before = {**(manifest.get("space") or {}), **_atoms(manifest.get("fixed") or {})}
    now, defaults = asked.space.to_dict(), _atoms(TrialConfig(seed=asked.seed).to_dict())
    for name in dict.fromkeys([*before, *now]):
        if name not in _not_compared(asked):
            kept = defaults.get(name, "unknown")
            pairs[name] = (before.get(name, kept), now.get(name, kept))
    return [f"{what} was {then}, and is {here} now" for what, (then, here) in pairs.items() if then != here]


@contextlib.contextmanager
def _folder_of(place: str) -> Iterator[Path]:
    """An experiment's folder; of one in a bucket, what a report reads, for as long as it is read."""
    if not is_remote(place):
        yield Path(place).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="glance-") as temporary:
        folder = Path(temporary) / split_uri(place)[1]
        fetch_to_read(place, folder)
        yield folder


def _read(folder: Path, place: str, metric: str, mode: str) -> Earlier:
    manifest = Experiment.open(folder).read_manifest()
    if (manifest.get("metric"), manifest.get("mode")) != (metric, mode):
        raise ConfigError(
            f"--warm-start must name experiments that ranked their trials by {metric} ({mode}), as this search does, "
            f"but {place} went by {manifest.get('metric')} ({manifest.get('mode')})."
        )
    ended = [trial for trial in searched(read_trials(folder)) if trial.ended]
    return Earlier(name=folder.name, manifest=manifest, trials=ended)


def _lies_in(asked: Asked, config: Mapping[str, Any]) -> bool:
    """Whether the space can draw a config; one that lacks a hyperparameter of today has its default."""
    defaults = TrialConfig(seed=asked.seed).to_dict()
    values = {**defaults, **config}
    acting, free = asked.space.acting(values), _not_compared(asked)
    drawn = all(can_hold(asked.space.dimensions[name], acting[name]) for name in acting if name not in free)
    fixed = (name for name in defaults if name not in asked.space.dimensions and name not in free)
    return drawn and all(same(values[name], defaults[name]) for name in fixed)


def _not_compared(asked: Asked) -> set[str]:
    """The length of a trial is told apart, and its seed is chance, unless it is searched over."""
    return {"max_epochs"} if "seed" in asked.space.draws() else {"max_epochs", "seed"}


def _atoms(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: atom(value) for name, value in values.items()}


def _count(inside: int, ended: int) -> str:
    outside = f", {ended - inside} lie outside the space and are passed over" if inside < ended else ""
    return f"{inside} of {ended} ended trials count{outside}"
