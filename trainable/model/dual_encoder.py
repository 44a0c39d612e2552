"""The dual encoder: two towers, two projection heads, one logit scale."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainable.config import MAX_LOGIT_SCALE, TrialConfig
from trainable.errors import ConfigError
from trainable.model.initialisation import initialise
from trainable.model.towers import ImageTower, TextTower, Tower, build_image_tower, build_text_tower


class ProjectionHead(nn.Sequential):
    """`depth` linear layers with GELU between them: (B, width) -> (B, D)."""

    def __init__(self, width: int, embedding_dim: int, depth: int) -> None:
        hidden = [layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), nn.GELU())]
        super().__init__(*hidden, nn.Linear(width, embedding_dim, bias=False))


class DualEncoder(nn.Module):
    """Maps images and prompts to unit vectors of one D-dimensional space."""

    def __init__(
        self,
        image_tower: ImageTower,
        text_tower: TextTower,
        config: TrialConfig,
        *,
        mean: float,
        std: float,
        classes: int,
    ) -> None:
        super().__init__()
        self.image_tower = image_tower
        self.text_tower = text_tower
        self.image_head = ProjectionHead(image_tower.width, config.embedding_dim, config.head_depth)
        self.text_head = ProjectionHead(text_tower.width, config.embedding_dim, config.head_depth)
        scale, bias = torch.tensor([float(config.logit_scale)]), torch.tensor([_prior_log_odds(classes)])
        self.logit_scale = nn.Parameter(scale, requires_grad=config.learn_logit_scale)  # (1,), as FSDP shards no scalar
        self.logit_bias = nn.Parameter(bias) if config.loss == "sigmoid" else None
        self.mean = mean
        self.std = std

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Encode images and prompts; returns them with the logit scale and bias, () each.

        These two are outputs, and copies, because several ranks know of a loss only what `forward` returns, and may
        give the parameters back after it. For the same reason the methods are those of the class: `encode_images` of a
        sharded model is a forward pass of its own.
        """
        bias = None if self.logit_bias is None else self.logit_bias.sum()
        texts = DualEncoder.encode_texts(self, tokens, mask)
        return DualEncoder.encode_images(self, images), texts, self.logit_scale.sum(), bias

    def encode_images(self, images: Tensor) -> Tensor:
        """Images (B, channels, H, W) in [0, 1] -> unit vectors (B, D), float32."""
        features = self.image_head(self.image_tower(self.image_tower.normalised(images, self.mean, self.std)))
        return F.normalize(features.float(), dim=-1)

    def encode_texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Token ids and mask (P, L) -> unit vectors (P, D), float32."""
        features = self.text_head(self.text_tower(tokens, mask))
        return F.normalize(features.float(), dim=-1)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the logit scale in [0, ln 100] (CLIP, section 2.5)."""
        self.logit_scale.clamp_(0.0, MAX_LOGIT_SCALE)


def build_dual_encoder(
    config: TrialConfig, *, image_size: int, channels: int, mean: float, std: float, classes: int
) -> DualEncoder:
    """Build and initialise the model of one trial; the same config and seed give the same weights.

    `mean` and `std` are those of the training pixels, in [0, 1], for an image tower that has none of its own. With
    `weight_init=pretrained` each tower that has weights loads them, and what is left (heads, a built-in tower) starts
    as `trunc_normal`. Raises `ConfigError` where no tower has weights to load, or one without any is to keep them.
    """
    pretrained = config.weight_init == "pretrained"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        image_tower = build_image_tower(
            config.image_tower, image_size, channels, pretrained=pretrained, resolution=config.image_resolution
        )
        text_tower = build_text_tower(config.text_tower, pretrained=pretrained)
        if pretrained and not (image_tower.has_weights or text_tower.has_weights):
            raise ConfigError(
                f"weight_init=pretrained must have weights to load, but {config.image_tower} and {config.text_tower} "
                "are built from scratch; name a folder or hub id as tower, or choose another weight_init."
            )
        model = DualEncoder(image_tower, text_tower, config, mean=mean, std=std, classes=classes)
    _initialise(model, "trunc_normal" if pretrained else config.weight_init, config.seed)
    _freeze(model, config)
    return model


def _freeze(model: DualEncoder, config: TrialConfig) -> None:
    towers: dict[str, tuple[Tower, str]] = {
        "image": (model.image_tower, config.image_tower),
        "text": (model.text_tower, config.text_tower),
    }
    for kind, trained_blocks in config.frozen_towers().items():
        tower, name = towers[kind]
        if not tower.has_weights:
            raise ConfigError(
                f"freeze={config.freeze} must name towers whose weights are loaded, but {kind}_tower {name!r} would "
                f"keep random ones; load it by weight_init=pretrained, or leave it out, such as by --set freeze=none."
            )
        tower.freeze(trained_blocks, f"{kind}_tower {name!r}")


def _initialise(model: DualEncoder, scheme: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for tower in (model.image_tower, model.text_tower):
        if not tower.has_weights:
            initialise(tower, scheme, generator)
    for head in (model.image_head, model.text_head):
        initialise(head, scheme, generator)


def _prior_log_odds(classes: int) -> float:
    """Start of the sigmoid loss's bias: the log odds that a random pair matches, ln(1 / (C - 1)).

    SigLIP's -10 (arXiv 2303.15343, section 3.2) is the same for one match among its 32 k texts: -ln 32768 = -10.4.
    """
    return -math.log(max(classes - 1, 1))
