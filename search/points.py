"""The configs of `--points`, which a search tries before it draws any: read, held against the space, completed.

A point names some dimensions of the space; those that it leaves away are drawn by the search's seed and the point's
place in the list. The points then stand in `experiment.json`, so that a search that goes on needs the file no more.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from search.dimensions import NUMBER, Dimension, Fixed, LogUniform, Uniform, Value, can_hold, same
from search.searchers import identity
from search.spaces import Space
from search.trials import TrialRecord
from trainable.config import TrialConfig
from trainable.errors import ConfigError, nearest

Point = dict[str, Value]
"""Every dimension of the space that acts, fixed ones included."""


def read_points(path: Path, space: Space, seed: int) -> list[Point]:
    """The points of a YAML file, complete; raises `ConfigError` with the entry that cannot be one.

    A hyperparameter that is no dimension of the space may stand there with the value that every trial has, so that the
    config of a `best.json` is a point as it is.
    """
    entries = _read_yaml(path)
    if not isinstance(entries, list) or not entries:
        raise ConfigError(
            f"--points must hold a list of configs, such as '- learning_rate: 0.001', but {path} holds {entries!r}."
        )
    return [_point(f"{path}, entry {number}", entry, space, seed, number) for number, entry in enumerate(entries, 1)]


def to_manifest(points: Iterable[Point], space: Space) -> list[Point]:
    """What `experiment.json` keeps of the points: the values of the dimensions that vary."""
    drawn = space.draws()
    return [{name: value for name, value in point.items() if name in drawn} for point in points]


def from_manifest(kept: Iterable[Mapping[str, Value]], space: Space) -> list[Point]:
    """The points of `to_manifest`, with what the space fixes now."""
    return [_recall({**space.fixed(), **values}, space) for values in kept]


def untried(
    points: Sequence[Mapping[str, Value]], trials: Iterable[TrialRecord], space: Space
) -> list[Mapping[str, Value]]:
    """The points that are no trial yet, each once."""
    tried = {identity(space, trial.config) for trial in trials}
    return [point for key, point in {identity(space, point): point for point in points}.items() if key not in tried]


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--points must name a readable file, but {path}: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--points must name a YAML file, but {path}: {error}") from error


def _point(where: str, entry: Any, space: Space, seed: int, number: int) -> Point:
    """One entry, held against the space and completed."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} must hold 'name: value' lines, but got {entry!r}.")
    given = {str(name): _given(where, str(name), value, space, seed) for name, value in entry.items()}
    rng = np.random.default_rng((seed, number, 1))
    point = space.compose(lambda name, dimension: given[name] if name in given else dimension.sample(rng))
    for name in space.conditions:
        if name in given and name not in point and not same(given[name], _default(name, seed)):
            condition = space.conditions[name]
            raise ConfigError(
                f"{where}: {name} acts only where {condition.parent} is {' or '.join(map(str, condition.values))}, but "
                f"got {condition.parent} {point.get(condition.parent)}: give both, or leave {name} away."
            )
    return {name: _checked(where, name, space.dimensions[name], value) for name, value in point.items()}


def _recall(values: Mapping[str, Value], space: Space) -> Point:
    return space.compose(lambda name, dimension: values[name])


def _given(where: str, name: str, value: Any, space: Space, seed: int) -> Any:
    """A value of an entry as its dimension has it; YAML takes 1e-3 for a text."""
    known = [field.name for field in dataclasses.fields(TrialConfig)]
    if name not in known:
        raise ConfigError(f"{where}: no hyperparameter is called {name!r}.{nearest(name, known)}")
    dimension = space.dimensions.get(name) or Fixed(_default(name, seed))
    if isinstance(value, str) and NUMBER.fullmatch(value) and not isinstance(dimension.edges()[0], str):
        value = float(value)
    if name not in space.dimensions and not same(value, dimension.edges()[0]):
        raise ConfigError(
            f"{where}: {name} must be {dimension}, as in every trial, because the space does not vary it, but got "
            f"{value!r}: leave it away, or let it vary by --set {name}=..."
        )
    return value


def _checked(where: str, name: str, dimension: Dimension, value: Any) -> Value:
    if not can_hold(dimension, value):
        rule = f"be {dimension}, as in every trial" if isinstance(dimension, Fixed) else f"lie in {dimension}"
        raise ConfigError(f"{where}: {name} must {rule}, but got {value!r}.")
    if isinstance(dimension, Uniform | LogUniform):
        return float(value)
    return next((own for own in dimension.edges() if same(value, own)), value)


def _default(name: str, seed: int) -> Any:
    return getattr(TrialConfig(seed=seed), name)
