"""Contrastive losses between images and their label texts, in pure torch.

A loss compares one rank's B rows with the G columns of all ranks, so that memory grows with B x G; the mean of the
ranks' losses is the loss of the whole batch. Features are unit vectors, and the logit scale is in log space. With C
classes in a batch each text stands about G / C times among the columns, so the losses differ in what they call a match.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.errors import ConfigError, nearest


@dataclass(frozen=True)
class Pairs:
    """Images and texts that belong together, row by row."""

    images: Tensor  # (B, D)
    texts: Tensor  # (B, D)
    labels: Tensor  # (B,)


@dataclass(frozen=True)
class Comparison:
    """Rows of one rank against the columns of all: `rows` stand in `columns` from `first` on."""

    rows: Pairs  # B of them
    columns: Pairs  # G of them
    first: int = 0

    @classmethod
    def within(cls, pairs: Pairs) -> "Comparison":
        """A batch against itself."""
        return cls(pairs, pairs)


def similarity_logits(images: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """Cosine similarities times the exponentiated logit scale: (B, D), (B', D) -> (B, B')."""
    return logit_scale.exp() * images @ texts.T


def same_label(compared: Comparison) -> Tensor:
    """Which pairs of row and column match: (B, G) of 0 and 1."""
    return (compared.rows.labels[:, None] == compared.columns.labels[None, :]).float()


def clip_loss(compared: Comparison, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """InfoNCE of CLIP (arXiv 2103.00020, figure 3): a row matches its own column alone.

    Right for batches with one image per label; with more, equal labels are taken for mismatches.
    """
    labels = compared.rows.labels
    return _both_directions(compared, logit_scale, compared.first + torch.arange(len(labels), device=labels.device))


def multipositive_loss(compared: Comparison, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """Bidirectional contrastive loss of UniCL (arXiv 2204.03610, eq. 3 to 5): every pair of equal label matches.

    The entropy of the targets, a constant of the batch, is taken off, so that a perfect model reaches 0.
    """
    matches = same_label(compared)
    count = matches.sum(dim=1, keepdim=True)  # (B, 1), at least 1
    return _both_directions(compared, logit_scale, matches / count) - count.log().mean()


def sigmoid_loss(compared: Comparison, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """Pairwise sigmoid loss of SigLIP (arXiv 2303.15343, eq. 1), summed over texts and averaged over images."""
    if logit_bias is None:
        raise ConfigError(
            "the sigmoid loss must have a logit bias, but the model has none; build it with loss=sigmoid."
        )
    signs = 2 * same_label(compared) - 1
    logits = similarity_logits(compared.rows.images, compared.columns.texts, logit_scale)
    return -F.logsigmoid(signs * (logits + logit_bias)).sum(dim=1).mean()


def _both_directions(compared: Comparison, logit_scale: Tensor, targets: Tensor) -> Tensor:
    """The mean of two cross-entropies over the columns: images with texts, and texts with images."""
    rows, columns = compared.rows, compared.columns
    of_images = F.cross_entropy(similarity_logits(rows.images, columns.texts, logit_scale), targets)
    of_texts = F.cross_entropy(similarity_logits(rows.texts, columns.images, logit_scale), targets)
    return (of_images + of_texts) / 2


LOSSES: dict[str, Callable[[Comparison, Tensor, Tensor | None], Tensor]] = {
    "multipositive": multipositive_loss,
    "clip": clip_loss,
    "sigmoid": sigmoid_loss,
}


def contrastive_loss(name: str, compared: Comparison, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """The named loss of one rank's rows, computed in float32. Raises `ConfigError` for an unknown name."""
    if name not in LOSSES:
        raise ConfigError(f"no loss is called {name!r}.{nearest(name, LOSSES)}")
    with torch.autocast(logit_scale.device.type, enabled=False):
        return LOSSES[name](compared, logit_scale, logit_bias)
