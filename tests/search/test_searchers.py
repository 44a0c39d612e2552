"""Random draws, the names of the algorithms, and what all searchers share; see test_searcher_contract.py."""

from collections.abc import Callable
from typing import Any

import pytest

from search.conditions import Condition
from search.dimensions import Choice, Fixed, LogUniform, Uniform
from search.searchers import REDRAWS, Drawn, Objective, RandomSearcher, SearcherOptions, build_searcher, identity
from search.spaces import Space
from trainable.errors import ConfigError

Play = Callable[..., Any]
MakeTrial = Callable[..., Any]

SPACE = Space({"learning_rate": LogUniform(1e-4, 1e-2), "weight_init": Choice(("xavier", "kaiming"))})
DEPTHS = Space({"head_depth": Choice((1, 2, 3))})
ACCURACY = Objective(metric="val_accuracy", mode="max")
TWO = Objective(metric="val_accuracy", mode="max", further=(("epoch_seconds", "min"),))


def test_random_draws_depend_on_the_seed_and_the_trials_number_alone(play: Play) -> None:
    eager = play(RandomSearcher(SPACE, seed=3))
    waiting = play(RandomSearcher(SPACE, seed=3)).run(20, lambda config: 0.5)
    for _ in range(20):
        eager.begin()

    assert waiting.configs == eager.configs


def test_random_draws_go_on_after_trials_that_another_seed_drew(play: Play) -> None:
    others = play(RandomSearcher(SPACE, seed=1)).run(5, lambda config: 0.5)
    search = play(RandomSearcher(SPACE, seed=2), others.records)
    fresh = play(RandomSearcher(SPACE, seed=2))

    assert search.begin().config == fresh.begin().config


def test_an_unknown_algorithm_gets_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'optuna'"):
        build_searcher("optuma", SearcherOptions(space=SPACE, objective=ACCURACY, seed=0))


@pytest.mark.parametrize("algorithm", ["optuna", "hyperopt"])
def test_a_space_with_nothing_to_draw_is_refused(algorithm: str) -> None:
    options = SearcherOptions(space=Space({"learning_rate": Fixed(1e-3)}), objective=ACCURACY, seed=0)
    with pytest.raises(ConfigError, match="fixes all of them"):
        build_searcher(algorithm, options)


def test_what_a_trial_reached_is_what_its_last_report_says(make_trial: MakeTrial) -> None:
    assert ACCURACY.result(make_trial(0, "FINISHED", (0.9, 0.4))) == [0.4]
    assert ACCURACY.result(make_trial(0, "STOPPED", (0.9, 0.4))) == [0.4]


@pytest.mark.parametrize(
    ("state", "accuracies"),
    [("FAILED", (0.5,)), ("FINISHED", ()), ("FINISHED", (0.5, None)), ("STOPPED", (0.5, float("nan")))],
)
def test_a_trial_that_failed_or_is_not_finite_reached_nothing(
    state: str, accuracies: tuple[float | None, ...], make_trial: MakeTrial
) -> None:
    assert ACCURACY.result(make_trial(0, state, accuracies)) is None


def test_of_several_metrics_all_must_be_finite(make_trial: MakeTrial) -> None:
    trial = make_trial(0, "FINISHED", (0.5,))
    assert TWO.result(trial) is None
    trial.reports[-1]["epoch_seconds"] = 3
    assert TWO.result(trial) == [0.5, 3.0]


def test_suggestions_that_come_again_are_passed_over_with_another_seed_each() -> None:
    seeds: list[int] = []

    def draw(seed: int) -> dict[str, Any]:
        seeds.append(seed)
        return {"head_depth": min(len(seeds), 2)}

    drawn = Drawn(DEPTHS, seed=0)
    drawn.remember({"head_depth": 1})

    assert drawn.find(1, draw) == {"head_depth": 2}
    assert len(set(seeds)) == 2


def test_each_trial_is_drawn_with_a_seed_of_its_own_that_follows_from_the_searchs_seed() -> None:
    def seeds(seed: int) -> list[int]:
        found: list[int] = []
        for number in range(2):
            Drawn(DEPTHS, seed).find(number, lambda seed: found.append(seed) or {"head_depth": 1})  # type: ignore[func-returns-value]
        return found

    assert len(set(seeds(0) + seeds(1))) == 4
    assert seeds(0) == seeds(0)


def test_a_model_that_repeats_itself_is_replaced_by_random_draws() -> None:
    drawn = Drawn(DEPTHS, seed=0)
    found = [drawn.find(number, lambda seed: {"head_depth": 1}, tries=4) for number in range(4)]

    assert [config["head_depth"] for config in found[:3] if config] in ([1, 2, 3], [1, 3, 2])
    assert found[3] is None


def test_as_many_draws_as_that_find_the_last_config_of_a_small_space() -> None:
    assert (1 - 1 / 100) ** REDRAWS < 1e-4


def test_true_and_1_are_different_values_of_a_dimension() -> None:
    space = Space({"learn_logit_scale": Choice((True, False))})

    assert identity(space, {"learn_logit_scale": True}) != identity(space, {"learn_logit_scale": 1})


def test_what_does_not_act_and_what_is_fixed_does_not_tell_configs_apart() -> None:
    space = Space(
        {"loss": Choice(("clip", "sigmoid")), "weight_decay": Uniform(0.0, 0.1), "max_epochs": Fixed(4)},
        conditions={"weight_decay": Condition("loss", ("sigmoid",))},
    )

    def of(loss: str, weight_decay: float, max_epochs: int = 4) -> tuple[Any, ...]:
        return identity(space, {"loss": loss, "weight_decay": weight_decay, "max_epochs": max_epochs})

    assert of("clip", 0.01) == of("clip", 0.02) == identity(space, {"loss": "clip"}) == of("clip", 0.0, max_epochs=8)
    assert of("sigmoid", 0.01) != of("sigmoid", 0.02)
