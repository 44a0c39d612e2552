import numpy as np
import pytest

from search.conditions import Condition
from search.dimensions import Choice, Fixed, LogUniform, RandInt, Uniform
from search.spaces import Space
from trainable.errors import ConfigError

CHAIN = Space(
    {
        "loss": Choice(("clip", "sigmoid")),
        "head_depth": RandInt(1, 3),
        "weight_decay": LogUniform(1e-4, 1e-1),
        "max_epochs": Fixed(4),
    },
    conditions={"head_depth": Condition("loss", ("sigmoid",)), "weight_decay": Condition("head_depth", (2, 3))},
)


def test_a_dimension_is_drawn_where_its_condition_holds_alone() -> None:
    rng = np.random.default_rng(0)
    draws = [CHAIN.sample(rng) for _ in range(100)]

    for draw in draws:
        assert ("head_depth" in draw) == (draw["loss"] == "sigmoid")
        assert ("weight_decay" in draw) == (draw.get("head_depth") in (2, 3))
        assert draw["max_epochs"] == 4
    assert {len(draw) for draw in draws} == {2, 3, 4}


def test_a_parent_that_does_not_act_holds_no_condition_whatever_its_default() -> None:
    config = {"loss": "clip", "head_depth": 3, "weight_decay": 0.05, "max_epochs": 4, "seed": 1}

    assert CHAIN.acting(config) == {"loss": "clip", "max_epochs": 4}
    assert CHAIN.acting({**config, "loss": "sigmoid"}) == {
        "loss": "sigmoid",
        "head_depth": 3,
        "weight_decay": 0.05,
        "max_epochs": 4,
    }


def test_one_is_not_true() -> None:
    assert not Condition("learn_logit_scale", (True,)).holds({"learn_logit_scale": 1})
    assert Condition("learn_logit_scale", (True,)).holds({"learn_logit_scale": True})


@pytest.mark.parametrize("condition", [Condition("head_depth", (1,)), Condition("language", ("en",))])
def test_a_parent_must_stand_before_its_dimension_in_the_space(condition: Condition) -> None:
    with pytest.raises(ConfigError, match="the parent first, but weight_decay has the parent"):
        Space(
            {"weight_decay": Uniform(0.0, 0.1), "head_depth": RandInt(1, 3)},
            conditions={"weight_decay": condition},
        )


def test_a_dimension_that_is_changed_keeps_its_condition_and_one_that_is_fixed_loses_it() -> None:
    changed = CHAIN.replace({"weight_decay": Uniform(0.0, 0.1), "loss": Fixed("clip")})
    assert changed.conditions == CHAIN.conditions
    assert changed.sample(np.random.default_rng(0)) == {"loss": "clip", "max_epochs": 4}

    fixed = CHAIN.replace({"head_depth": Fixed(2)})
    assert set(fixed.conditions) == {"weight_decay"}
    assert fixed.sample(np.random.default_rng(0)).keys() == CHAIN.dimensions.keys()
