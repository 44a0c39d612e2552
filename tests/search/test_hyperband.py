"""Hyperband as brackets of ASHA."""

import numpy as np
import pytest

from search.asha import Hyperband, StoppingAsha, bracket_shares
from tests.search.asha_cases import options


def test_hyperbands_brackets_begin_one_rung_later_each_and_the_last_has_none() -> None:
    scheduler = Hyperband(options())

    assert [[rung.epoch for rung in bracket.rungs] for bracket in scheduler.brackets] == [[1, 3, 9], [3, 9], [9], []]


def test_hyperbands_shares_are_the_trials_that_its_brackets_begin_with() -> None:
    """Algorithm 1, line 2, for R = 81 and η = 3, before it is rounded up."""
    trials = np.array([81, 5 / 4 * 27, 5 / 3 * 9, 5 / 2 * 3, 5])

    assert np.ceil(trials).tolist() == [81, 34, 15, 8, 5]
    assert bracket_shares(5, 3) == pytest.approx(trials / trials.sum())
    assert bracket_shares(1, 3) == [1.0]


def test_hyperband_draws_brackets_by_their_shares_from_its_seed_and_the_trials_id() -> None:
    def draws(seed: int) -> list[int]:
        scheduler = Hyperband(options(seed=seed))
        return [scheduler.brackets.index(scheduler.bracket_of(f"trial_{n:04d}")) for n in range(2000)]

    first = draws(1)
    assert np.bincount(first) / len(first) == pytest.approx(bracket_shares(4, 3), abs=0.03)
    assert draws(1) == first
    assert draws(2) != first


def test_hyperband_compares_a_trial_with_those_of_its_bracket_alone() -> None:
    scheduler = Hyperband(options())
    names = [f"trial_{n:04d}" for n in range(60)]
    for number, name in enumerate(names):
        scheduler.on_report(name, 9, number)

    for bracket in scheduler.brackets:
        alone = StoppingAsha(options(grace=bracket.rungs[0].epoch if bracket.rungs else 27))
        own = [name for name in names if scheduler.bracket_of(name) is bracket]
        assert own
        assert [alone.on_report(name, 9, names.index(name)) for name in own] == [
            scheduler.on_report(name, 9, 0.0) for name in own
        ]
