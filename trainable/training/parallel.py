"""One model on several ranks."""

import warnings
from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainable.config import TrialConfig
from trainable.errors import ConfigError
from trainable.model.dual_encoder import DualEncoder
from trainable.model.towers import IMAGE_TOWERS, TEXT_TOWERS
from trainable.training.ranks import Ranks


def rows_per_rank(config: TrialConfig, ranks: Ranks) -> int:
    """B, a rank's share of the global batch. Raises `ConfigError` where the batch cannot be shared evenly."""
    shares = ranks.world_size * config.accumulation
    if config.batch_size % shares:
        above = config.batch_size + -config.batch_size % shares
        raise ConfigError(
            f"batch_size must be a multiple of workers x accumulation = {ranks.world_size} x {config.accumulation}, so "
            f"that all shares are of one size, but got {config.batch_size}; take {above}."
        )
    return config.batch_size // ranks.world_size


def replicate(model: DualEncoder, config: TrialConfig, ranks: Ranks) -> nn.Module:
    """What to call in training: the model itself on one rank, and DDP (arXiv 2006.15704) around it on several.

    A tower from a hub may have weights that no loss reaches, such as an unused pooler; DDP then has to look for them
    in every step.
    """
    if ranks.world_size == 1:
        return model
    from_scratch = config.image_tower in IMAGE_TOWERS and config.text_tower in TEXT_TOWERS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # torch 2.13; 2.9 has no other
        return DistributedDataParallel(
            model, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=not from_scratch
        )


def exchanging_gradients(model: nn.Module, *, now: bool) -> AbstractContextManager[None]:
    """Around a forward and backward pass: whether the ranks' gradients are averaged at its end, or left to add up."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not now else nullcontext()
