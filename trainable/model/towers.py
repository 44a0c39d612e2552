"""Image and text towers: built-in ones by name, any other by local folder or hub id."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, ByT5Tokenizer, ResNetConfig, ViTConfig

from trainable.errors import ConfigError

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

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


class ImageTower(nn.Module):
    """A transformers image backbone: normalised images (B, channels, H, W) -> features (B, width).

    A backbone that wants three channels gets gray images thrice, and one of a fixed size gets them resized.
    """

    def __init__(self, backbone: nn.Module, *, has_weights: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.has_weights = has_weights
        config: Any = backbone.config
        self.width = int(getattr(config, "hidden_size", None) or config.hidden_sizes[-1])
        self.channels = int(config.num_channels)
        self.image_size: int | None = getattr(config, "image_size", None)

    def forward(self, images: Tensor) -> Tensor:
        """Features before projection: the pooled output of a convolutional backbone, the class token of a ViT."""
        if images.shape[1] != self.channels:
            images = images.expand(-1, self.channels, -1, -1)
        if self.image_size is not None and images.shape[-1] != self.image_size:
            images = F.interpolate(images, size=self.image_size, mode="bilinear", antialias=True)
        output: Any = self.backbone(images)
        if hasattr(output, "pooler_output") and output.pooler_output is not None:
            pooled: Tensor = output.pooler_output
            return pooled.flatten(1)  # (B, width)
        tokens: Tensor = output.last_hidden_state
        return tokens[:, 0]  # (B, width)


class TextTower(nn.Module):
    """A transformers text backbone: token ids and mask (P, L) -> features (P, width), the mean over real tokens."""

    def __init__(self, backbone: nn.Module, tokenizer: Tokenizer, *, has_weights: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.has_weights = has_weights
        config: Any = backbone.config
        self.width = int(config.hidden_size)

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
        encoded = self.tokenizer(prompts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
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


def build_image_tower(name: str, image_size: int, channels: int, *, pretrained: bool) -> ImageTower:
    """An image tower by built-in name, local folder or hub id, with its weights loaded where asked for.

    Raises `ConfigError` for a name that is none of these.
    """
    if name in IMAGE_TOWERS:
        return ImageTower(IMAGE_TOWERS[name](image_size, channels), has_weights=False)
    return ImageTower(_load_backbone(name, "image_tower", IMAGE_TOWERS, pretrained), has_weights=pretrained)


def build_text_tower(name: str, *, pretrained: bool) -> TextTower:
    """A text tower by built-in name (byte tokens), local folder or hub id. Raises `ConfigError` as the image tower."""
    if name in TEXT_TOWERS:
        return TextTower(TEXT_TOWERS[name](), ByT5Tokenizer(), has_weights=False)
    backbone = _load_backbone(name, "text_tower", TEXT_TOWERS, pretrained)
    return TextTower(
        backbone, _from_files(AutoTokenizer.from_pretrained, name, "text_tower", TEXT_TOWERS), has_weights=pretrained
    )


def _load_backbone(name: str, field: str, known: dict[str, Any], pretrained: bool) -> nn.Module:
    if pretrained:
        backbone: nn.Module = _from_files(_load_single_precision, name, field, known)
        return backbone
    config = _from_files(AutoConfig.from_pretrained, name, field, known)
    return AutoModel.from_config(config, dtype=torch.float32)


def _load_single_precision(name: str) -> nn.Module:
    """A backbone as float32, whatever its files hold: autocast and the optimizer start from there."""
    backbone: nn.Module = AutoModel.from_pretrained(name, dtype=torch.float32)
    return backbone


def _from_files(load: Callable[[str], Any], name: str, field: str, known: dict[str, Any]) -> Any:
    try:
        return load(name)
    except (OSError, ValueError) as error:
        kind = "folder" if Path(name).is_dir() else "hub id"
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"{field} must be {', '.join(known)}, a local folder written by save_pretrained or a hub id that can be "
            f"reached, but the {kind} {name!r} did not load: {reason}"
        ) from error
