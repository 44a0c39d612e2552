import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.config import TrialConfig
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.training import zero_shot
from trainable.training.device_data import DeviceSplit
from trainable.training.ranks import Ranks
from trainable.training.report import UNSEEN_KEYS
from trainable.training.zero_shot import (
    Outcomes,
    PromptTokens,
    class_figures,
    class_logits,
    harmonic_mean,
    metrics_of,
    tell_images,
    zero_shot_classifier,
)


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    config = TrialConfig(embedding_dim=8)
    return build_dual_encoder(config, image_size=48, channels=1, mean=0.5, std=0.25, classes=3).eval()


def test_the_classifier_is_the_mean_over_templates_normalised_again(model: DualEncoder) -> None:
    rows = [["angry", "an angry face"], ["sad", "a sad face"]]
    classifier = zero_shot_classifier(model, PromptTokens.of(model, rows, torch.device("cpu")))

    for vector, prompts in zip(classifier, rows, strict=True):
        with torch.no_grad():
            each = [model.encode_texts(*model.text_tower.tokenize([prompt]))[0] for prompt in prompts]
        expected = sum(each) / len(each)
        assert torch.allclose(vector, expected / expected.norm(), atol=1e-5)


def test_logits_are_float32_under_autocast_so_that_close_classes_do_not_tie(model: DualEncoder) -> None:
    features = F.normalize(torch.ones(1, 8), dim=-1)
    classifier = torch.cat([features, F.normalize(features + 1e-3 * torch.eye(8)[:1], dim=-1)])

    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        logits = class_logits(features, classifier, model.logit_scale)

    assert logits.dtype == torch.float32
    assert logits[0, 0] > logits[0, 1]


class OneAtATime(Ranks):
    """One of several ranks whose exchanges change nothing."""

    def sum(self, values: Tensor) -> Tensor:
        return values


class PixelModel:
    """Takes the first eight pixels of an image for its features."""

    logit_scale = torch.tensor([1.5])

    def encode_images(self, images: Tensor) -> Tensor:
        return F.normalize(images.flatten(1)[:, :8] - 0.5, dim=-1)


@pytest.fixture(scope="module")
def split() -> DeviceSplit:
    """Images of three seen classes, 0 to 2, and of two unseen ones."""
    images = torch.randint(256, (40, 1, 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return DeviceSplit(images, torch.arange(40) % 5, torch.device("cpu"))


def directions(count: int) -> Tensor:
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(1)), dim=-1)


PARTS = [None, None, None, (0, 2), None]


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_the_ranks_shares_of_a_split_add_up_to_the_whole(
    split: DeviceSplit, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    tell: Any = partial(tell_images, PixelModel(), split, directions(5), seen=3, parts=PARTS)
    told = tell()
    monkeypatch.setattr(zero_shot, "EVALUATION_BATCH", 2)

    shares = [tell(ranks=OneAtATime(rank, world_size)) for rank in range(world_size)]

    for counts in ("own", "every", "both_parts"):
        assert torch.equal(sum(getattr(share, counts) for share in shares), getattr(told, counts))
    losses = [share.loss * int(share.own[:3].sum()) for share in shares]
    assert sum(losses) == pytest.approx(told.loss * 24, rel=1e-5)
    assert told.own.sum() == told.every.sum() == 40


def test_each_image_is_compared_with_its_own_side_and_with_all_classes(split: DeviceSplit) -> None:
    model: Any = PixelModel()
    classifier = directions(5)
    told = tell_images(model, split, classifier, seen=3, parts=PARTS)

    own, every, both, losses = torch.zeros(5, 5), torch.zeros(5, 5), torch.zeros(5), []
    for index, label in enumerate(split.labels.tolist()):
        feature = model.encode_images(split.images[index : index + 1].float() / 255)[0]
        scores = [float(feature @ vector) for vector in classifier]
        side = [0, 1, 2] if label < 3 else [3, 4]
        own[label, max(side, key=lambda c: scores[c])] += 1
        every[label, max(range(5), key=lambda c: scores[c])] += 1
        nearest = sorted(range(3), key=lambda c: -scores[c])[:2]
        both[label] += label == 3 and set(nearest) == {0, 2}
        if label < 3:
            scaled = [score * math.exp(float(model.logit_scale)) for score in scores[:3]]
            losses.append(math.log(sum(math.exp(score) for score in scaled)) - scaled[label])
    assert torch.equal(told.own, own)
    assert torch.equal(told.every, every)
    assert torch.equal(told.both_parts, both)
    assert 0 < both[3] < 8
    assert told.loss == pytest.approx(sum(losses) / 24, rel=1e-4)


def outcomes(own: list[list[int]], every: list[list[int]], seen: int) -> Outcomes:
    return Outcomes(torch.tensor(own), torch.tensor(every), torch.tensor([0, 0, 3, 1][: len(own)]), seen, 0.5)


def test_metrics_of_seen_classes_alone_counted_by_hand() -> None:
    counts = [[3, 1, 0], [0, 2, 0], [0, 0, 0]]  # 6 images; the third class has none

    assert metrics_of(outcomes(counts, counts, 3)) == {
        "accuracy": pytest.approx(5 / 6),
        "balanced_accuracy": pytest.approx((3 / 4 + 1) / 2),
        "loss": 0.5,
        "predicted_classes": 2,
    }


OWN = [[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 4, 4], [0, 0, 1, 1]]
EVERY = [[2, 1, 1, 0], [0, 1, 0, 1], [4, 0, 2, 2], [0, 0, 1, 1]]


def test_metrics_of_two_seen_and_two_unseen_classes_counted_by_hand() -> None:
    metrics = metrics_of(outcomes(OWN, EVERY, 2))

    assert metrics["accuracy"] == pytest.approx(5 / 6)
    assert metrics["unseen_accuracy"] == pytest.approx(5 / 10)
    assert metrics["unseen_balanced_accuracy"] == pytest.approx((4 / 8 + 1 / 2) / 2)
    assert metrics["generalised_seen_accuracy"] == pytest.approx(3 / 6)
    assert metrics["generalised_seen_balanced_accuracy"] == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert metrics["generalised_unseen_accuracy"] == pytest.approx(3 / 10)
    assert metrics["generalised_unseen_balanced_accuracy"] == pytest.approx((2 / 8 + 1 / 2) / 2)
    assert metrics["harmonic_accuracy"] == pytest.approx(2 / (6 / 3 + 10 / 3))
    assert metrics["harmonic_balanced_accuracy"] == pytest.approx(2 / (1 / 0.5 + 1 / 0.375))
    assert (metrics["chance"], metrics["unseen_chance"], metrics["generalised_chance"]) == (1 / 2, 1 / 2, 1 / 4)
    assert {f"val_{name}" for name in metrics} >= set(UNSEEN_KEYS)


def test_a_model_that_never_names_an_unseen_class_has_a_harmonic_mean_of_zero() -> None:
    blind = [[4, 0, 0, 0], [0, 2, 0, 0], [8, 0, 0, 0], [0, 2, 0, 0]]

    assert metrics_of(outcomes(OWN, blind, 2))["harmonic_balanced_accuracy"] == 0.0
    assert harmonic_mean(0.0, 0.0) == 0.0


def test_figures_of_each_unseen_class_counted_by_hand() -> None:
    figures = class_figures(outcomes(OWN, EVERY, 2), ["sadly_angry", "awed"], ["angry", "sad"])

    assert figures == {
        "sadly_angry": {
            "images": 8,
            "accuracy": 4 / 8,
            "generalised_accuracy": 2 / 8,
            "parts": ["angry", "sad"],
            "both_parts": 3 / 8,
        },
        "awed": {"images": 2, "accuracy": 1 / 2, "generalised_accuracy": 1 / 2},
    }
