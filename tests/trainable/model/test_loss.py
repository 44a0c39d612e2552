"""Each loss against a reference of plain loops over the whole batch, written from its paper."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.errors import ConfigError
from trainable.model.loss import LOSSES, Comparison, Pairs, contrastive_loss, image_matches, similarity_logits

LABELS = torch.tensor([0, 1, 0, 2, 2, 2])
SCALE = torch.tensor(2.0)
BIAS = torch.tensor(-1.5)


def unit_features(seed: int) -> Tensor:
    return F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def loss_of(name: str, images: Tensor, texts: Tensor, labels: Tensor = LABELS, scale: Tensor = SCALE) -> Tensor:
    return contrastive_loss(name, Comparison.within(Pairs(images, texts, labels)), scale, BIAS)


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

    assert float(loss_of(name, images, texts)) == pytest.approx(slow(images, texts), rel=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "slow"), [("clip", slow_clip), ("multipositive", slow_multipositive), ("sigmoid", slow_sigmoid)]
)
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_mean_of_the_ranks_losses_is_the_slow_reference_of_the_whole_batch(
    name: str, slow: object, ranks: int
) -> None:
    whole = Pairs(unit_features(0), unit_features(1), LABELS)
    B = len(LABELS) // ranks
    shares = [
        Comparison(Pairs(*(t[first : first + B] for t in (whole.images, whole.texts, whole.labels))), whole, first)
        for first in range(0, len(LABELS), B)
    ]

    losses = [float(contrastive_loss(name, share, SCALE, BIAS)) for share in shares]

    assert sum(losses) / ranks == pytest.approx(slow(whole.images, whole.texts), rel=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_gradient_reaches_both_sides_and_the_scale(name: str) -> None:
    images, texts, scale = unit_features(0), unit_features(1), SCALE.clone()
    for tensor in (images, texts, scale):
        tensor.requires_grad_()

    loss_of(name, images, texts, scale=scale).backward()

    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in (images, texts, scale))


def test_a_perfect_model_reaches_zero_where_labels_repeat_with_multipositive_but_not_with_clip() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    features = torch.eye(2)[labels]
    scale = torch.tensor(math.log(100.0))

    assert loss_of("multipositive", features, features, labels, scale) == pytest.approx(0.0, abs=1e-6)
    assert loss_of("clip", features, features, labels, scale) == pytest.approx(math.log(2), abs=1e-6)


def test_with_one_image_per_label_multipositive_is_clip() -> None:
    images, texts, labels = unit_features(0), unit_features(1), torch.arange(6)

    ours = loss_of("multipositive", images, texts, labels)

    assert float(ours) == pytest.approx(float(loss_of("clip", images, texts, labels)), rel=1e-6)


def test_an_unknown_loss_and_a_sigmoid_without_bias_are_refused() -> None:
    features = unit_features(0)
    with pytest.raises(ConfigError, match="Did you mean 'clip'"):
        loss_of("klip", features, features)
    with pytest.raises(ConfigError, match="logit bias"):
        contrastive_loss("sigmoid", Comparison.within(Pairs(features, features, LABELS)), SCALE)


class TestShares:
    """Images that belong to several classes: a row's label is the class with its largest share."""

    SHARES = torch.tensor(
        [[0.7, 0.3, 0.0], [0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [0.0, 0.1, 0.9], [0.4, 0.0, 0.6], [0.1, 0.2, 0.7]],
        dtype=torch.float64,
    )

    def match(self, image: int, text: int) -> float:
        return float(self.SHARES[image, LABELS[text]])

    def slow_multipositive(self, images: Tensor, texts: Tensor) -> float:
        """Kullback-Leibler divergence from each row's normalised matches, row by row, both directions."""
        n, total = len(images), 0.0
        for i in range(n):
            of_image = [self.match(i, j) for j in range(n)]
            of_text = [self.match(j, i) for j in range(n)]
            for a, b, weights in ((images, texts, of_image), (texts, images, of_text)):
                for j, weight in enumerate(weights):
                    if weight > 0:
                        target = weight / sum(weights)
                        total += target * (math.log(target) - log_softmax_over_columns(a, b, i, j))
        return total / (2 * n)

    def slow_sigmoid(self, images: Tensor, texts: Tensor) -> float:
        total = 0.0
        for i in range(len(images)):
            for j in range(len(texts)):
                p = 1 / (1 + math.exp(-logit(images, texts, i, j) - float(BIAS)))
                for target, told in ((self.match(i, j), p), (1 - self.match(i, j), 1 - p)):
                    total += target * (math.log(target) - math.log(told)) if target > 0 else 0.0
        return total / len(images)

    @pytest.mark.parametrize("name", ["multipositive", "sigmoid"])
    @pytest.mark.parametrize("ranks", [1, 2, 3])
    def test_the_mean_of_the_ranks_losses_equals_the_slow_reference(self, name: str, ranks: int) -> None:
        whole = Pairs(unit_features(0), unit_features(1), LABELS, self.SHARES)
        B = len(LABELS) // ranks
        parts = (whole.images, whole.texts, whole.labels, self.SHARES)
        losses = [
            float(contrastive_loss(name, Comparison(Pairs(*(t[i : i + B] for t in parts)), whole, i), SCALE, BIAS))
            for i in range(0, len(LABELS), B)
        ]

        slow = getattr(self, f"slow_{name}")(whole.images, whole.texts)
        assert sum(losses) / ranks == pytest.approx(slow, rel=1e-6)

    @pytest.mark.parametrize("name", ["multipositive", "sigmoid"])
    def test_shares_of_one_class_each_are_labels(self, name: str) -> None:
        images, texts = unit_features(0), unit_features(1)
        pairs = Pairs(images, texts, LABELS, torch.eye(3, dtype=torch.float64)[LABELS])

        loss = float(contrastive_loss(name, Comparison.within(pairs), SCALE, BIAS))

        assert loss == pytest.approx(float(loss_of(name, images, texts)), rel=1e-6)

    def test_the_best_similarities_are_the_log_of_the_shares_however_often_a_class_stands_in_the_batch(self) -> None:
        """So the softmax over the classes' prompts, which is what accuracy compares, is the people's shares."""
        labels = torch.tensor([0, 1, 0, 0, 0, 0])
        shares = torch.tensor([0.7, 0.3]).expand(6, 2)
        log_shares = shares[0].log().requires_grad_()

        def loss(logits: Tensor) -> Tensor:
            columns = torch.eye(2)[labels]
            compared = Comparison.within(Pairs(logits.expand(6, 2), columns, labels, shares))
            matches = image_matches(compared)
            targets = matches / matches.sum(dim=1, keepdim=True)
            return F.cross_entropy(similarity_logits(compared.rows.images, columns, torch.zeros(())), targets)

        (gradient,) = torch.autograd.grad(loss(log_shares), log_shares)
        assert gradient.abs().max() < 1e-6
