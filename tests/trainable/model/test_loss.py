"""Each loss against a reference of plain loops, written from its paper."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.errors import ConfigError
from trainable.model.loss import LOSSES, contrastive_loss

LABELS = torch.tensor([0, 1, 0, 2, 2, 2])
SCALE = torch.tensor(2.0)
BIAS = torch.tensor(-1.5)


def unit_features(seed: int) -> Tensor:
    return F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def logit(images: Tensor, texts: Tensor, i: int, j: int) -> float:
    return math.exp(float(SCALE)) * float(images[i] @ texts[j])


def log_softmax_over_columns(images: Tensor, texts: Tensor, i: int, j: int) -> float:
    row = [logit(images, texts, i, k) for k in range(len(texts))]
    return row[j] - math.log(sum(math.exp(value) for value in row))


def slow_clip(images: Tensor, texts: Tensor) -> float:
    rows = range(len(images))
    return -sum(
        log_softmax_over_columns(images, texts, i, i) + log_softmax_over_columns(texts, images, i, i) for i in rows
    ) / (2 * len(images))


def slow_multipositive(images: Tensor, texts: Tensor) -> float:
    """Kullback-Leibler divergence from the uniform distribution over the matches, row by row, both directions."""
    total = 0.0
    for i in range(len(images)):
        matches = [j for j in range(len(texts)) if LABELS[i] == LABELS[j]]
        for a, b in ((images, texts), (texts, images)):
            total += sum(math.log(1 / len(matches)) - log_softmax_over_columns(a, b, i, j) for j in matches) / len(
                matches
            )
    return total / (2 * len(images))


def slow_sigmoid(images: Tensor, texts: Tensor) -> float:
    total = 0.0
    for i in range(len(images)):
        for j in range(len(texts)):
            z = 1 if LABELS[i] == LABELS[j] else -1
            total -= math.log(1 / (1 + math.exp(-z * (logit(images, texts, i, j) + float(BIAS)))))
    return total / len(images)


@pytest.mark.parametrize(
    ("name", "slow"), [("clip", slow_clip), ("multipositive", slow_multipositive), ("sigmoid", slow_sigmoid)]
)
def test_equals_the_slow_reference(name: str, slow: object) -> None:
    images, texts = unit_features(0), unit_features(1)

    fast = contrastive_loss(name, images, texts, LABELS, SCALE, BIAS)

    assert float(fast) == pytest.approx(slow(images, texts), rel=1e-5)  # type: ignore[operator]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_gradient_reaches_both_sides_and_the_scale(name: str) -> None:
    images, texts, scale = unit_features(0), unit_features(1), SCALE.clone()
    for tensor in (images, texts, scale):
        tensor.requires_grad_()

    contrastive_loss(name, images, texts, LABELS, scale, BIAS).backward()

    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in (images, texts, scale))


def test_a_perfect_model_reaches_zero_where_labels_repeat_with_multipositive_but_not_with_clip() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    features = torch.eye(2)[labels]
    scale = torch.tensor(math.log(100.0))

    assert contrastive_loss("multipositive", features, features, labels, scale) == pytest.approx(0.0, abs=1e-6)
    assert contrastive_loss("clip", features, features, labels, scale) == pytest.approx(math.log(2), abs=1e-6)


def test_with_one_image_per_label_multipositive_is_clip() -> None:
    images, texts, labels = unit_features(0), unit_features(1), torch.arange(6)

    ours = contrastive_loss("multipositive", images, texts, labels, SCALE)

    assert float(ours) == pytest.approx(float(contrastive_loss("clip", images, texts, labels, SCALE)), rel=1e-6)


def test_an_unknown_loss_and_a_sigmoid_without_bias_are_refused() -> None:
    features = unit_features(0)
    with pytest.raises(ConfigError, match="Did you mean 'clip'"):
        contrastive_loss("klip", features, features, LABELS, SCALE)
    with pytest.raises(ConfigError, match="logit bias"):
        contrastive_loss("sigmoid", features, features, LABELS, SCALE)
