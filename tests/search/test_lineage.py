"""How the weights of an epoch came about where trials went on from each other."""

from typing import Any

import pytest

from search.lineage import schedule_lines, schedule_of
from search.trials import Inherited, TrialRecord

FIRST = {"learning_rate": 1e-3, "augmentation": 0.5, "loss": "clip"}
SECOND = {**FIRST, "learning_rate": 1.2e-3}
THIRD = {**SECOND, "learning_rate": 1e-3, "augmentation": 0.4}


@pytest.fixture
def trials() -> dict[str, TrialRecord]:
    """b went on from a's epoch 2, and c from b's epoch 4, where b was itself replaced."""
    drawn: dict[str, Any] = {"a": FIRST, "b": {**FIRST, "loss": "sigmoid"}, "c": {**FIRST, "augmentation": 0.0}}
    made = {
        name: TrialRecord(trial_id=name, number=number, config=config, created_time=0.0)
        for number, (name, config) in enumerate(drawn.items())
    }
    made["b"].inheritances = [
        Inherited(source="a", epoch=2, config=SECOND),
        Inherited(source="c", epoch=4, config={**FIRST, "augmentation": 1.0}),
    ]
    made["c"].inheritances = [Inherited(source="b", epoch=4, config=THIRD)]
    return made


def test_a_schedule_follows_the_weights_back_to_the_trial_that_began_them(trials: dict[str, TrialRecord]) -> None:
    assert schedule_of(trials, trials["c"], 5) == [
        {"epoch": 0, "source": None, "changes": {"augmentation": 0.5, "learning_rate": 1e-3}},
        {"epoch": 2, "source": "a", "changes": {"learning_rate": 1.2e-3}},
        {"epoch": 4, "source": "b", "changes": {"learning_rate": 1e-3, "augmentation": 0.4}},
    ]


@pytest.mark.parametrize("epoch", [1, 4])
def test_until_a_trial_inherits_one_config_trained_it(trials: dict[str, TrialRecord], epoch: int) -> None:
    assert schedule_of(trials, trials["c"], epoch) == []
    assert schedule_lines([]) == []


def test_a_schedule_in_plain_words(trials: dict[str, TrialRecord]) -> None:
    assert schedule_lines(schedule_of(trials, trials["c"], 5)) == [
        "Its weights were trained by a schedule. At first augmentation 0.5, learning_rate 0.001",
        "  from epoch 3, on weights of a: learning_rate 0.0012",
        "  from epoch 5, on weights of b: learning_rate 0.001, augmentation 0.4",
    ]
