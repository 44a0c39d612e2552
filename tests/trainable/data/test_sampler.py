import numpy as np
import pytest

from trainable.data.sampler import BalancedSampler
from trainable.errors import DataError

LABELS = np.random.default_rng(0).choice(7, 301, p=[0.14, 0.02, 0.14, 0.25, 0.17, 0.11, 0.17])


def global_batches(batch_size, world_size=1, epochs=1, labels=LABELS, **options):
    """All global batches of the first epochs, each a list of the ranks' shares."""
    samplers = [
        BalancedSampler(labels, batch_size, seed=5, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    return [list(shares) for epoch in range(epochs) for shares in zip(*[s.epoch(epoch) for s in samplers], strict=True)]


@pytest.mark.parametrize(("batch_size", "world_size"), [(7, 1), (64, 1), (10, 1), (3, 1), (1, 1), (16, 4), (5, 2)])
def test_every_global_batch_is_balanced(batch_size, world_size):
    whole = batch_size * world_size
    for shares in global_batches(batch_size, world_size, epochs=4):
        assert [share.shape for share in shares] == [(batch_size,)] * world_size
        counts = np.bincount(LABELS[np.concatenate(shares)], minlength=7)
        assert set(counts) <= {whole // 7, -(-whole // 7)}


def test_every_rank_gets_a_balanced_share():
    for shares in global_batches(16, 4, epochs=3):
        for share in shares:
            counts = np.bincount(LABELS[share], minlength=7)
            assert counts.min() >= 2
            assert counts.max() <= 3


def test_ranks_do_not_share_images_and_together_are_the_one_rank_batch():
    large = np.arange(7).repeat(100)
    alone = global_batches(16, 1, epochs=2, labels=large)
    for four, (one,) in zip(global_batches(4, 4, epochs=2, labels=large), alone, strict=True):
        together = np.concatenate(four)
        assert len(set(together)) == 16
        assert set(together) == set(one)


def test_extra_places_go_round_the_classes():
    drawn = [np.concatenate(shares) for shares in global_batches(10, epochs=7)]
    totals = np.cumsum([np.bincount(LABELS[batch], minlength=7) for batch in drawn], axis=0)
    assert (np.ptp(totals, axis=1) <= 1).all()


@pytest.mark.parametrize("epochs", [1, 3, 20])
def test_within_a_class_no_image_comes_again_before_all_have_come(epochs):
    drawn = np.concatenate([np.concatenate(shares) for shares in global_batches(32, 2, epochs=epochs)])
    times = np.bincount(drawn, minlength=len(LABELS))
    for label in range(7):
        assert np.ptp(times[label == LABELS]) <= 1


def test_a_class_is_shuffled_anew_on_each_pass():
    labels = np.zeros(50, int)
    first, second = (np.concatenate(list(BalancedSampler(labels, 10, seed=1).epoch(epoch))) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert set(first[:10]) != set(second[:10])


def test_an_epoch_is_a_pure_function_of_seed_and_number():
    one, other = BalancedSampler(LABELS, 16, seed=3), BalancedSampler(LABELS, 16, seed=3)
    list(one.epoch(0))
    np.testing.assert_array_equal(list(one.epoch(6)), list(other.epoch(6)))
    np.testing.assert_array_equal(list(one.epoch(0)), list(other.epoch(0)))


def test_seeds_and_epochs_differ():
    def batches(seed, epoch):
        return np.concatenate(list(BalancedSampler(LABELS, 16, seed=seed).epoch(epoch))).tolist()

    assert batches(0, 0) != batches(1, 0)
    assert batches(0, 0) != batches(0, 1)


@pytest.mark.parametrize(
    ("batch_size", "world_size", "epoch_samples", "steps"),
    [(64, 1, 0, 4), (64, 1, 640, 10), (64, 2, 640, 5), (400, 1, 0, 1), (8, 1, 79, 9)],
)
def test_length_of_an_epoch(batch_size, world_size, epoch_samples, steps):
    sampler = BalancedSampler(LABELS, batch_size, epoch_samples=epoch_samples, seed=0, world_size=world_size)
    assert sampler.steps == steps
    assert len(list(sampler.epoch(2))) == steps


def test_a_class_smaller_than_its_places_is_repeated():
    labels = np.array([0] * 20 + [1] * 2)
    (batch,) = BalancedSampler(labels, 20, epoch_samples=20, seed=0).epoch(0)
    assert np.bincount(batch[labels[batch] == 1])[20:].tolist() == [5, 5]


def test_labels_need_not_be_contiguous():
    labels = np.array([3, 9, 9, 12] * 5)
    for batch in BalancedSampler(labels, 6, seed=0).epoch(0):
        assert np.unique(labels[batch], return_counts=True)[1].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"labels": LABELS[:0]}, "needs at least one label"),
        ({"batch_size": 0}, "batch_size >= 1 must hold, but got 0"),
        ({"epoch_samples": -1}, "epoch_samples >= 0 must hold, but got -1"),
        ({"rank": 2, "world_size": 2}, "0 <= rank < world_size = 2 must hold, but got 2"),
        ({"seed": -1}, "seed >= 0 must hold, but got -1"),
    ],
)
def test_impossible_requests_are_refused(arguments, sentence):
    with pytest.raises(DataError, match=sentence):
        BalancedSampler(**{"labels": LABELS, "batch_size": 8, "seed": 0} | arguments)
