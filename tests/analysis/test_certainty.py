import math

import pytest

from analysis.certainty import images_behind, interval, lead_by_images, lead_by_seeds, rivals

COUNTS = {"train": {"a": 10, "b": 10, "unseen": 0}, "validation": {"a": 100, "b": 300, "unseen": 50}}
MANIFEST = {"dataset": {"counts": COUNTS}}


def test_images_are_those_of_trained_classes():
    assert images_behind(MANIFEST, "val_accuracy") == 400


def test_a_balanced_accuracy_varies_as_if_of_fewer_images():
    assert images_behind(MANIFEST, "val_balanced_accuracy") == 300  # 4 / (1/100 + 1/300)


@pytest.mark.parametrize("manifest", [{}, {"dataset": {}}, {"dataset": {"counts": {"train": 5, "validation": 2}}}])
def test_an_older_manifest_tells_no_images(manifest):
    assert images_behind(manifest, "val_accuracy") is None


def test_a_loss_has_no_images():
    assert images_behind(MANIFEST, "val_loss") is None


def test_the_interval_is_near_that_of_the_normal_distribution():
    low, high = interval(0.8, 10_000)
    width = 2 * 1.96 * math.sqrt(0.8 * 0.2 / 10_000)
    assert high - low == pytest.approx(width, rel=0.05)
    assert (low + high) / 2 == pytest.approx(0.8, abs=0.001)


def test_a_lead_is_sure_only_beyond_chance():
    assert lead_by_images(0.80, 0.70, 1000).sure
    assert not lead_by_images(0.80, 0.79, 1000).sure
    assert lead_by_images(0.80, 0.79, 100_000).sure
    assert lead_by_images(0.80, 0.79, 1000) == lead_by_images(0.80, 0.79, 1000)


def test_rivals_against_counting_one_by_one():
    others = [0.80 - 0.002 * i for i in range(1, 60)]
    slow = sum(not lead_by_images(0.80, other, 1000).sure for other in others)
    assert rivals(0.80, others, 1000) == slow
    assert 0 < slow < len(others)
    assert rivals(0.80, [], 1000) == 0


def test_seeds_resampled_tell_a_lead_from_luck():
    assert lead_by_seeds([0.80, 0.81, 0.82], [0.70, 0.71, 0.72]).sure
    assert not lead_by_seeds([0.80, 0.70, 0.90], [0.79, 0.71, 0.88]).sure
    less = lead_by_seeds([1.0, 1.1], [2.0, 2.1], sign=-1.0)
    assert less.sure
    assert less.gap == pytest.approx(1.0)
