"""The blocks of a tower, from the bottom up: which of them keep their weights, and how fast each learns."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from trainable.errors import ConfigError


class Levels(NamedTuple):
    """Where each weight of a backbone lies."""

    blocks: int
    """How many blocks there are: L."""
    of: dict[nn.Parameter, int]
    """Weight -> 0 below the blocks (embeddings, stem), 1 to L in them, L + 1 above (the last norm)."""


def levels_of(backbone: nn.Module, tower: str) -> Levels:
    """The blocks are what the largest `ModuleList` holds: layers of a transformer, stages of a ResNet.

    Raises `ConfigError` that names the tower where its backbone has none.
    """
    lists = [(name, part) for name, part in backbone.named_modules() if isinstance(part, nn.ModuleList)]
    if not lists:
        raise ConfigError(
            f"freezing all but the last blocks, and layer_decay, must have a tower of blocks, but {tower} has none; "
            "choose another tower, or a freeze without a number and layer_decay=1."
        )
    prefix, blocks = max(lists, key=lambda found: sum(weight.numel() for weight in found[1].parameters()))
    of: dict[nn.Parameter, int] = {}
    level = 0
    for name, weight in backbone.named_parameters():
        if name.startswith(f"{prefix}."):
            level = int(name.removeprefix(f"{prefix}.").partition(".")[0]) + 1
        elif level > 0:
            level = len(blocks) + 1
        of[weight] = level
    return Levels(len(blocks), of)


def freeze(backbone: nn.Module, trained_blocks: int, tower: str) -> None:
    """Keep the weights of a backbone: all of them, or those below its last `trained_blocks` blocks.

    Raises `ConfigError` where it has fewer blocks.
    """
    if not trained_blocks:
        backbone.requires_grad_(False)
        return
    levels = levels_of(backbone, tower)
    if trained_blocks > levels.blocks:
        raise ConfigError(
            f"freeze must train at most as many blocks as a tower has, but got {trained_blocks} and {tower} has "
            f"{levels.blocks}."
        )
    for weight, level in levels.of.items():
        weight.requires_grad_(level > levels.blocks - trained_blocks)


def rest_frozen(backbone: nn.Module) -> None:
    """Bring what keeps its weights into evaluation: no dropout, and batch norms by their running statistics."""
    for part in backbone.modules():
        weights = list(part.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            part.eval()


def rate_factors(
    backbone: nn.Module, tower: str, factor: float, layer_decay: float
) -> Iterator[tuple[nn.Parameter, float]]:
    """Each weight that is trained, and its share of the learning rate: `factor` at the top, then by the level.

    That is `factor` times `layer_decay` to the power of L + 1 - level: BEiT, arXiv 2106.08254, appendix (ELECTRA,
    arXiv 2003.10555, had it first).
    """
    levels = levels_of(backbone, tower) if layer_decay < 1 else None
    for weight in backbone.parameters():
        if weight.requires_grad:
            above = 0 if levels is None else levels.blocks + 1 - levels.of[weight]
            yield weight, factor * layer_decay**above
