import dataclasses
import json

import numpy as np
import pytest

from search.dimensions import Choice, Fixed, LogUniform, RandInt, Uniform
from search.spaces import (
    SPACES,
    STRUCTURAL,
    Space,
    apply_overrides,
    build_space,
    require_whole_shares,
    structural_choices,
)
from trainable.config import TrialConfig
from trainable.errors import ConfigError


@pytest.mark.parametrize("name", SPACES)
def test_every_draw_of_every_space_is_a_valid_config(name: str) -> None:
    space = build_space(name, max_epochs=5)
    rng = np.random.default_rng(0)
    for _ in range(200):
        draw = space.sample(rng)
        assert TrialConfig.from_dict(json.loads(json.dumps(draw))).max_epochs == 5
        assert list(draw) == list(space.dimensions)


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_read_back_from_its_expressions(name: str) -> None:
    assert Space.from_dict(SPACES[name].to_dict()).dimensions == SPACES[name].dimensions


def test_the_studys_ranges() -> None:
    assert SPACES["study"].to_dict() == {
        "learning_rate": "loguniform(1e-05,0.001)",
        "logit_scale": "uniform(1,4)",
        "embedding_dim": "choice(2,4,8,16,32,64,128)",
        "weight_init": "choice(trunc_normal,xavier,kaiming,orthogonal)",
    }


def test_the_default_space_reaches_higher_learning_rates_and_is_else_the_studys() -> None:
    scratch, study = dict(SPACES["scratch"].dimensions), dict(SPACES["study"].dimensions)
    assert scratch.pop("learning_rate") == LogUniform(1e-4, 1e-2)
    study.pop("learning_rate")
    assert scratch == study


def test_the_wide_space_varies_what_the_others_fix() -> None:
    added = set(SPACES["wide"].draws()) - set(SPACES["scratch"].draws())
    assert {"head_depth", "weight_decay", "augmentation", "loss"} <= added


def test_the_pretrained_space_draws_no_weight_init() -> None:
    assert SPACES["pretrained"].fixed() == {"weight_init": "pretrained"}
    assert {"freeze", "layer_decay", "image_learning_rate_factor"} < set(SPACES["pretrained"].draws())


def test_same_seed_same_draws() -> None:
    space = SPACES["wide"]
    draws = [[space.sample(rng) for _ in range(5)] for rng in (np.random.default_rng(s) for s in (1, 1, 2))]
    assert draws[0] == draws[1] != draws[2]


def test_overrides_fix_change_and_add_dimensions() -> None:
    space = apply_overrides(
        SPACES["study"],
        ["learning_rate=1e-3", "embedding_dim=choice(64,128)", "augmentation=uniform(0,0.5)", "learning_rate=2e-3"],
    )
    assert space.fixed() == {"learning_rate": 2e-3}
    assert space.draws() == {
        "logit_scale": Uniform(1.0, 4.0),
        "embedding_dim": Choice((64, 128)),
        "weight_init": SPACES["study"].dimensions["weight_init"],
        "augmentation": Uniform(0.0, 0.5),
    }
    assert "augmentation" not in SPACES["study"].dimensions


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("learning_rat=1", "Did you mean 'learning_rate'"),
        ("learning_rate=fast", "learning_rate=fast .* finite float"),
        ("learning_rate=-1", "learning_rate > 0"),
        ("logit_scale=uniform(1,5)", r"logit_scale=uniform\(1,5\) .* ln 100"),
        ("embedding_dim=uniform(2,4)", "embedding_dim .* finite int"),
        ("weight_init=choice(kaiming,xaver)", "Did you mean 'xavier'"),
        ("head_depth=randint(1,4)", "head_depth <= 3"),
        ("learn_logit_scale=1", "must be a bool"),
        ("loss=(", "--set loss: "),
        ("max_epochs=3", "--max-epochs"),
    ],
)
def test_what_is_no_valid_dimension_is_refused_with_its_name(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        apply_overrides(SPACES["scratch"], [override])


def test_an_unknown_space_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'scratch'"):
        build_space("scrach")


def test_structural_choices_cover_each_value_in_as_few_configs_as_can_be() -> None:
    space = build_space(
        "wide", ["image_tower=choice(resnet-tiny,vit-tiny)", "batch_size=randint(16,256)", "head_depth=randint(1,3)"]
    )
    configs = structural_choices(space)
    assert len(configs) == 4  # weight_init has the most values
    for config in configs:
        TrialConfig.from_dict(config)
    seen = {name: {config[name] for config in configs} for name in configs[0]}
    assert seen["weight_init"] == {"trunc_normal", "xavier", "kaiming", "orthogonal"}
    assert seen["image_tower"] == {"resnet-tiny", "vit-tiny"}
    assert seen["head_depth"] == {1, 2, 3}
    assert seen["loss"] == {"multipositive", "sigmoid"}
    assert {(config["embedding_dim"], config["batch_size"]) for config in configs} == {(2, 16), (128, 256)}
    assert len(seen["learning_rate"]) == len(seen["augmentation"]) == 1


def test_a_space_of_fixed_values_has_one_structural_choice() -> None:
    space = Space({"embedding_dim": Fixed(64), "head_depth": RandInt(1, 2)}).replace({"head_depth": Fixed(2)})
    assert structural_choices(space) == [{"embedding_dim": 64, "head_depth": 2}]
    assert structural_choices(Space({})) == [{}]


def test_structural_names_are_hyperparameters() -> None:
    assert set(STRUCTURAL) <= {field.name for field in dataclasses.fields(TrialConfig)}


@pytest.mark.parametrize(
    ("overrides", "workers", "sentence"),
    [
        ([], 1, None),
        ([], 4, None),
        ([], 3, r"--workers-per-trial 3 x accumulation 1, but the space can draw 64: use --set batch_size=63,"),
        (["batch_size=30"], 4, r"can draw 30: use --set batch_size=28,"),
        (["batch_size=2"], 4, r"can draw 2: use --set batch_size=4,"),
        (["batch_size=choice(64,128)"], 2, None),
        (["batch_size=choice(64,66,128)"], 4, r"can draw 66"),
        (["batch_size=randint(8,1000000000)"], 1, None),
        (["batch_size=randint(64,66)"], 2, r"can draw 65"),
        (["accumulation=4"], 1, None),
        (["accumulation=3"], 1, r"--workers-per-trial 1 x accumulation 3, but the space can draw 64"),
        (["accumulation=choice(2,4)", "batch_size=choice(16,24)"], 2, None),
        (["accumulation=choice(2,8)", "batch_size=choice(16,24)"], 2, r"x accumulation 8, but the space can draw 24"),
        (["accumulation=randint(1,3)", "batch_size=12"], 2, None),
        (["accumulation=randint(1,3)", "batch_size=16"], 2, r"x accumulation 3, but the space can draw 16"),
    ],
)
def test_every_batch_must_divide_among_workers_and_micro_batches(
    overrides: list[str], workers: int, sentence: str | None
) -> None:
    space = build_space("study", overrides)
    if sentence is None:
        require_whole_shares(space, workers)
    else:
        with pytest.raises(ConfigError, match=sentence):
            require_whole_shares(space, workers)
