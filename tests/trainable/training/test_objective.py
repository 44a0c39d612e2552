"""Accumulation on one rank against a reference that keeps all activations; several ranks are in test_parity.py."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainable.model.loss import LOSSES, Comparison, Pairs, contrastive_loss
from trainable.training.objective import Batch, Objective
from trainable.training.ranks import ONE_RANK

PARTS = 3


class Toy(nn.Module):
    """A dual encoder with all that makes accumulation hard: batch statistics, running ones, and dropout."""

    def __init__(self, loss: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.images = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
        self.texts = nn.Sequential(nn.Embedding(9, 16), nn.Dropout(0.5))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.logit_bias = nn.Parameter(torch.tensor(-1.0)) if loss == "sigmoid" else None

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        texts = (self.texts(tokens) * mask[:, :, None]).sum(dim=1)
        bias = None if self.logit_bias is None else self.logit_bias.clone()
        return F.normalize(self.images(images), dim=-1), F.normalize(texts, dim=-1), self.logit_scale.clone(), bias


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        torch.rand(12, 1, 4, 4, generator=generator),
        torch.tensor([0, 1, 2, 0, 1, 1, 2, 2, 0, 0, 3, 3]),
        torch.randint(9, (4, 5), generator=generator),
        torch.ones(4, 5),
    )


@pytest.fixture(params=[False, True], ids=["labels", "shares"])
def voted(request: pytest.FixtureRequest, batch: Batch) -> Batch:
    """The batch, with its labels alone and with shares."""
    shares = F.one_hot(batch.labels, 4) * 0.6 + torch.rand(12, 4, generator=torch.Generator().manual_seed(3)) * 0.1
    return replace(batch, shares=shares / shares.sum(dim=1, keepdim=True)) if request.param else batch


def slow_backward(model: Toy, batch: Batch, loss: str) -> float:
    """Encode each micro-batch once, keep everything, and let autograd find the way back."""
    images, texts = [], []
    for rows in torch.arange(len(batch.labels)).chunk(PARTS):
        present, position = batch.labels[rows].unique(return_inverse=True)
        image, text, scale, bias = model(batch.images[rows], batch.tokens[present], batch.mask[present])
        images.append(image)
        texts.append(text[position])
    compared = Comparison.within(Pairs(torch.cat(images), torch.cat(texts), batch.labels, batch.shares))
    value = contrastive_loss(loss, compared, scale, bias)
    value.backward()
    return float(value.detach())


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_accumulation_gives_the_gradients_statistics_and_draws_of_keeping_everything(voted: Batch, loss: str) -> None:
    batch = voted
    model, again = Toy(loss), Toy(loss)
    torch.manual_seed(2)
    expected_loss = slow_backward(model, batch, loss)
    expected = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    expected_buffers = [buffer.clone() for buffer in model.buffers()]
    expected_draw = torch.rand(())

    torch.manual_seed(2)
    value, _ = Objective(again, loss, ONE_RANK, nullcontext, PARTS).backward(batch)

    assert float(value) == pytest.approx(expected_loss, rel=1e-6)
    actual = [parameter.grad for parameter in again.parameters() if parameter.grad is not None]
    assert len(actual) == len(expected)
    assert all(torch.allclose(a, e, rtol=1e-4, atol=1e-6) for a, e in zip(actual, expected, strict=True))
    assert all(torch.equal(a, e) for a, e in zip(again.buffers(), expected_buffers, strict=True))
    assert again.images[1].num_batches_tracked == PARTS
    assert torch.rand(()) == expected_draw


def test_a_fixed_logit_scale_gets_no_gradient(batch: Batch) -> None:
    model = Toy("sigmoid")
    model.logit_scale.requires_grad_(False)

    Objective(model, "sigmoid", ONE_RANK, nullcontext, PARTS).backward(batch)

    assert model.logit_scale.grad is None
    assert model.logit_bias.grad is not None


def test_hits_are_images_nearest_to_a_text_of_their_own_label(batch: Batch) -> None:
    model = Toy("clip")
    _, hits = Objective(model.eval(), "clip", ONE_RANK, nullcontext).backward(batch)

    images, texts, _, _ = model(batch.images, batch.tokens, batch.mask)
    assert int(hits) == int(((images @ texts.T).argmax(dim=1) == batch.labels).sum())


def test_a_micro_batch_holds_its_own_activations_alone(batch: Batch) -> None:
    model = Toy("clip")
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    def elements(parts: int) -> int:
        kept.clear()
        objective = Objective(model, "clip", ONE_RANK, nullcontext, parts)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            objective.backward(batch)
        return max(kept)

    assert elements(1) >= PARTS * 4 * 4 * 4
    assert elements(PARTS) < elements(1)
