"""Weight initialisation as a hyperparameter."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainable.errors import ConfigError, nearest

EMBEDDING_STD = 0.02
"""Deviation of embeddings and class tokens (BERT, arXiv 1810.04805; ViT keeps it)."""


def _trunc_normal(weight: Tensor, generator: torch.Generator) -> Tensor:
    return nn.init.trunc_normal_(
        weight, std=EMBEDDING_STD, a=-2 * EMBEDDING_STD, b=2 * EMBEDDING_STD, generator=generator
    )


def _xavier(weight: Tensor, generator: torch.Generator) -> Tensor:
    return nn.init.xavier_uniform_(weight, generator=generator)


def _kaiming(weight: Tensor, generator: torch.Generator) -> Tensor:
    return nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)


def _orthogonal(weight: Tensor, generator: torch.Generator) -> Tensor:
    return nn.init.orthogonal_(weight, generator=generator)


SCHEMES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "trunc_normal": _trunc_normal,  # normal of deviation 0.02 cut at two deviations: BERT, ViT
    "xavier": _xavier,  # Glorot and Bengio 2010, eq. 16
    "kaiming": _kaiming,  # He et al. 2015, arXiv 1502.01852, eq. 14 (fan out)
    "orthogonal": _orthogonal,  # Saxe et al. 2014, arXiv 1312.6120
}


@torch.no_grad()
def initialise(module: nn.Module, scheme: str, generator: torch.Generator) -> None:
    """Draw all weights of `module` anew: linear and convolution weights by `scheme`, the rest by convention.

    Biases become 0, norms the identity, embeddings and class tokens normal of deviation `EMBEDDING_STD`. The result
    depends on the scheme and the generator alone. Raises `ConfigError` for an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"weight_init {scheme!r} draws no weights.{nearest(scheme, SCHEMES)}")
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            SCHEMES[scheme](part.weight, generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm | nn.BatchNorm2d):
            part.reset_parameters()
        else:
            _draw_tokens(part, generator)


def _draw_tokens(part: nn.Module, generator: torch.Generator) -> None:
    """Draw the parameters that a module owns itself: embedding tables, class tokens, position embeddings."""
    for weight in part.parameters(recurse=False):
        nn.init.normal_(weight, std=EMBEDDING_STD, generator=generator)
    padding = getattr(part, "padding_idx", None)
    if isinstance(part, nn.Embedding) and padding is not None:
        part.weight[padding].zero_()
