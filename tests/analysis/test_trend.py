import numpy as np
import pytest

from analysis import trend
from analysis.trend import means, smooth

RNG = np.random.default_rng(0)


def test_the_smooth_trend_follows_a_curve_through_noise():
    x = RNG.uniform(size=80)
    found = smooth(x.tolist(), (np.sin(3 * x) + RNG.normal(0, 0.1, 80)).tolist())
    assert np.abs(found.mean - np.sin(3 * found.x)).max() < 0.12
    assert ((found.low < np.sin(3 * found.x)) & (np.sin(3 * found.x) < found.high)).mean() > 0.85


def test_the_band_is_that_of_the_mean_and_not_of_single_trials():
    y = RNG.normal(0, 1, 100)
    found = smooth(np.linspace(0, 1, 100).tolist(), y.tolist())
    half = (found.high - found.low).mean() / 2
    assert 0.15 < half < 0.6


def test_few_trials_leave_even_a_flat_trend_uncertain():
    found = smooth([0.1, 0.3, 0.2, 0.5, 0.6, 0.7, 0.8, 0.9], [0.4, 0.9, 0.7, 0.5, 0.8, 0.45, 0.85, 0.6])
    assert (found.high - found.low).mean() > 0.15


def test_many_trials_are_sampled(monkeypatch):
    monkeypatch.setattr(trend, "TRIALS", 20)
    x = np.linspace(0, 1, 500)
    found = smooth(x.tolist(), x.tolist())
    assert found.mean == pytest.approx(found.x, abs=0.02)
    assert smooth(x.tolist(), x.tolist()).mean.tolist() == found.mean.tolist()


def test_the_mean_of_a_group_has_students_interval():
    found = means([0, 0, 0, 2, 2, 2, 2, 5], [1.0, 2.0, 3.0, 7.0, 7.0, 7.0, 7.0, 1.0])
    assert found.x.tolist() == [0, 2]
    assert found.mean.tolist() == [2, 7]
    assert found.high[0] - 2 == pytest.approx(4.302653 / 3**0.5)
    assert (found.low[1], found.high[1]) == (7, 7)
