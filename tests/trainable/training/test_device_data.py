from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainable.config import TrialConfig
from trainable.data.store import Store, write_store
from trainable.data.unseen import UnseenClasses
from trainable.errors import ConfigError
from trainable.training.device_data import DeviceData
from trainable.training.trainer import Trainer

CLASSES = ("a", "b", "c", "d")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Twelve images a split of three classes in turn, each of the gray of its number, and a fourth for evaluation."""

    def split(first: int, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
        grays = np.arange(first, first + len(labels), dtype=np.uint8)
        return np.broadcast_to(grays[:, None, None], (len(labels), 8, 8)).copy(), np.array(labels)

    cycle = [0, 1, 2] * 4
    splits = {"train": split(0, cycle), "validation": split(100, [*cycle, 3]), "test": split(200, [*cycle, 3, 3])}
    path = tmp_path_factory.mktemp("data") / "store"
    return write_store(path, dataset="folder", classes=CLASSES, splits=splits, unseen_classes=("d",))


def grays(data: DeviceData, split: str, group: tuple[str, ...] | None = None) -> list[tuple[int, int]]:
    """The gray and the label of each image."""
    found = data.split(split, group)
    images, labels = found.batch(np.arange(len(found)))
    return list(zip((images[:, 0, 0, 0] * 255).round().int().tolist(), labels.tolist(), strict=True))


def test_an_unseen_class_has_no_image_in_training_and_only_its_group_in_evaluation(store: Store) -> None:
    data = DeviceData(store, CPU, UnseenClasses(validation=("b",), test=("d",)))

    assert data.classes == ("a", "c")
    assert grays(data, "train") == [(n, 0 if n % 3 == 0 else 1) for n in range(12) if n % 3 != 1]
    assert grays(data, "validation") == [(100 + n, (0, 2, 1)[n % 3]) for n in range(12)]
    assert grays(data, "test") == [
        *((200 + n, 0 if n % 3 == 0 else 1) for n in range(12) if n % 3 != 1),
        *((212, 2), (213, 2)),
    ]
    assert {label for _, label in grays(data, "test", ("b",))} == {0, 1, 2}


def test_without_unseen_classes_all_images_of_the_seen_ones_are_used_where_they_lie(store: Store) -> None:
    data = DeviceData(store, CPU)
    train = data.split("train")

    assert train.rows is None
    assert train.images.data_ptr() == store.split("train").images.ctypes.data
    assert grays(data, "validation") == [(100 + n, n % 3) for n in range(12)]


def test_scattered_images_are_not_copied_and_a_part_of_them_is_right(store: Store) -> None:
    train = DeviceData(store, CPU, UnseenClasses(test=("b",))).split("train")
    part = train.subset(np.array([1, 4]))

    assert train.images.data_ptr() == store.split("train").images.ctypes.data
    assert (part.images[:, 0, 0, 0].tolist(), part.labels.tolist()) == ([2, 6], [1, 0])


def test_pixel_statistics_are_of_the_images_that_are_trained(store: Store) -> None:
    mean, std = DeviceData(store, CPU, UnseenClasses(validation=("a",), test=("c",))).pixel_statistics

    trained = np.array([1, 4, 7, 10]) / 255
    assert (mean, std) == (pytest.approx(trained.mean()), pytest.approx(trained.std()))


def test_few_images_to_learn_by_heart_are_of_the_seen_classes(store: Store) -> None:
    few = DeviceData(store, CPU, UnseenClasses(validation=("b",), test=("d",))).overfit(4, seed=0)

    assert few.classes == ("a", "c")
    assert few.unseen == UnseenClasses()
    assert grays(few, "train") == grays(few, "validation")
    assert sorted(label for _, label in grays(few, "train")) == [0, 0, 1, 1]


class TestVotes:
    @pytest.fixture
    def voted(self, tmp_path: Path) -> Store:
        labels = np.array([0, 1, 2, 0])
        shares = np.array([[0.6, 0.4, 0], [0.25, 0.5, 0.25], [0, 0.3, 0.7], [1, 0, 0]], dtype=np.float32)
        images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
        splits = dict.fromkeys(("train", "validation", "test"), (images, labels))
        return write_store(
            tmp_path / "store",
            dataset="ferplus",
            classes=("a", "b", "c"),
            splits=splits,
            shares=dict.fromkeys(splits, shares),
        )

    def test_each_image_has_its_shares(self, voted: Store) -> None:
        found = DeviceData(voted, CPU).split("train").shares_of(np.array([2, 0]))
        assert found is not None
        assert torch.allclose(found, torch.tensor([[0, 0.3, 0.7], [0.6, 0.4, 0]]))

    def test_votes_for_a_class_that_is_not_trained_are_spread_over_the_others(self, voted: Store) -> None:
        found = DeviceData(voted, CPU, UnseenClasses(test=("b",))).split("train").shares
        assert found is not None
        assert torch.allclose(found, torch.tensor([[1.0, 0], [0, 1], [1, 0]]))

    def test_a_part_of_a_split_keeps_them(self, voted: Store) -> None:
        split = DeviceData(voted, CPU).split("train")
        part = split.subset(np.array([3, 1])).shares
        assert part is not None
        assert torch.equal(part, split.shares_of(np.array([3, 1])))  # type: ignore[arg-type]

    def test_data_without_votes_have_none_and_soft_targets_are_refused(self, store: Store, voted: Store) -> None:
        data = DeviceData(store, CPU)
        assert data.split("train").shares_of(np.array([0])) is None
        with pytest.raises(
            ConfigError, match=r"soft_targets must go with data that people voted on.*folder has no votes"
        ):
            Trainer(TrialConfig(soft_targets=True), data)

    def test_a_trainer_trains_towards_them(self, voted: Store) -> None:
        config = TrialConfig(soft_targets=True, batch_size=4, augmentation=0.0)
        soft, hard = (Trainer(replace(config, soft_targets=on), DeviceData(voted, CPU)) for on in (True, False))
        indices = np.array([0, 1, 2, 3])
        assert hard._batch(indices).shares is None
        assert torch.equal(soft._batch(indices).shares, soft.data.split("train").shares)  # type: ignore[arg-type]
        assert soft.train_epoch()["train_loss"] != hard.train_epoch()["train_loss"]
