"""Recorded learning curves: what training of many configs reported, kept to be replayed in place of training.

One Parquet file holds one row per config and epoch:

    number           the curve's place in the file, from 0
    config.<name>    its hyperparameters: every dimension of the space, and whatever else tells the curves apart
    epoch, ...       what the epoch reported, at least `REPORT_NAMES`
    failure          why the config went no further: in the row of the epoch it failed in, which reports nothing else

The schema's metadata have one JSON object under the key `glance`: the version of this layout, the space's expressions,
and what was recorded, on which data, with which versions. This module loads neither torch nor ray.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from search.dimensions import Choice, Dimension, Fixed, LogUniform, RandInt, Uniform, Value
from search.spaces import Space
from trainable.errors import ConfigError, ExperimentError
from trainable.files import write_atomically

REPORT_NAMES = (
    "epoch",
    "samples_seen",
    "epoch_seconds",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_balanced_accuracy",
)
"""What every report of a recorded curve holds; it may hold more."""
CURVES_VERSION = 1
METADATA_KEY = b"glance"
_CONFIG = "config."
_ROW_NAMES = ("number", "failure")


@dataclass(frozen=True)
class RecordedCurve:
    """What became of one config."""

    config: dict[str, Value]
    """Its hyperparameters: every dimension of the space, and whatever else tells the curves apart, such as the seed."""
    reports: list[dict[str, float]]
    """One per epoch, in order from epoch 1; fewer than the others have where the config failed."""
    failure: str | None = None
    """Why it failed in the epoch after its last report; None where it did not."""


@dataclass(frozen=True)
class Curves:
    """The curves of one recording; raises `ExperimentError` on construction where there are none."""

    space: Space
    """What the configs were drawn from."""
    recorded: Sequence[RecordedCurve]
    metadata: Mapping[str, Any]
    """What else is known of the recording; JSON values. `space` and `version` are taken by the file's layout."""

    def __post_init__(self) -> None:
        """Check that there is a curve."""
        if not self.recorded:
            raise ExperimentError("recorded curves must hold one config or more, but hold none.")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises `ExperimentError` for a file that cannot be read or holds something else."""
        table = _read_table(path)
        metadata = _metadata(path, table)
        space = _space(path, metadata.pop("space", None))
        _require_columns(path, table, space)
        rows = groupby(table.to_pylist(), key=lambda row: row["number"])
        return cls(space, [_curve(list(of_curve)) for _, of_curve in rows], metadata)

    def save(self, path: Path) -> None:
        """Write one Parquet file, whole or not at all."""
        rows = [row for number, curve in enumerate(self.recorded) for row in _rows(number, curve)]
        names = dict.fromkeys(("number", *(name for row in rows for name in row), *REPORT_NAMES, "failure"))
        document = {**self.metadata, "version": CURVES_VERSION, "space": self.space.to_dict()}
        table = pa.table({name: [row.get(name) for row in rows] for name in names})
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(document, allow_nan=False)})
        write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))

    def nearest(self, config: Mapping[str, Value]) -> RecordedCurve:
        """The recorded config nearest to `config`: the first in the `order`."""
        return self.recorded[self.order(config)[0]]

    def order(self, config: Mapping[str, Value]) -> list[int]:
        """Places in `recorded`, those nearest to `config` in the unit cube of the space first; equals in their order.

        The distance is Euclidean over the dimensions that vary: a LogUniform by its logarithm, a choice among numbers
        by rank, and a mismatch in any other choice counts 1. `config` must have all of these; further entries and
        fixed dimensions do not count.
        """
        points, kinds = self._coordinates
        point, kind = self._coordinates_of([config])
        squares = ((points - point) ** 2).sum(axis=1) + (kinds != kind).sum(axis=1)  # (N,)
        return [int(place) for place in np.argsort(squares, kind="stable")]

    @cached_property
    def _coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        return self._coordinates_of([curve.config for curve in self.recorded])

    def _coordinates_of(self, configs: Sequence[Mapping[str, Value]]) -> tuple[np.ndarray, np.ndarray]:
        """N configs -> places of the ordered dimensions (N, ordered) in [0, 1], positions in the others' choices."""
        draws = self.space.draws()
        ordered = [name for name in draws if _is_ordered(draws[name])]
        places = [[_place(draws[name], config[name]) for name in ordered] for config in configs]
        others = [name for name in draws if name not in ordered]
        kinds = [[_position(draws[name], config[name]) for name in others] for config in configs]
        return np.array(places, dtype=np.float64), np.array(kinds, dtype=np.int64)


def _is_ordered(dimension: Dimension) -> bool:
    """Whether the dimension's values are numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in dimension.edges())


def _place(dimension: Dimension, value: Any) -> float:
    """Where a number lies in its dimension: 0 at the lower edge, 1 at the upper."""
    match dimension:
        case LogUniform(low, high):
            return math.log(value / low) / math.log(high / low)
        case Uniform(low, high) | RandInt(low, high):
            return float((value - low) / (high - low))
        case Choice(values):
            return float(np.interp(value, np.sort(np.array(values)), np.linspace(0, 1, len(values))))
        case Fixed():
            return 0.0


def _position(dimension: Dimension, value: Value) -> int:
    """Which of the choices a value is; -1, which matches none, for a value that is not among them."""
    values = dimension.edges()
    return values.index(value) if value in values else -1


def _rows(number: int, curve: RecordedCurve) -> list[dict[str, Any]]:
    """A curve as rows of the file."""
    config = {_CONFIG + name: value for name, value in curve.config.items()}
    rows = [{"number": number, **config, **report} for report in curve.reports]
    if curve.failure is not None:
        rows.append({"number": number, **config, "epoch": len(rows) + 1, "failure": curve.failure})
    return rows


def _curve(rows: list[dict[str, Any]]) -> RecordedCurve:
    """The curve that `_rows` wrote."""
    config = {name.removeprefix(_CONFIG): value for name, value in rows[0].items() if name.startswith(_CONFIG)}
    names = [name for name in rows[0] if not name.startswith(_CONFIG) and name not in _ROW_NAMES]
    reports = [{name: row[name] for name in names} for row in rows if row["failure"] is None]
    return RecordedCurve(config, reports, rows[-1]["failure"])


def _read_table(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        raise ExperimentError(f"recorded curves must be a whole Parquet file, but {path}: {error}") from error


def _metadata(path: Path, table: pa.Table) -> dict[str, Any]:
    """The JSON object of the schema, less its version."""
    try:
        document = json.loads((table.schema.metadata or {})[METADATA_KEY])
        version = document.pop("version")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ExperimentError(
            f"recorded curves must have JSON metadata under the key {METADATA_KEY.decode()!r}, but {path} has none "
            "that can be read; give a file that benchmarks/record_curves.py wrote."
        ) from error
    if version != CURVES_VERSION:
        raise ExperimentError(f"recorded curves must be of version {CURVES_VERSION}, but {path} is of {version!r}.")
    return dict(document)


def _space(path: Path, expressions: Any) -> Space:
    try:
        return Space.from_dict(expressions)
    except (ConfigError, AttributeError, TypeError) as error:
        raise ExperimentError(f"recorded curves must name their search space, but {path}: {error}") from error


def _require_columns(path: Path, table: pa.Table, space: Space) -> None:
    wanted = (*_ROW_NAMES, *(_CONFIG + name for name in space.dimensions), *REPORT_NAMES)
    if missing := [name for name in wanted if name not in table.column_names]:
        raise ExperimentError(f"recorded curves must have the columns {', '.join(missing)}, but {path} lacks them.")
