import math

import numpy as np
import pytest
from scipy import stats

from analysis.evidence import Seeds, best_of_resamples, by_seed, by_trials, interval


def drawn(values, mode, draws=20_000):
    """The best of resamples that were really drawn."""
    rng = np.random.default_rng(1)
    picked = values[rng.integers(len(values), size=(draws, len(values)))]
    return np.nanmax(picked, axis=1) if mode == "max" else np.nanmin(picked, axis=1)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_best_of_resamples_is_distributed_as_if_they_were_drawn(mode):
    values = np.array([0.3, 0.9, math.nan, 0.5, 0.8, 0.7])
    found, shares = best_of_resamples(values, mode)
    best = drawn(values, mode)
    assert found.tolist() == sorted(values[~np.isnan(values)], reverse=mode == "max")
    assert [(best == value).mean() for value in found] == pytest.approx(shares, abs=0.015)
    assert 1 - shares.sum() == pytest.approx((1 / 6) ** 6)


def test_the_interval_ends_at_the_best_and_begins_where_few_resamples_are_worse():
    values = np.linspace(0.1, 0.9, 40)
    low, high = interval(*best_of_resamples(values, "max"))
    assert high == 0.9
    assert low == pytest.approx(np.quantile(drawn(values, "max"), 0.025, method="higher"), abs=0.021)
    assert interval(*best_of_resamples(np.array([math.nan]), "max")) == pytest.approx((math.nan, math.nan), nan_ok=True)
    assert interval(*best_of_resamples(-values, "min")) == pytest.approx((-0.9, -low))


def test_the_share_of_resamples_that_agree_is_that_of_drawn_ones():
    ours, theirs = np.array([0.9, 0.6, 0.55, 0.2, math.nan]), np.array([0.8, 0.58, 0.1])
    found = by_trials("a", ours, "b", theirs, "max")
    rng = np.random.default_rng(2)
    best = np.nanmax(np.nan_to_num(ours, nan=-1)[rng.integers(5, size=(40_000, 5))], axis=1)
    other = theirs[rng.integers(3, size=(40_000, 3))].max(axis=1)
    assert found.agreeing == pytest.approx((best > other).mean(), abs=0.01)
    assert (found.value, found.other, found.sure) == (0.9, 0.8, "no")
    mirrored = by_trials("a", -ours, "b", -theirs, "min")
    assert (mirrored.agreeing, mirrored.value) == (pytest.approx(found.agreeing), -0.9)


def test_several_trials_above_all_of_the_other_make_it_sure_and_one_alone_does_not():
    low = np.linspace(0.1, 0.5, 30)
    assert by_trials("a", np.append(low, 0.9), "b", low, "max").sure == "no"
    assert by_trials("a", np.append(low, [0.9, 0.91]), "b", low, "max").sure == "hint"
    assert by_trials("a", np.append(low, [0.9, 0.91, 0.92, 0.93]), "b", low, "max").sure == "yes"


def test_few_trials_are_no_evidence_however_far_apart_they_are():
    few = by_trials("a", np.linspace(0.8, 0.9, 9), "b", np.linspace(0.1, 0.2, 40), "max")
    assert (few.agreeing, few.trials, few.sure) == (pytest.approx(1.0), 9, "no")
    assert by_trials("a", np.linspace(0.8, 0.9, 10), "b", np.linspace(0.1, 0.2, 40), "max").sure == "yes"


def test_equal_searches_are_no_evidence():
    values = np.linspace(0.1, 0.5, 30)
    assert by_trials("a", values, "b", values, "max").agreeing < 0.5


def seeds(*values, first=0):
    return Seeds(tuple((first + seed, value) for seed, value in enumerate(values)))


def test_pairs_of_one_seed_are_compared_by_their_differences():
    base = np.array([0.5, 0.6, 0.7, 0.4, 0.55, 0.65, 0.45])
    gains = np.array([0.01, 0.02, 0.015, 0.012, 0.018, 0.011, 0.016])
    found = by_seed("a", seeds(*(base + gains)), "b", seeds(*base), "max", 1)
    assert (found.method, found.seeds, found.wins, found.sure) == ("paired", 7, 7, "yes")
    assert found.p_value == pytest.approx(2 / 2**7)
    assert gains.min() < found.low < gains.mean() < found.high < gains.max()
    assert by_seed("a", seeds(*(base + gains)), "b", seeds(*base), "max", 10).sure == "hint"


def test_few_seeds_hint_at_most_and_two_say_nothing():
    three = by_seed("a", seeds(0.6, 0.7, 0.8), "b", seeds(0.5, 0.6, 0.7), "max", 1)
    assert (three.sure, three.p_value) == ("hint", 0.25)
    assert by_seed("a", seeds(0.6, 0.7), "b", seeds(0.5, 0.6), "max", 1).sure == "no"
    assert by_seed("a", seeds(0.6, 0.7, 0.5), "b", seeds(0.5, 0.6, 0.7), "max", 1).sure == "no"


def test_equal_pairs_are_no_evidence():
    found = by_seed("a", seeds(0.6, 0.7, 0.8), "b", seeds(0.6, 0.7, 0.8), "max", 1)
    assert (found.p_value, found.low, found.high, found.sure) == (1.0, 0.0, 0.0, "no")


def test_without_shared_seeds_all_stand_against_all():
    ours, theirs = [0.8, 0.82, 0.81, 0.83, 0.79], [0.7, 0.72, 0.71, 0.69, 0.73]
    found = by_seed("a", seeds(*ours), "b", seeds(*theirs, first=100), "max", 1)
    assert (found.method, found.sure, found.seeds) == ("unpaired", "yes", 5)
    assert found.p_value == pytest.approx(stats.mannwhitneyu(ours, theirs).pvalue)
    assert found.low < np.mean(ours) - np.mean(theirs) < found.high
    lower = by_seed("a", seeds(*theirs), "b", seeds(*ours, first=100), "min", 1)
    assert lower.low == pytest.approx(found.low, abs=0.01)
