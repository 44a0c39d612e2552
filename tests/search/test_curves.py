import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search.curves import CURVES_VERSION, METADATA_KEY, REPORT_NAMES, Curves, RecordedCurve
from search.dimensions import Choice, Fixed, LogUniform, RandInt, Uniform, Value
from search.spaces import SPACES, Space
from trainable.errors import ExperimentError

MIXED = Space(
    {
        "learning_rate": LogUniform(1e-5, 1e-3),
        "logit_scale": Uniform(1.0, 4.0),
        "head_depth": RandInt(1, 3),
        "embedding_dim": Choice((64, 2, 8)),
        "weight_init": Choice(("xavier", "kaiming", "orthogonal")),
        "learn_logit_scale": Choice((True, False)),
        "language": Fixed("en"),
    }
)


def report(epoch: int, accuracy: float = 0.25) -> dict[str, float]:
    return dict.fromkeys(REPORT_NAMES, accuracy) | {"epoch": epoch, "samples_seen": 64 * epoch, "gradient_norm": 1 / 3}


def drawn(space: Space, count: int, seed: int = 0) -> list[dict[str, Value]]:
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)]


def curves_of(space: Space, configs: list[dict[str, Value]]) -> Curves:
    return Curves(space, [RecordedCurve(config, [report(1)]) for config in configs], {})


def slow_distance(space: Space, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The squared distance in the unit cube, a dimension at a time."""
    total = 0.0
    for name, dimension in space.dimensions.items():
        a, b = one[name], other[name]
        if isinstance(dimension, LogUniform):
            total += ((math.log(a) - math.log(b)) / (math.log(dimension.high) - math.log(dimension.low))) ** 2
        elif isinstance(dimension, Uniform | RandInt):
            total += ((a - b) / (dimension.high - dimension.low)) ** 2
        elif isinstance(dimension, Choice) and name == "embedding_dim":
            ranks = sorted(int(value) for value in dimension.values)
            total += ((ranks.index(a) - ranks.index(b)) / (len(ranks) - 1)) ** 2
        else:
            total += a != b
    return total


@pytest.mark.parametrize("space", [MIXED, SPACES["study"]], ids=["mixed", "study"])
def test_the_nearest_is_that_of_the_slow_reference(space: Space) -> None:
    configs = drawn(space, 40)
    curves = curves_of(space, configs)
    for asked in drawn(space, 200, seed=1):
        distances = [slow_distance(space, config, asked) for config in configs]
        assert curves.nearest(asked) is curves.recorded[distances.index(min(distances))]


def test_a_recorded_config_is_nearest_to_itself() -> None:
    curves = curves_of(MIXED, drawn(MIXED, 40))
    assert all(curves.nearest(curve.config) is curve for curve in curves.recorded)


def test_of_equally_near_configs_the_first_is_taken() -> None:
    space = Space({"embedding_dim": Choice((2, 8, 64))})
    curves = curves_of(space, [{"embedding_dim": 64}, {"embedding_dim": 2}, {"embedding_dim": 2}])
    assert curves.nearest({"embedding_dim": 8}) is curves.recorded[0]
    assert curves.nearest({"embedding_dim": 2}) is curves.recorded[1]


def test_a_mismatch_weighs_as_much_as_the_whole_range_of_a_number() -> None:
    space = Space({"logit_scale": Uniform(1.0, 3.0), "weight_init": Choice(("xavier", "kaiming"))})
    near_miss: dict[str, Value] = {"logit_scale": 1.0, "weight_init": "kaiming"}
    far_match: dict[str, Value] = {"logit_scale": 2.9, "weight_init": "xavier"}
    at_edge: dict[str, Value] = {"logit_scale": 3.0, "weight_init": "xavier"}
    asked: dict[str, Value] = {"logit_scale": 1.0, "weight_init": "xavier"}
    assert curves_of(space, [near_miss, far_match]).nearest(asked).config == far_match
    assert curves_of(space, [near_miss, at_edge]).nearest(asked).config == near_miss


def test_values_that_are_no_dimension_do_not_count() -> None:
    space = Space({"logit_scale": Uniform(1.0, 3.0), "language": Fixed("en")})
    configs: list[dict[str, Value]] = [{"logit_scale": value, "language": "en", "seed": 7} for value in (1.0, 3.0)]
    assert curves_of(space, configs).nearest({"logit_scale": 2.5}).config == configs[1]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    configs = [{**config, "seed": seed} for seed, config in enumerate(drawn(MIXED, 3))]
    recorded = [
        RecordedCurve(configs[0], [report(1, 1 / 7), report(2, 0.3)]),
        RecordedCurve(configs[1], [report(1)], "the loss is nan"),
        RecordedCurve(configs[2], [], "diverged at once"),
    ]
    metadata = {"dataset": {"content_hash": "abc"}, "epochs": 2}
    Curves(MIXED, recorded, metadata).save(tmp_path / "sub" / "curves.parquet")
    loaded = Curves.load(tmp_path / "sub" / "curves.parquet")
    assert loaded.recorded == recorded
    assert loaded.space.dimensions == MIXED.dimensions
    assert loaded.metadata == metadata
    assert [type(value) for value in loaded.recorded[0].config.values()] == [type(v) for v in configs[0].values()]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["curves.parquet"]


def test_the_file_has_one_row_per_config_and_epoch(tmp_path: Path) -> None:
    first, second = drawn(SPACES["study"], 2)
    recorded = [RecordedCurve(first, [report(1), report(2)]), RecordedCurve(second, [report(1)], "nan")]
    Curves(SPACES["study"], recorded, {}).save(tmp_path / "curves.parquet")
    columns = pq.read_table(tmp_path / "curves.parquet").to_pydict()
    assert (columns["number"], columns["epoch"]) == ([0, 0, 1, 1], [1, 2, 1, 2])
    assert columns["config.embedding_dim"] == [first["embedding_dim"]] * 2 + [second["embedding_dim"]] * 2
    assert columns["failure"] == [None, None, None, "nan"]
    assert columns["val_accuracy"] == [0.25, 0.25, 0.25, None]


def test_no_curves_are_refused() -> None:
    with pytest.raises(ExperimentError, match="one config or more"):
        Curves(MIXED, [], {})


def written(path: Path, **changes: Any) -> Path:
    """A file of curves with some of its metadata changed, those that are None left out."""
    Curves(SPACES["study"], [RecordedCurve(drawn(SPACES["study"], 1)[0], [report(1)])], {}).save(path)
    table = pq.read_table(path)
    document = {"version": CURVES_VERSION, "space": SPACES["study"].to_dict()} | changes
    kept = {name: value for name, value in document.items() if value is not None}
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(kept)}), path)
    return path


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.parquet"
    text.write_text("no Parquet at all")
    bare = tmp_path / "bare.parquet"
    pq.write_table(pa.table({"number": [0]}), bare)
    for path in (tmp_path / "absent.parquet", tmp_path, text):
        with pytest.raises(ExperimentError, match="whole Parquet file"):
            Curves.load(path)
    with pytest.raises(ExperimentError, match="JSON metadata"):
        Curves.load(bare)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": None}, "JSON metadata"),
        ({"version": 0}, "version 1"),
        ({"space": None}, "search space"),
        ({"space": {"learning_rat": "1e-3"}}, "learning_rate"),
        ({"space": {"weight_decay": "uniform(0,1)"}}, "columns config.weight_decay"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=sentence):
        Curves.load(written(tmp_path / "curves.parquet", **changes))


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "curves.parquet").read_bytes()
    (tmp_path / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExperimentError, match="whole Parquet file"):
        Curves.load(tmp_path / "torn.parquet")


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "curves.parquet")
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(ExperimentError, match="one config or more"):
        Curves.load(path)
