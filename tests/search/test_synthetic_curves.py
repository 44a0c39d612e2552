"""Learning curves from a formula."""

import math

import numpy as np
import pytest

from search.synthetic_curves import CHANCE, SYNTHETIC_SPACE, SyntheticCurves, squared_distance

BEST = {"learning_rate": 10**-2.8, "weight_decay": 10**-2.4, "augmentation": 0.3, "embedding_dim": 2 * 2**4.8}
FAR = {"learning_rate": 1e-4, "weight_decay": 1.0, "augmentation": 1.0, "embedding_dim": 2}


def test_a_curve_rises_towards_what_its_distance_from_the_optimum_allows() -> None:
    epochs = 400
    last = {name: SyntheticCurves(epochs=epochs)(config, 0).reports[-1] for name, config in (("b", BEST), ("f", FAR))}
    assert squared_distance(BEST) == pytest.approx(0)
    assert last["b"]["val_accuracy"] == pytest.approx(0.6 - (0.6 - CHANCE) * epochs**-0.8, abs=0.06)
    assert last["f"]["val_accuracy"] < last["b"]["val_accuracy"] - 0.1


def test_a_curve_follows_from_seed_config_and_number_alone() -> None:
    curves = SyntheticCurves(epochs=3, seed=1)
    assert curves(BEST, 4) == curves(BEST, 4)
    assert curves(BEST, 4) != curves(BEST, 5)
    assert curves(BEST, 4) != SyntheticCurves(epochs=3, seed=2)(BEST, 4)


def test_every_epoch_reports_under_its_number() -> None:
    reports = SyntheticCurves(epochs=5)(BEST, 0).reports
    assert [report["epoch"] for report in reports] == [1, 2, 3, 4, 5]
    assert all(5 <= report["epoch_seconds"] <= 15 for report in reports)


def test_a_share_of_the_trials_reports_nan_from_an_epoch_on() -> None:
    curves = SyntheticCurves(epochs=9, nan_share=0.5)
    accuracies = [[report["val_accuracy"] for report in curves(BEST, n).reports] for n in range(400)]
    finite = [[math.isfinite(value) for value in row] for row in accuracies]
    assert all(row == sorted(row, reverse=True) for row in finite)
    assert 160 < sum(not all(row) for row in finite) < 240
    assert {sum(row) for row in finite} == set(range(10))


def test_a_share_of_the_trials_fails() -> None:
    curves = [SyntheticCurves(epochs=9, failing_share=0.5)(BEST, n) for n in range(400)]
    failed = [curve for curve in curves if curve.failure is not None]
    assert 160 < len(failed) < 240
    assert {len(curve.reports) for curve in failed} == set(range(9))
    assert all(len(curve.reports) == 9 for curve in curves if curve.failure is None)


def test_every_draw_of_the_space_has_a_curve() -> None:
    rng = np.random.default_rng(0)
    distances = [squared_distance(SYNTHETIC_SPACE.sample(rng)) for _ in range(200)]
    assert all(0 <= distance <= 1 for distance in distances)
