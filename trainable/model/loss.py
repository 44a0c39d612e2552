"""Contrastive losses between images and their label texts, in pure torch.

A loss compares one rank's B rows with the G columns of all ranks, so that memory grows with B x G; the mean of the
ranks' losses is the loss of the whole batch. Features are unit vectors, and the logit scale is in log space. With C
classes in a batch each text stands about G / C times among the columns, so the losses differ in what they call a match.

A text is a prompt of one class, the label of its row. An image may belong to several classes, by the share of people
who saw each: then it matches a text by its share q of the text's class, a number between 0 and 1. Where every share is
0 or 1 that is whether the labels are equal.
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
    shares: Tensor | None = None  # (B, C), of each image for each class, of which its label has the most; sum 1


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


def image_matches(compared: Comparison) -> Tensor:
    """How much each row's image matches each column's text, 0 to 1: (B, G)."""
    return _matches(compared.rows, compared.columns)


def text_matches(compared: Comparison) -> Tensor:
    """How much each row's text matches each column's image, 0 to 1: (B, G)."""
    return _matches(compared.columns, compared.rows).T


def _matches(images: Pairs, texts: Pairs) -> Tensor:
    if images.shares is None:
        return (images.labels[:, None] == texts.labels[None, :]).float()
    return images.shares[:, texts.labels]


def clip_loss(compared: Comparison, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """InfoNCE of CLIP (arXiv 2103.00020, figure 3): a row matches its own column alone.

    Right for batches with one image per label; with more, equal labels are taken for mismatches.
    """
    labels = compared.rows.labels
    own = compared.first + torch.arange(len(labels), device=labels.device)
    return _both_directions(compared, logit_scale, own, own)


def multipositive_loss(compared: Comparison, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """Bidirectional contrastive loss of UniCL (arXiv 2204.03610, eq. 3 to 5): every pair of equal label matches.

    With shares a row's targets are its matches, divided by their sum. The entropy of the targets, a constant of the
    batch, is taken off, so that a perfect model reaches 0.
    """
    matches = image_matches(compared), text_matches(compared)
    of_images, of_texts = (match / match.sum(dim=1, keepdim=True) for match in matches)  # (B, G), each row's own is > 0
    entropy = (torch.special.entr(of_images) + torch.special.entr(of_texts)).sum(dim=1).mean() / 2
    return _both_directions(compared, logit_scale, of_images, of_texts) - entropy


def sigmoid_loss(compared: Comparison, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """Pairwise sigmoid loss of SigLIP (arXiv 2303.15343, eq. 1), summed over texts and averaged over images.

    With shares a pair is a match as much as its share says; the entropy of that is taken off, as above.
    """
    if logit_bias is None:
        raise ConfigError(
            "the sigmoid loss must have a logit bias, but the model has none; build it with loss=sigmoid."
        )
    matches = image_matches(compared)
    logits = similarity_logits(compared.rows.images, compared.columns.texts, logit_scale) + logit_bias
    entropy = torch.special.entr(matches) + torch.special.entr(1 - matches)
    surprise = -(matches * F.logsigmoid(logits) + (1 - matches) * F.logsigmoid(-logits))
    return (surprise - entropy).sum(dim=1).mean()


def _both_directions(compared: Comparison, logit_scale: Tensor, of_images: Tensor, of_texts: Tensor) -> Tensor:
    """The mean of two cross-entropies over the columns with their targets: images with texts, texts with images."""
    rows, columns = compared.rows, compared.columns
    images = F.cross_entropy(similarity_logits(rows.images, columns.texts, logit_scale), of_images)
    texts = F.cross_entropy(similarity_logits(rows.texts, columns.images, logit_scale), of_texts)
    return (images + texts) / 2


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
