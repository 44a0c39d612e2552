"""Contrastive losses between B images and their B label texts, in pure torch.

Every loss takes unit features of shape (B, D), the labels (B,) and the logit scale in log space. With C classes in a
batch each text stands about B / C times among the columns, so the losses differ in what they call a match.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.errors import ConfigError, nearest


def similarity_logits(images: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """Cosine similarities times the exponentiated logit scale: (B, D), (B', D) -> (B, B')."""
    return logit_scale.exp() * images @ texts.T


def same_label(labels: Tensor) -> Tensor:
    """Which image-text pairs of a batch match: (B,) -> (B, B) of 0 and 1."""
    return (labels[:, None] == labels[None, :]).float()


def clip_loss(logits: Tensor, labels: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """InfoNCE of CLIP (arXiv 2103.00020, figure 3): only pair i, i matches.

    Right for batches with one image per label; with more, equal labels are taken for mismatches.
    """
    targets = torch.arange(len(labels), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def multipositive_loss(logits: Tensor, labels: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """Bidirectional contrastive loss of UniCL (arXiv 2204.03610, eq. 3 to 5): every pair of equal label matches.

    The entropy of the targets, a constant of the batch, is taken off, so that a perfect model reaches 0.
    """
    matches = same_label(labels)
    targets = matches / matches.sum(dim=1, keepdim=True)  # (B, B); symmetric, as equal labels share their row sum
    entropy = matches.sum(dim=1).log().mean()
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2 - entropy


def sigmoid_loss(logits: Tensor, labels: Tensor, logit_bias: Tensor | None = None) -> Tensor:
    """Pairwise sigmoid loss of SigLIP (arXiv 2303.15343, eq. 1), summed over texts and averaged over images."""
    if logit_bias is None:
        raise ConfigError(
            "the sigmoid loss must have a logit bias, but the model has none; build it with loss=sigmoid."
        )
    signs = 2 * same_label(labels) - 1
    return -F.logsigmoid(signs * (logits + logit_bias)).sum(dim=1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "multipositive": multipositive_loss,
    "clip": clip_loss,
    "sigmoid": sigmoid_loss,
}


def contrastive_loss(
    name: str, images: Tensor, texts: Tensor, labels: Tensor, logit_scale: Tensor, logit_bias: Tensor | None = None
) -> Tensor:
    """The named loss of unit features, computed in float32: (B, D), (B, D), (B,) -> ().

    Raises `ConfigError` for an unknown name.
    """
    if name not in LOSSES:
        raise ConfigError(f"no loss is called {name!r}.{nearest(name, LOSSES)}")
    with torch.autocast(images.device.type, enabled=False):
        logits = similarity_logits(images.float(), texts.float(), logit_scale)
        return LOSSES[name](logits, labels, logit_bias)
