"""The contrastive loss of a global batch, and its gradient in the weights."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainable.model.loss import Comparison, Pairs, contrastive_loss
from trainable.training.ranks import Ranks


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch, and the prompts that were drawn for it."""

    images: Tensor  # (B, channels, H, W)
    labels: Tensor  # (B,)
    tokens: Tensor  # (C, L), one prompt per class
    mask: Tensor  # (C, L)


@dataclass(frozen=True)
class Encoded:
    """What the model makes of a batch."""

    pairs: Pairs
    logit_scale: Tensor
    logit_bias: Tensor | None


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

    def backward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Add a batch's gradient to the weights; returns this rank's loss, and how many of its images were told right.

        The mean of the ranks' losses is the loss of the global batch, and its gradient is what the weights get.
        """
        encoded = self._encode(batch)
        compared = self._compare(encoded.pairs)
        loss = contrastive_loss(self.loss, compared, encoded.logit_scale, encoded.logit_bias)
        loss.backward()
        return loss.detach(), count_hits(compared)

    def _encode(self, batch: Batch) -> Encoded:
        """Encode each image, and each distinct prompt once."""
        present, position = batch.labels.unique(return_inverse=True)
        with self.autocast():
            images, texts, scale, bias = self.model(batch.images, batch.tokens[present], batch.mask[present])
        return Encoded(Pairs(images, texts[position], batch.labels), scale, bias)

    def _compare(self, pairs: Pairs) -> Comparison:
        """Set this rank's rows against the columns of all; a column's gradient goes to the rank that it came from."""
        gathered = self.ranks.gather(torch.cat([pairs.images, pairs.texts], dim=1))  # (G, 2 D)
        images, texts = gathered.chunk(2, dim=1)
        columns = Pairs(images, texts, self.ranks.collect(pairs.labels))
        return Comparison(pairs, columns, first=self.ranks.rank * len(pairs.labels))


@torch.no_grad()
def count_hits(compared: Comparison) -> Tensor:
    """How many rows' images lie nearest to a text of their own label."""
    nearest = (compared.rows.images @ compared.columns.texts.T).argmax(dim=1)  # (B,)
    return (compared.columns.labels[nearest] == compared.rows.labels).sum()
