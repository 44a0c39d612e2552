"""What HyperOpt is told; see test_searcher_contract.py for what it draws."""

from collections.abc import Callable
from typing import Any

import pytest
from hyperopt import JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_RUNNING

from search.conditions import Condition
from search.dimensions import Choice, LogUniform, RandInt
from search.hyperopt_searcher import HyperOptSearcher
from search.searchers import Objective, SearcherOptions
from search.spaces import Space
from trainable.errors import ConfigError

Play = Callable[..., Any]

SPACE = Space(
    {"loss": Choice(("clip", "sigmoid")), "head_depth": RandInt(1, 3), "weight_decay": LogUniform(1e-4, 1e-1)},
    conditions={"weight_decay": Condition("loss", ("sigmoid",))},
)


def build(mode: str = "max") -> HyperOptSearcher:
    return HyperOptSearcher(SearcherOptions(space=SPACE, objective=Objective(metric="val_accuracy", mode=mode), seed=0))


def documents(search: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = search.searcher.trials._dynamic_trials
    return found


@pytest.mark.parametrize(("mode", "loss"), [("max", -0.4), ("min", 0.4)])
@pytest.mark.parametrize("state", ["FINISHED", "STOPPED"])
def test_a_trial_that_ended_well_is_done_with_its_last_value_as_a_loss(
    state: str, mode: str, loss: float, play: Play
) -> None:
    search = play(build(mode))
    trial = search.begin()
    search.report(trial, 0.9)
    search.report(trial, 0.4)
    search.end(trial, state)

    assert documents(search)[0]["state"] == JOB_STATE_DONE
    assert documents(search)[0]["result"] == {"status": "ok", "loss": loss}


@pytest.mark.parametrize("state", ["FINISHED", "STOPPED"])
def test_a_trial_that_diverged_is_done_with_the_status_fail(state: str, play: Play) -> None:
    search = play(build())
    trial = search.begin()
    search.report(trial, None)
    search.end(trial, state)

    assert documents(search)[0]["state"] == JOB_STATE_DONE
    assert documents(search)[0]["result"] == {"status": "fail"}


def test_a_failed_trial_and_one_without_a_report_are_errors(play: Play) -> None:
    search = play(build())
    failed, cut_off = search.begin(), search.begin()
    search.report(failed, 0.5)
    search.end(failed, "FAILED")
    search.end(cut_off, "STOPPED")

    assert [document["state"] for document in documents(search)] == [JOB_STATE_ERROR] * 2


def test_none_is_left_running_after_its_end_and_none_ends_before(play: Play) -> None:
    search = play(build()).run(20, lambda config: 0.5)

    running = [document["tid"] for document in documents(search) if document["state"] == JOB_STATE_RUNNING]
    assert running == [trial.number for trial in search.running]


def test_a_document_holds_nothing_of_a_dimension_that_does_not_act(play: Play) -> None:
    search = play(build()).run(20, lambda config: 0.5)

    for document, config in zip(documents(search), search.configs, strict=True):
        assert len(document["misc"]["vals"]["weight_decay"]) == (config["loss"] == "sigmoid")


def test_rebuilt_documents_equal_those_of_the_search(play: Play) -> None:
    search = play(build()).run(30, lambda config: 0.1 * config["head_depth"])

    assert documents(play(build(), search.records)) == documents(search)


def test_a_value_that_the_space_cannot_draw_is_left_out_of_the_document(play: Play, make_trial: Any) -> None:
    searcher = build()
    searcher.restore(make_trial(0, accuracies=(0.5,), config={"loss": "multipositive", "head_depth": 2}))

    assert searcher.trials.trials[0]["misc"]["vals"] == {"loss": [], "head_depth": [2.0], "weight_decay": []}
    assert searcher.suggest("next")


def test_each_whole_number_is_as_likely_as_the_others(play: Play) -> None:
    depths = [config["head_depth"] for config in play(build()).run(18, lambda config: 0.5).configs]

    assert min(depths.count(depth) for depth in (1, 2, 3)) >= 3


def test_several_metrics_are_refused() -> None:
    objective = Objective(metric="val_accuracy", mode="max", further=(("epoch_seconds", "min"),))
    with pytest.raises(ConfigError, match="one metric, but got val_accuracy, epoch_seconds"):
        HyperOptSearcher(SearcherOptions(space=SPACE, objective=objective, seed=0))
