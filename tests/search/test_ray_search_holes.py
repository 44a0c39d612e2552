"""Each hole of `ray.tune.search`, in Ray's own class and beside it in ours, told of the same ends."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from math import nan
from typing import Any

import optuna
import pytest
from hyperopt import JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_NEW, hp
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from ray.tune.search.hyperopt import HyperOptSearch
from ray.tune.search.optuna import OptunaSearch

from search.dimensions import Choice, LogUniform
from search.hyperopt_searcher import HyperOptSearcher
from search.optuna_searcher import OptunaSearcher
from search.searchers import Objective, SearcherOptions, identity
from search.spaces import Space

Play = Callable[..., Any]

RATES = Space({"learning_rate": LogUniform(1e-4, 1e-2)})
CHOICES = Space({"loss": Choice(("clip", "sigmoid")), "head_depth": Choice((1, 2, 3))})
METRIC = "val_accuracy"


@pytest.fixture(autouse=True)
def _quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def options(space: Space = RATES) -> SearcherOptions:
    return SearcherOptions(space=space, objective=Objective(metric=METRIC, mode="max"), seed=0)


def rays_optuna() -> OptunaSearch:
    return OptunaSearch({"learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}, metric=METRIC, mode="max", seed=0)


def rays_hyperopt() -> HyperOptSearch:
    rates = {"learning_rate": hp.loguniform("learning_rate", math.log(1e-4), math.log(1e-2))}
    return HyperOptSearch(rates, metric=METRIC, mode="max", random_state_seed=0)


def run_ray(searcher: Any, accuracies: list[list[float]]) -> None:
    """Trials one after another, told as Tune tells them: each report, and the last one again as the end."""
    for number, reports in enumerate(accuracies):
        searcher.suggest(str(number))
        for epoch, accuracy in enumerate(reports, start=1):
            result = {"training_iteration": epoch, METRIC: accuracy}
            if epoch < len(reports):
                searcher.on_trial_result(str(number), result)
        searcher.on_trial_complete(str(number), result)


def run_ours(search: Any, accuracies: list[list[float]], state: str) -> None:
    for reports in accuracies:
        trial = search.begin()
        for accuracy in reports:
            search.report(trial, accuracy)
        search.end(trial, state)


def states(study: optuna.Study) -> Counter[TrialState]:
    return Counter(trial.state for trial in study.trials)


def test_optuna_nan_leaves_the_trial_running_for_ever(play: Play) -> None:
    rays, ours = rays_optuna(), play(OptunaSearcher(options()))
    run_ray(rays, [[0.5, nan]] * 10)
    run_ours(ours, [[0.5, nan]] * 10, "STOPPED")

    assert states(rays._ot_study) == {TrialState.RUNNING: 10}
    assert states(ours.searcher.study) == {TrialState.FAIL: 10}


def test_optuna_a_stopped_trial_counts_as_complete_with_what_it_had_at_its_rung(play: Play) -> None:
    rays, ours = rays_optuna(), play(OptunaSearcher(options()))
    run_ray(rays, [[0.3, 0.2]] * 3)
    run_ours(ours, [[0.3, 0.2]] * 3, "STOPPED")

    assert states(rays._ot_study) == {TrialState.COMPLETE: 3}
    assert states(ours.searcher.study) == {TrialState.PRUNED: 3}


def test_optuna_the_last_epoch_is_missing_among_the_intermediate_values(play: Play) -> None:
    rays, ours = rays_optuna(), play(OptunaSearcher(options()))
    run_ray(rays, [[0.3, 0.2]])
    run_ours(ours, [[0.3, 0.2]], "STOPPED")

    assert rays._ot_study.trials[0].intermediate_values == {1: 0.3}
    assert ours.searcher.study.trials[0].intermediate_values == {1: 0.3, 2: 0.2}


def test_hyperopt_nan_becomes_a_loss_like_any_other(play: Play) -> None:
    rays, ours = rays_hyperopt(), play(HyperOptSearcher(options()))
    run_ray(rays, [[nan]] * 3)
    run_ours(ours, [[nan]] * 3, "STOPPED")

    assert all(document["result"]["status"] == "ok" for document in rays._hpopt_trials.trials)
    assert all(math.isnan(document["result"]["loss"]) for document in rays._hpopt_trials.trials)
    assert [document["result"] for document in ours.searcher.trials.trials] == [{"status": "fail"}] * 3


def test_hyperopt_an_end_without_a_result_leaves_the_trial_new_for_ever(play: Play) -> None:
    rays, ours = rays_hyperopt(), play(HyperOptSearcher(options()))
    rays.suggest("0")
    rays.on_trial_complete("0")
    ours.end(ours.begin(), "STOPPED")

    assert [document["state"] for document in rays._hpopt_trials._dynamic_trials] == [JOB_STATE_NEW]
    assert [document["state"] for document in ours.searcher.trials._dynamic_trials] == [JOB_STATE_ERROR]


def test_hyperopt_a_result_without_the_metric_raises(play: Play) -> None:
    rays, ours = rays_hyperopt(), play(HyperOptSearcher(options()))
    rays.suggest("0")
    with pytest.raises(RuntimeError, match="expected to see the metric"):
        rays.on_trial_complete("0", {"training_iteration": 1})
    run_ours(ours, [[None]], "FINISHED")  # type: ignore[list-item]  # the ledger's word for a number that is not finite

    assert [document["state"] for document in ours.searcher.trials.trials] == [JOB_STATE_DONE]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            lambda: OptunaSearch(
                {
                    "loss": CategoricalDistribution(("clip", "sigmoid")),
                    "head_depth": CategoricalDistribution((1, 2, 3)),
                },
                metric=METRIC,
                mode="max",
                seed=0,
            ),
            OptunaSearcher,
        ),
        (
            lambda: HyperOptSearch(
                {"loss": hp.choice("loss", ["clip", "sigmoid"]), "head_depth": hp.choice("head_depth", [1, 2, 3])},
                metric=METRIC,
                mode="max",
                random_state_seed=0,
            ),
            HyperOptSearcher,
        ),
    ],
    ids=["optuna", "hyperopt"],
)
def test_a_config_is_drawn_twice(theirs: Callable[[], Any], ours: Any, play: Play) -> None:
    rays, search = theirs(), play(ours(options(CHOICES)))
    drawn = {identity(CHOICES, rays.suggest(str(number))) for number in range(6)}
    search.run(6, lambda config: 0.5)

    assert len(drawn) < 6
    assert len({identity(CHOICES, config) for config in search.configs}) == 6


@pytest.mark.parametrize(
    ("theirs", "ours"), [(rays_optuna, OptunaSearcher), (rays_hyperopt, HyperOptSearcher)], ids=["optuna", "hyperopt"]
)
def test_a_search_that_goes_on_without_a_pickle_begins_anew(
    theirs: Callable[[], Any], ours: Callable[[SearcherOptions], Any], play: Play
) -> None:
    """What a driver that was killed leaves is its ledger; Ray's searchers have no way in but what they pickled."""
    rays, again = theirs(), theirs()
    run_ray(rays, [[0.5]] * 3)
    whole = play(ours(options())).run(3, lambda config: 0.5)
    rebuilt = play(ours(options()), whole.records)

    assert again.suggest("3") != rays.suggest("3")
    assert rebuilt.begin().config == whole.begin().config
