"""The contrastive loss of a global batch, and its gradient in the weights."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainable.model.loss import Comparison, Pairs, contrastive_loss
from trainable.model.tower_options import buffers_kept
from trainable.training.parallel import exchanging_gradients
from trainable.training.ranks import Ranks


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch, and the prompts that were drawn for it."""

    images: Tensor  # (B, channels, H, W)
    labels: Tensor  # (B,)
    tokens: Tensor  # (C, L), one prompt per class
    mask: Tensor  # (C, L)
    shares: Tensor | None = None  # (B, C), see `Pairs`

    def split(self, parts: int) -> list["Batch"]:
        """Micro-batches of B / `parts` rows, to encode."""
        rows = zip(self.images.chunk(parts), self.labels.chunk(parts), strict=True)
        return [Batch(images, labels, self.tokens, self.mask) for images, labels in rows]


@dataclass(frozen=True)
class Encoded:
    """What the model makes of a batch: all that the loss depends on."""

    images: Tensor  # (B, D)
    texts: Tensor  # (B, D)
    logit_scale: Tensor
    logit_bias: Tensor | None

    @classmethod
    def joined(cls, parts: Sequence["Encoded"]) -> "Encoded":
        """The whole of several micro-batches, cut off from what it came from: its gradients stay with it."""
        first = parts[0]
        return cls(
            torch.cat([part.images for part in parts]).requires_grad_(),
            torch.cat([part.texts for part in parts]).requires_grad_(),
            first.logit_scale.detach().requires_grad_(),
            None if first.logit_bias is None else first.logit_bias.detach().requires_grad_(),
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, without a bias where there is none."""
        tensors = (self.images, self.texts, self.logit_scale, self.logit_bias)
        return [tensor for tensor in tensors if tensor is not None]

    def gradients(self, parts: int) -> list[list[Tensor]]:
        """What each of `parts` micro-batches hands back for its `tensors`: its rows, and its share of the scalars."""
        gradients = [tensor.grad for tensor in self.tensors if tensor.grad is not None]
        cut = [g.chunk(parts) if g.ndim else (g / parts).expand(parts).unbind() for g in gradients]
        return [list(part) for part in zip(*cut, strict=True)]


@dataclass(frozen=True)
class Objective:
    """One of the losses, for a model on one rank or several."""

    model: nn.Module
    """A `DualEncoder`, or what stands for it on several ranks."""
    loss: str
    """One of `trainable.model.loss.LOSSES`."""
    ranks: Ranks
    autocast: Callable[[], AbstractContextManager[object]]
    """The precision of the towers."""
    parts: int = 1
    """Micro-batches into which a rank cuts its share."""

    def backward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Add a batch's gradient to the weights; returns this rank's loss, and how many of its images were told right.

        The mean of the ranks' losses is the loss of the global batch, and its gradient is what the weights get.
        """
        if self.parts > 1:
            return self._backward_in_parts(batch)
        loss, hits = self._compare(self._encode(batch), batch)
        loss.backward()
        return loss.detach(), hits

    def _backward_in_parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same, holding the activations of one micro-batch at a time (GradCache, arXiv 2101.06983, section 3.2).

        A first pass keeps the features alone, the loss of the whole batch gives their gradients, and a second pass
        encodes each micro-batch again to hand these on to the weights. Dropout draws the same in both. A batch norm
        takes its statistics from a micro-batch of all ranks, and counts it once into its running ones.
        """
        parts, draws, features = batch.split(self.parts), [], []
        with torch.no_grad(), buffers_kept(self.model):
            for part in parts:
                draws.append(_random_state(batch.images.device))
                features.append(self._encode(part))
        whole = Encoded.joined(features)
        loss, hits = self._compare(whole, batch)
        loss.backward()
        for i, (part, gradients) in enumerate(zip(parts, whole.gradients(self.parts), strict=True)):
            _set_random_state(draws[i], batch.images.device)
            with exchanging_gradients(self.model, now=i == self.parts - 1):
                outputs = zip(self._encode(part).tensors, gradients, strict=True)
                trained = [(output, gradient) for output, gradient in outputs if output.requires_grad]
                torch.autograd.backward([output for output, _ in trained], [gradient for _, gradient in trained])
        return loss.detach(), hits

    def _encode(self, batch: Batch) -> Encoded:
        """Encode each image, and each distinct prompt once."""
        present, position = batch.labels.unique(return_inverse=True)
        with self.autocast():
            images, texts, scale, bias = self.model(batch.images, batch.tokens[present], batch.mask[present])
        return Encoded(images, texts[position], scale, bias)

    def _compare(self, encoded: Encoded, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of this rank's rows against the columns of all, and how many of its images were told right.

        A column's gradient goes to the rank that the column came from.
        """
        images, texts = self.ranks.gather(torch.cat([encoded.images, encoded.texts], dim=1)).chunk(2, dim=1)  # (G, D)
        shares = None if batch.shares is None else self.ranks.collect(batch.shares)
        columns = Pairs(images, texts, self.ranks.collect(batch.labels), shares)
        rows = Pairs(encoded.images, encoded.texts, batch.labels, batch.shares)
        compared = Comparison(rows, columns, first=self.ranks.rank * len(batch.labels))
        loss = contrastive_loss(self.loss, compared, encoded.logit_scale, encoded.logit_bias)
        return loss, count_hits(compared)


@torch.no_grad()
def count_hits(compared: Comparison) -> Tensor:
    """How many rows' images lie nearest to a text of their own label."""
    nearest = (compared.rows.images @ compared.columns.texts.T).argmax(dim=1)  # (B,)
    return (compared.columns.labels[nearest] == compared.rows.labels).sum()


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """What dropout on `device` will draw next."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    on_cpu, on_device = state
    torch.set_rng_state(on_cpu)
    if on_device is not None:
        torch.cuda.set_rng_state(on_device, device)
