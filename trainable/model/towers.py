"""Image and text towers: built-in ones by name, any other by local folder or hub id."""

import inspect
from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, ByT5Tokenizer, ResNetConfig, ViTConfig

from trainable.errors import ConfigError
from trainable.model.blocks import freeze, rest_frozen
from trainable.model.pretrained import Preprocessing, load_backbone, tower_folder
from trainable.model.tokenizers import load_tokenizer

Tokenizer = Callable[..., Any]

MAX_TOKENS = 96
"""Longest prompt, in tokens; ByT5's tokens are bytes, and a Hangul syllable has three."""

MOST_UNKNOWN = 0.1
"""Largest share of a set of prompts' tokens that the tokenizer may not know."""


def _resnet(widths: list[int], depths: list[int]) -> Callable[[int, int], nn.Module]:
    def build(image_size: int, channels: int) -> nn.Module:
        config = ResNetConfig(
            num_channels=channels, embedding_size=widths[0], hidden_sizes=widths, depths=depths, layer_type="basic"
        )
        return _with_small_image_stem(AutoModel.from_config(config))

    return build


def _with_small_image_stem(model: nn.Module) -> nn.Module:
    """Replace the ImageNet stem (7x7, then pooling: a quarter of the side) by one 3x3 convolution of stride 2.

    At 48 pixels the original leaves 12x12 positions to the first stage, which loses the mouth.
    """
    stem: Any = model.embedder
    old = stem.embedder.convolution
    stem.embedder.convolution = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=2, padding=1, bias=False)
    stem.pooler = nn.Identity()
    return model


def _vit(width: int, layers: int, heads: int) -> Callable[[int, int], nn.Module]:
    def build(image_size: int, channels: int) -> nn.Module:
        config = ViTConfig(
            image_size=image_size,
            num_channels=channels,
            patch_size=max(1, image_size // 6),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        return AutoModel.from_config(config, add_pooling_layer=False)

    return build


def _bert(width: int, layers: int, heads: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        config = BertConfig(
            vocab_size=len(ByT5Tokenizer()),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=MAX_TOKENS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        return AutoModel.from_config(config, add_pooling_layer=False)

    return build


IMAGE_TOWERS = {
    "resnet-tiny": _resnet([32, 64, 128, 256], [1, 1, 1, 1]),  # 1.2 M parameters
    "resnet-small": _resnet([64, 128, 256, 512], [2, 2, 2, 2]),  # 11 M: ResNet-18 with a small stem
    "vit-tiny": _vit(128, layers=4, heads=4),  # 0.8 M
}
TEXT_TOWERS = {"bert-tiny": _bert(128, layers=2, heads=2)}  # 0.4 M, over the bytes of the prompt


class Tower(nn.Module):
    """A transformers backbone, some of which may keep the weights that it was loaded with."""

    def __init__(self, backbone: nn.Module, *, has_weights: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.has_weights = has_weights
        self._is_frozen = False

    def freeze(self, trained_blocks: int, name: str) -> None:
        """Keep all weights, or those below the last blocks, without gradient or dropout: see `blocks.freeze`."""
        freeze(self.backbone, trained_blocks, name)
        self._is_frozen = True

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation, in which what is frozen stays."""
        super().train(mode)
        if self._is_frozen:
            rest_frozen(self.backbone)
        return self


class ImageTower(Tower):
    """A transformers image backbone: normalised images (B, channels, H, W) -> features (B, width).

    A backbone that wants three channels gets gray images thrice. One that was made for a size gets images resized to
    it, unless it is to run at theirs.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        has_weights: bool,
        preprocessing: Preprocessing | None = None,
        resizes: bool = True,
    ) -> None:
        super().__init__(backbone, has_weights=has_weights)
        self.preprocessing = preprocessing or Preprocessing()
        config: Any = backbone.config
        self.width = int(getattr(config, "hidden_size", None) or config.hidden_sizes[-1])
        self.channels = int(config.num_channels)
        made_for: int | None = getattr(config, "image_size", None)
        self.image_size = (made_for or self.preprocessing.size) if resizes else None
        self.interpolates = not resizes and "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters
        for name in ("mean", "std"):
            values = getattr(self.preprocessing, name)
            self.register_buffer(
                name, None if values is None else torch.tensor(values)[:, None, None], persistent=False
            )

    def normalised(self, images: Tensor, mean: float, std: float) -> Tensor:
        """Images in [0, 1] by the tower's own mean and deviation of each channel, else by those given."""
        if self.mean is None:
            return (images - mean) / std
        return (images - self.mean) / self.std  # type: ignore[operator]

    def forward(self, images: Tensor) -> Tensor:
        """Features before projection: the pooled output of a convolutional backbone, the class token of a ViT."""
        if images.shape[1] != self.channels:
            images = images.expand(-1, self.channels, -1, -1)
        if self.image_size is not None and images.shape[-1] != self.image_size:
            images = F.interpolate(images, size=self.image_size, mode="bilinear", antialias=True)
        options = {"interpolate_pos_encoding": True} if self.interpolates else {}
        output: Any = self.backbone(images, **options)
        if hasattr(output, "pooler_output") and output.pooler_output is not None:
            pooled: Tensor = output.pooler_output
            return pooled.flatten(1)  # (B, width)
        tokens: Tensor = output.last_hidden_state
        return tokens[:, 0]  # (B, width)


class TextTower(Tower):
    """A transformers text backbone: token ids and mask (P, L) -> features (P, width), the mean over real tokens."""

    def __init__(self, backbone: nn.Module, tokenizer: Tokenizer, *, has_weights: bool) -> None:
        super().__init__(backbone, has_weights=has_weights)
        self.tokenizer = tokenizer
        config: Any = backbone.config
        self.width = int(config.hidden_size)
        self.max_tokens = min(MAX_TOKENS, getattr(config, "max_position_embeddings", MAX_TOKENS))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Masked mean of the last hidden states."""
        output: Any = self.backbone(input_ids=tokens, attention_mask=mask)
        states: Tensor = output.last_hidden_state  # (P, L, width)
        weights = mask[:, :, None].to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)  # (P, width)

    def tokenize(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask (P, L).

        Raises `ConfigError` where distinct prompts get the same ids, or where many tokens are unknown.
        """
        encoded = self.tokenizer(
            prompts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        tokens: Tensor = encoded["input_ids"]
        distinct = len({tuple(row) for row in tokens.tolist()})
        if distinct < len(set(prompts)):
            raise ConfigError(
                f"distinct prompts must get distinct token ids, but {len(set(prompts))} prompts gave {distinct}; "
                "the tokenizer does not fit the text tower's vocabulary: check the tower's folder or hub id."
            )
        self._require_known(tokens, encoded["attention_mask"])
        return tokens, encoded["attention_mask"]

    def _require_known(self, tokens: Tensor, mask: Tensor) -> None:
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        if unknown is None:
            return
        share = ((tokens == unknown) & mask.bool()).sum().item() / int(mask.sum())
        if share > MOST_UNKNOWN:
            raise ConfigError(
                f"at most {MOST_UNKNOWN:.0%} of the prompts' tokens may be unknown to the tokenizer, but {share:.0%} "
                "are; it is of another language than the prompts, or was not loaded from its own files: choose another "
                "language, or check the tower's folder or hub id."
            )


def build_image_tower(
    name: str, image_size: int, channels: int, *, pretrained: bool, resolution: str = "tower"
) -> ImageTower:
    """An image tower by built-in name, local folder or hub id, with its weights loaded where asked for.

    One from a folder or the hub takes images of its own size, or with the `resolution` `data` those of `image_size`.
    Raises `ConfigError` for a name that is none of these, and for a tower that cannot take that size.
    """
    if name in IMAGE_TOWERS:
        return ImageTower(IMAGE_TOWERS[name](image_size, channels), has_weights=False)
    folder = tower_folder(name, "image_tower", IMAGE_TOWERS)
    backbone = load_backbone(folder, name, "image_tower", IMAGE_TOWERS, pretrained=pretrained)
    resizes, preprocessing = resolution == "tower", Preprocessing.read(folder)
    tower = ImageTower(backbone, has_weights=pretrained, preprocessing=preprocessing, resizes=resizes)
    if not resizes:
        _require_size(tower, image_size, name)
    return tower


@torch.no_grad()
def _require_size(tower: ImageTower, image_size: int, name: str) -> None:
    try:
        tower.eval()(torch.zeros(1, tower.channels, image_size, image_size))
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"image_resolution=data must go with a tower that takes images of {image_size} pixels, but image_tower "
            f"{name!r} does not ({str(error).strip().splitlines()[0]}); use image_resolution=tower."
        ) from error
    finally:
        tower.train()


def build_text_tower(name: str, *, pretrained: bool) -> TextTower:
    """A text tower by built-in name (byte tokens), local folder or hub id. Raises `ConfigError` as the image tower."""
    if name in TEXT_TOWERS:
        return TextTower(TEXT_TOWERS[name](), ByT5Tokenizer(), has_weights=False)
    folder = tower_folder(name, "text_tower", TEXT_TOWERS)
    backbone: Any = load_backbone(folder, name, "text_tower", TEXT_TOWERS, pretrained=pretrained)
    try:
        tokenizer: Any = load_tokenizer(folder, backbone.config.model_type)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"text_tower {name!r} must have a tokenizer in its folder, but none loads: {reason}"
        ) from error
    if len(tokenizer) > backbone.config.vocab_size:
        raise ConfigError(
            f"a tokenizer must fit its text tower's vocabulary of {backbone.config.vocab_size}, but that of {name!r} "
            f"has {len(tokenizer)} tokens; check the files in its folder."
        )
    return TextTower(backbone, tokenizer, has_weights=pretrained)
