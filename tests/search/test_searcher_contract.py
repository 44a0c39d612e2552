"""What every searcher must hold, whatever library is behind it."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from search.conditions import Condition
from search.dimensions import Choice, Fixed, LogUniform, RandInt, Uniform
from search.searchers import Objective, Searcher, SearcherOptions, build_searcher, identity
from search.spaces import Space
from trainable.config import TrialConfig

Play = Callable[..., Any]

SPACE = Space(
    {
        "learning_rate": LogUniform(1e-4, 1e-2),
        "logit_scale": Uniform(1.0, 4.0),
        "head_depth": RandInt(1, 3),
        "embedding_dim": Choice((8, 32, 128)),
        "learn_logit_scale": Choice((True, False)),
        "max_epochs": Fixed(4),
    }
)
SMALL = Space({"head_depth": RandInt(1, 3), "loss": Choice(("clip", "sigmoid"))})
CONDITIONAL = Space(
    {
        "loss": Choice(("clip", "sigmoid")),
        "warmup_fraction": Uniform(0.0, 0.5),
        "head_depth": RandInt(1, 3),
        "weight_decay": LogUniform(1e-4, 1e-1),
        "gradient_clip": Choice((0.5, 1.0)),
    },
    conditions={
        "weight_decay": Condition("loss", ("sigmoid",)),
        "gradient_clip": Condition("head_depth", (2, 3)),
    },
)
ACCURACY = Objective(metric="val_accuracy", mode="max")
SEARCHERS = ["random", "hyperopt", "optuna-tpe", "optuna-gp", "optuna-cmaes", "optuna-nsga2"]
LENGTHS = {"optuna-gp": 16, "optuna-nsga2": 100}
"""Trials until a searcher's model is at work; NSGA-II breeds only after a generation of 50."""

every_searcher = pytest.mark.parametrize("name", SEARCHERS)
cheap_searchers = pytest.mark.parametrize("name", [name for name in SEARCHERS if name != "optuna-gp"])


def build(name: str, seed: int = 0, space: Space = SPACE) -> Searcher:
    algorithm, _, sampler = name.partition("-")
    options = SearcherOptions(space=space, objective=ACCURACY, seed=seed, sampler=sampler or None)
    return build_searcher(algorithm, options)


def length(name: str) -> int:
    return LENGTHS.get(name, 40)


def near_a_thousandth(config: dict[str, Any]) -> float:
    return -abs(math.log10(config["learning_rate"]) + 3)


@every_searcher
def test_draws_plain_values_inside_the_space_that_a_trial_takes(name: str, play: Play) -> None:
    for config in play(build(name)).run(length(name), near_a_thousandth).configs:
        TrialConfig.from_dict(config)
        assert set(config) == set(SPACE.dimensions)
        assert {type(value) for value in config.values()} <= {bool, int, float, str}
        assert 1e-4 <= config["learning_rate"] <= 1e-2
        assert 1.0 <= config["logit_scale"] <= 4.0
        assert config["head_depth"] in (1, 2, 3)
        assert config["embedding_dim"] in (8, 32, 128)
        assert config["max_epochs"] == 4


@every_searcher
def test_every_value_of_a_choice_and_both_ends_of_a_range_can_be_drawn(name: str, play: Play) -> None:
    configs = play(build(name)).run(length(name), lambda config: 0.0).configs

    assert {config["head_depth"] for config in configs} == {1, 2, 3}
    assert {config["embedding_dim"] for config in configs} == {8, 32, 128}


@every_searcher
def test_the_same_seed_and_the_same_ends_give_the_same_draws(name: str, play: Play) -> None:
    first = play(build(name)).run(length(name), near_a_thousandth).configs

    assert play(build(name)).run(length(name), near_a_thousandth).configs == first
    assert play(build(name, seed=1)).run(5, near_a_thousandth).configs != first[:5]


@pytest.mark.parametrize(
    ("name", "trials"),
    [(name, trials) for name in SEARCHERS for trials in (1, 10, length(name) - 3)],
)
def test_a_search_rebuilt_from_its_records_draws_what_it_would_have_drawn(name: str, trials: int, play: Play) -> None:
    whole = play(build(name)).run(trials, near_a_thousandth)
    rebuilt = play(build(name), whole.records)
    assert len(rebuilt.running) == min(trials, 2)

    assert rebuilt.run(3, near_a_thousandth).configs == whole.run(3, near_a_thousandth).configs


@cheap_searchers
def test_a_search_can_be_rebuilt_again_and_again(name: str, play: Play) -> None:
    whole = play(build(name)).run(30, near_a_thousandth)
    often = play(build(name))
    for _ in range(6):
        often = play(build(name), often.records).run(5, near_a_thousandth)

    assert often.configs == whole.configs


@cheap_searchers
def test_trials_that_have_not_ended_do_not_keep_others_waiting(name: str, play: Play) -> None:
    search = play(build(name))

    assert all(search.begin() for _ in range(30))


@cheap_searchers
def test_goes_on_when_every_trial_fails(name: str, play: Play) -> None:
    search = play(build(name))
    for _ in range(30):
        search.end(search.begin(), "FAILED")

    assert len(search.records) == 30


@cheap_searchers
def test_goes_on_when_no_metric_is_finite(name: str, play: Play) -> None:
    search = play(build(name))
    for number in range(30):
        trial = search.begin()
        search.report(trial, None)
        search.end(trial, "STOPPED" if number % 2 else "FINISHED")

    assert len(play(build(name), search.records).run(3, near_a_thousandth).records) == 33


@cheap_searchers
def test_a_stopped_trial_is_reported_ended_and_drawn_from(name: str, play: Play) -> None:
    search = play(build(name))
    for _ in range(30):
        trial = search.begin()
        search.report(trial, near_a_thousandth(trial.config))
        search.end(trial, "STOPPED")

    assert search.begin() is not None


@cheap_searchers
@pytest.mark.parametrize("interrupted_after", [None, 4])
def test_no_config_is_drawn_twice_and_an_exhausted_space_gives_nothing(
    name: str, interrupted_after: int | None, play: Play
) -> None:
    search = play(build(name, space=SMALL))
    if interrupted_after:
        search = play(build(name, space=SMALL), search.run(interrupted_after, lambda config: 0.5).records)
    search.run(10, lambda config: 0.5)

    assert len({identity(SMALL, config) for config in search.configs}) == len(search.records) == 6
    assert search.begin() is None
    assert search.begin() is None


@every_searcher
def test_a_dimension_is_drawn_where_its_condition_holds_and_nowhere_else(name: str, play: Play) -> None:
    search = play(build(name, space=CONDITIONAL)).run(length(name), lambda config: -config["warmup_fraction"])

    for config in search.configs:
        assert ("weight_decay" in config) == (config["loss"] == "sigmoid")
        assert ("gradient_clip" in config) == (config["head_depth"] > 1)
    assert 0 < sum("weight_decay" in config for config in search.configs) < len(search.configs)


@every_searcher
def test_records_with_defaults_in_place_of_what_did_not_act_rebuild_a_search(name: str, play: Play) -> None:
    defaults = TrialConfig().to_dict()
    whole = play(build(name, space=CONDITIONAL)).run(length(name) - 3, lambda config: -config["warmup_fraction"])
    for record in whole.records:
        record.config = {**defaults, **record.config}
    rebuilt = play(build(name, space=CONDITIONAL), whole.records)

    following = [search.run(3, lambda config: -config["warmup_fraction"]).configs[-3:] for search in (whole, rebuilt)]
    assert following[0] == following[1]


def distances(name: str, trials: int, mode: str, play: Play) -> list[float]:
    """How far each draw's learning rate is from the best one, in powers of ten."""
    algorithm, _, sampler = name.partition("-")
    objective = Objective(metric="val_accuracy", mode=mode)
    options = SearcherOptions(space=SPACE, objective=objective, seed=0, sampler=sampler or None)
    search = play(build_searcher(algorithm, options))
    for _ in range(trials):
        trial = search.begin()
        distance = abs(math.log10(trial.config["learning_rate"]) + 2.5)
        search.report(trial, -distance if mode == "max" else distance)
        search.end(trial)
    return [abs(math.log10(config["learning_rate"]) + 2.5) for config in search.configs]


@pytest.mark.parametrize(
    ("name", "trials"),
    [("hyperopt", 100), ("optuna-tpe", 40), ("optuna-gp", 16), ("optuna-cmaes", 60), ("optuna-nsga2", 150)],
)
def test_comes_nearer_to_the_best_learning_rate(name: str, trials: int, play: Play) -> None:
    late = distances(name, trials, "max", play)[-trials // 4 :]

    assert sum(late) / len(late) < 0.5  # it is 0.625 of random draws


@pytest.mark.parametrize(
    ("name", "trials"), [("hyperopt", 25), ("optuna-tpe", 20), ("optuna-cmaes", 40), ("optuna-nsga2", 60)]
)
def test_minimises_what_it_would_maximise_with_the_other_sign(name: str, trials: int, play: Play) -> None:
    assert distances(name, trials, "min", play) == distances(name, trials, "max", play)
