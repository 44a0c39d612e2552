import json
from pathlib import Path

import pytest

from search.conditions import Condition
from search.dimensions import Choice, Fixed, LogUniform, RandInt, Uniform, can_hold
from search.points import from_manifest, read_points, to_manifest, untried
from search.spaces import Space
from search.trials import TrialRecord
from trainable.config import TrialConfig
from trainable.errors import ConfigError

SPACE = Space(
    {
        "learning_rate": LogUniform(1e-4, 1e-2),
        "head_depth": RandInt(1, 3),
        "weight_init": Choice(("kaiming", "xavier")),
        "warmup_fraction": Uniform(0.2, 0.5),
        "max_epochs": Fixed(4),
    },
    conditions={"warmup_fraction": Condition("head_depth", (2, 3))},
)
WHOLE = {"learning_rate": 1e-3, "head_depth": 2, "weight_init": "xavier", "warmup_fraction": 0.3, "max_epochs": 4}


def read(folder: Path, text: str, space: Space = SPACE, seed: int = 0) -> list[dict[str, object]]:
    path = folder / "good.yaml"
    path.write_text(text)
    return [dict(point) for point in read_points(path, space, seed)]


def test_a_whole_point_is_taken_as_it_stands_and_1e_3_is_a_number(tmp_path: Path) -> None:
    text = "- {learning_rate: 1e-3, head_depth: 2, weight_init: xavier, warmup_fraction: 0.3}"
    assert read(tmp_path, text) == [WHOLE]


def test_what_a_point_leaves_away_is_drawn_by_the_seed(tmp_path: Path) -> None:
    text = "- learning_rate: 0.001\n- learning_rate: 0.001\n"
    first, second = read(tmp_path, text)

    assert read(tmp_path, text) == [first, second]
    assert first != second != read(tmp_path, text, seed=1)[1]
    for point in (first, second):
        assert point["learning_rate"] == 1e-3
        assert all(can_hold(SPACE.dimensions[name], value) for name, value in point.items())


def test_the_config_of_a_best_trial_is_a_point_as_it_is(tmp_path: Path) -> None:
    config = TrialConfig(**WHOLE, seed=7).to_dict()  # type: ignore[arg-type]
    shallow = {**config, "head_depth": 1, "warmup_fraction": 0.1}  # its default, where it does not act
    points = read(tmp_path, json.dumps([config, shallow]), seed=7)

    assert points[0] == WHOLE
    assert points[1] == {name: shallow[name] for name in ("learning_rate", "head_depth", "weight_init", "max_epochs")}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "- learning_rate: 0.001\n- learning_rate: 3",
            r"good.yaml, entry 2: learning_rate must lie in loguniform\(0.0",
        ),
        ("- learning_rate: .nan", "entry 1: learning_rate must lie in"),
        ("- head_depth: true", "entry 1: head_depth must lie in randint"),
        ("- weight_init: kaimin", r"entry 1: weight_init must lie in choice\(kaiming,xavier\), but got 'kaimin'"),
        ("- lerning_rate: 1", "entry 1: no hyperparameter is called 'lerning_rate'. Did you mean 'learning_rate'"),
        ("- max_epochs: 9", "entry 1: max_epochs must be 4, as in every trial, but got 9"),
        ("- embedding_dim: 7", "entry 1: embedding_dim must be 64, as in every trial.*--set embedding_dim="),
        ("- {warmup_fraction: 0.3, head_depth: 1}", "entry 1: warmup_fraction acts only where head_depth is 2 or 3"),
        ("- 3", "entry 1 must hold 'name: value' lines, but got 3"),
        ("learning_rate: 1", "must hold a list of configs"),
        ("", "must hold a list of configs"),
        ("- [", "--points must name a YAML file"),
    ],
)
def test_what_cannot_be_a_point_is_refused_with_its_entry(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--points must name a readable file, but .*absent.yaml: No such file"):
        read_points(tmp_path / "absent.yaml", SPACE, 0)


def test_points_come_back_from_the_manifest_with_what_is_fixed_now(tmp_path: Path) -> None:
    points = read(tmp_path, "- head_depth: 1\n- head_depth: 3\n")
    kept = json.loads(json.dumps(to_manifest(points, SPACE)))  # type: ignore[arg-type]
    longer = SPACE.replace({"max_epochs": Fixed(8)})

    assert "max_epochs" not in kept[0]
    assert from_manifest(kept, longer) == [{**point, "max_epochs": 8} for point in points]


def test_what_was_tried_is_not_tried_again_and_nothing_twice() -> None:
    other = {**WHOLE, "learning_rate": 2e-3}
    trial = TrialRecord(trial_id="a", number=0, config={**WHOLE, "seed": 3}, created_time=0.0)

    assert untried([WHOLE, other, dict(other)], [trial], SPACE) == [other]
