import math
from collections import Counter
from typing import Any

import hyperopt
import optuna
import pytest

from search.dimensions import Choice, Fixed, LogUniform, RandInt, Uniform
from search.searchers import SEARCHERS, Objective, RaySearcher, Searcher, build_searcher
from search.spaces import Space
from trainable.config import TrialConfig
from trainable.errors import ConfigError

SPACE = Space(
    {
        "learning_rate": LogUniform(1e-4, 1e-2),
        "logit_scale": Uniform(1.0, 4.0),
        "head_depth": RandInt(1, 3),
        "embedding_dim": Choice((8, 32, 128)),
        "learn_logit_scale": Choice((True, False)),
        "weight_init": Choice(("xavier", "kaiming")),
        "max_epochs": Fixed(4),
    }
)
ACCURACY = Objective(metric="val_accuracy", mode="max")
ALGORITHMS = sorted(SEARCHERS)


def build(algorithm: str, seed: int = 0, space: Space = SPACE, objective: Objective = ACCURACY) -> Searcher:
    return build_searcher(algorithm, space, objective, seed=seed)


def search(searcher: Searcher, trials: int, score: Any) -> list[dict[str, Any]]:
    """Run trials one after another, each with one report; `score` gives None for a failed one."""
    configs = []
    for number in range(trials):
        config = searcher.suggest(str(number))
        value = score(config)
        if value is not None:
            searcher.on_report(str(number), 1, value)
        searcher.on_end(str(number), value)
        configs.append(config)
    return configs


def near_a_tenth_of_a_percent(config: dict[str, Any]) -> float:
    return -abs(math.log10(config["learning_rate"]) + 3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_draws_the_same_configs_in_the_same_order(algorithm: str) -> None:
    first = search(build(algorithm), 25, near_a_tenth_of_a_percent)

    assert search(build(algorithm), 25, near_a_tenth_of_a_percent) == first
    assert search(build(algorithm, seed=1), 25, near_a_tenth_of_a_percent) != first


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_draws_plain_values_inside_the_space_that_a_trial_takes(algorithm: str) -> None:
    for config in search(build(algorithm), 40, near_a_tenth_of_a_percent):
        TrialConfig.from_dict(config)
        assert set(config) == set(SPACE.dimensions)
        assert {type(value) for value in config.values()} <= {bool, int, float, str}
        assert 1e-4 <= config["learning_rate"] <= 1e-2
        assert 1.0 <= config["logit_scale"] <= 4.0
        assert config["head_depth"] in (1, 2, 3)
        assert config["embedding_dim"] in (8, 32, 128)
        assert config["max_epochs"] == 4


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_value_of_a_choice_and_both_ends_of_a_range_can_be_drawn(algorithm: str) -> None:
    configs = search(build(algorithm), 60, lambda config: 0.0)

    assert set(Counter(config["head_depth"] for config in configs)) == {1, 2, 3}
    assert set(Counter(config["embedding_dim"] for config in configs)) == {8, 32, 128}


@pytest.mark.parametrize("algorithm", ["optuna", "hyperopt"])
def test_tpe_draws_nearer_to_the_better_end_whether_it_maximises_or_minimises(algorithm: str) -> None:
    space = Space({"learning_rate": SPACE.dimensions["learning_rate"]})

    def late_mean(mode: str, sign: int) -> float:
        searcher = build(algorithm, space=space, objective=Objective(metric="val_accuracy", mode=mode))
        configs = search(searcher, 60, lambda config: sign * math.log10(config["learning_rate"]))
        return sum(math.log10(config["learning_rate"]) for config in configs[30:]) / 30

    high = late_mean("max", 1)
    assert late_mean("min", -1) == pytest.approx(high)
    assert high > late_mean("min", 1) + 0.3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_trials_that_have_not_ended_do_not_keep_others_waiting(algorithm: str) -> None:
    searcher = build(algorithm)

    assert all(searcher.suggest(str(number)) for number in range(30))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_goes_on_when_every_trial_fails(algorithm: str) -> None:
    assert len(search(build(algorithm), 30, lambda config: None)) == 30


def test_optuna_is_told_of_ends_and_failures_and_leaves_no_trial_running() -> None:
    searcher = build("optuna")
    assert isinstance(searcher, RaySearcher)
    search(searcher, 4, lambda config: None)
    search_after = searcher.suggest("stopped")
    assert search_after
    searcher.on_report("stopped", 1, 0.3)
    searcher.on_end("stopped", 0.3)

    states = Counter(trial.state for trial in searcher._searcher._ot_study.trials)
    assert states == {optuna.trial.TrialState.FAIL: 4, optuna.trial.TrialState.COMPLETE: 1}


def test_hyperopt_counts_a_failed_trial_as_an_error() -> None:
    searcher = build("hyperopt")
    assert isinstance(searcher, RaySearcher)
    search(searcher, 3, lambda config: None)
    search(searcher, 2, near_a_tenth_of_a_percent)

    states = Counter(trial["state"] for trial in searcher._searcher._hpopt_trials._dynamic_trials)
    assert states == {hyperopt.base.JOB_STATE_ERROR: 3, hyperopt.base.JOB_STATE_DONE: 2}


def test_an_epoch_that_is_reported_again_after_a_restart_is_told_once() -> None:
    told: list[int] = []

    class Library:
        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            told.append(result["training_iteration"])

    searcher = RaySearcher(Library(), SPACE, "val_accuracy")
    for epoch in (1, 2, 2, 3):
        searcher.on_report("a", epoch, 0.5)

    assert told == [1, 2, 3]


def test_an_unknown_algorithm_gets_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'optuna'"):
        build("optuma")


@pytest.mark.parametrize("algorithm", ["optuna", "hyperopt"])
def test_a_space_with_nothing_to_draw_is_refused(algorithm: str) -> None:
    with pytest.raises(ConfigError, match="fixes all of them"):
        build(algorithm, space=Space({"learning_rate": Fixed(1e-3)}))


def test_random_draws_depend_on_the_trials_number_alone() -> None:
    eager, waiting = build("random"), build("random")
    configs = [eager.suggest(str(number)) for number in range(3)]

    assert search(waiting, 3, lambda config: None) == configs
