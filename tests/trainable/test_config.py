import json
from pathlib import Path

import pytest

from trainable.config import TrialConfig, load_config
from trainable.errors import ConfigError


def test_survives_the_round_trip_through_a_plain_dict() -> None:
    config = TrialConfig(learning_rate=1e-4, embedding_dim=32, loss="sigmoid")

    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_field_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'learning_rat'.*'learning_rate'"):
        TrialConfig.from_dict({"learning_rat": 1e-3})


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("learning_rate", 0.0, "learning_rate > 0"),
        ("learning_rate", float("nan"), "finite float"),
        ("learning_rate", "fast", "finite float"),
        ("logit_scale", 5.0, "ln 100"),
        ("embedding_dim", 0, "embedding_dim >= 1"),
        ("embedding_dim", 2.5, "finite int"),
        ("batch_size", True, "finite int"),
        ("head_depth", 4, "head_depth <= 3"),
        ("weight_init", "xavir", "Did you mean 'xavier'"),
        ("loss", "clap", "Did you mean 'clip'"),
        ("augmentation", 1.5, "augmentation <= 1"),
        ("warmup_fraction", 1.0, "warmup_fraction < 1"),
        ("learn_logit_scale", 1, "must be a bool"),
        ("loss", 5, "loss must be a str"),
        pytest.param("learning_rate", 10**400, "finite float", id="huge"),
        ("image_learning_rate_factor", -0.1, "image_learning_rate_factor >= 0"),
        ("layer_decay", 0.0, "0 < layer_decay <= 1"),
        ("image_resolution", "dat", "Did you mean 'data'"),
        ("freeze", "txt", "Did you mean 'text'"),
        ("freeze", "both:0", "a number of blocks, as in both:2"),
        ("freeze", "none:1", "a number of blocks, as in both:2"),
        ("freeze", "text:-1", "a number of blocks, as in both:2"),
        ("seed", -1, r"0 <= seed < 2\*\*32"),
        ("seed", 2**32, r"0 <= seed < 2\*\*32"),
    ],
)
def test_a_value_out_of_its_domain_is_refused_with_the_rule(name: str, value: object, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        TrialConfig.from_dict({name: value})


def test_soft_targets_need_a_loss_that_can_match_in_part() -> None:
    assert TrialConfig(soft_targets=True, loss="sigmoid").soft_targets
    with pytest.raises(ConfigError, match="soft_targets with loss=multipositive or sigmoid must hold"):
        TrialConfig(soft_targets=True, loss="clip")


@pytest.mark.parametrize(
    ("freeze", "towers"),
    [("none", {}), ("image", {"image": 0}), ("text:3", {"text": 3}), ("both:2", {"image": 2, "text": 2})],
)
def test_freeze_names_towers_and_how_many_last_blocks_train(freeze: str, towers: dict[str, int]) -> None:
    assert TrialConfig(freeze=freeze).frozen_towers() == towers


def test_reads_a_plain_config_and_the_config_of_a_best_json(tmp_path: Path) -> None:
    plain, best = tmp_path / "config.json", tmp_path / "best.json"
    plain.write_text('{"learning_rate": 0.25}')
    best.write_text('{"trial_id": "t1", "config": {"learning_rate": 0.25}, "dataset": {"name": "synthetic"}}')

    assert load_config(plain)[0] == load_config(best)[0] == TrialConfig(learning_rate=0.25)
    assert load_config(best)[1]["dataset"] == {"name": "synthetic"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "must hold JSON"),
        ("[1]", "holds a list"),
        ('{"config": 5}', "'config' holds a int"),
        ('{"version": 1, "algorithm": "asha", "space": {}}', r"holds no config: give the best\.json beside it"),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)

    with pytest.raises(ConfigError, match=rf"config\.json.*{reason}|{reason}"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json: No such file"):
        load_config(tmp_path / "absent.json")


def test_mixing_is_a_share_and_needs_a_loss_that_can_match_in_part() -> None:
    assert TrialConfig(mixing=0.5, loss="sigmoid").mixing == 0.5
    for values, rule in (({"mixing": 1.5}, "0 <= mixing <= 1"), ({"mixing": 0.5, "loss": "clip"}, "mixing with loss=")):
        with pytest.raises(ConfigError, match=rule):
            TrialConfig(**values)  # type: ignore[arg-type]
