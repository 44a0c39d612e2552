"""A model that tells emotions in faces by words, for plain transformers and torch.

    from transformers import AutoModel
    model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True)

This file lies in the model's folder and needs nothing else. Image and text meet in one space of D dimensions: a face
belongs to the words whose vector lies nearest to its own. Shape letters: B images, P prompts, L tokens, D dimensions.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class GlanceConfig(PreTrainedConfig):
    """Both backbones' configs, and how they are put together."""

    model_type = "glance"

    def __init__(
        self,
        vision_backbone: dict[str, Any] | None = None,
        text_backbone: dict[str, Any] | None = None,
        vision_options: dict[str, Any] | None = None,
        text_options: dict[str, Any] | None = None,
        projection_dim: int = 64,
        head_depth: int = 1,
        image_size: int | None = None,
        interpolate_pos_encoding: bool = False,
        small_image_stem: bool = False,
        **kwargs: Any,
    ) -> None:
        self.vision_backbone = vision_backbone or {"model_type": "vit"}
        self.text_backbone = text_backbone or {"model_type": "bert"}
        self.vision_options = vision_options or {}  # of the backbone's class, such as add_pooling_layer
        self.text_options = text_options or {}
        self.projection_dim = projection_dim
        self.head_depth = head_depth
        self.image_size = image_size  # what images are resized to inside of the model; None leaves them as they are
        self.interpolate_pos_encoding = interpolate_pos_encoding
        self.small_image_stem = small_image_stem
        super().__init__(**kwargs)


@dataclass
class GlanceOutput(ModelOutput):
    """What `GlanceModel` gives; both embeddings have length 1."""

    logits_per_image: Tensor | None = None  # (B, P)
    logits_per_text: Tensor | None = None  # (P, B)
    text_embeds: Tensor | None = None  # (P, D)
    image_embeds: Tensor | None = None  # (B, D)


class GlanceModel(PreTrainedModel):
    """Two backbones, two projection heads, and a logit scale that is kept as its logarithm."""

    config_class = GlanceConfig
    main_input_name = "pixel_values"

    def __init__(self, config: GlanceConfig) -> None:
        super().__init__(config)
        self.vision_model = _backbone(config.vision_backbone, config.vision_options)
        self.text_model = _backbone(config.text_backbone, config.text_options)
        if config.small_image_stem:
            _shrink_stem(self.vision_model)
        self.visual_projection = _head(_width(self.vision_model), config.projection_dim, config.head_depth)
        self.text_projection = _head(_width(self.text_model), config.projection_dim, config.head_depth)
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.post_init()

    def get_image_features(self, pixel_values: Tensor, **_: Any) -> Tensor:
        """Normalised images (B, channels, H, W) -> unit vectors (B, D)."""
        channels = self.vision_model.config.num_channels
        if pixel_values.shape[1] != channels:
            pixel_values = pixel_values.expand(-1, channels, -1, -1)  # a gray image thrice
        size = self.config.image_size
        if size is not None and pixel_values.shape[-1] != size:
            pixel_values = F.interpolate(pixel_values, size=size, mode="bilinear", antialias=True)
        options = {"interpolate_pos_encoding": True} if self.config.interpolate_pos_encoding else {}
        output = self.vision_model(pixel_values, **options)
        pooled = getattr(output, "pooler_output", None)
        features = output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)  # (B, width)
        return F.normalize(self.visual_projection(features), dim=-1)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Tensor:
        """Token ids and mask (P, L) -> unit vectors (P, D), from the mean over the real tokens."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.text_model(input_ids=input_ids, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].to(states.dtype)
        features = (states * weights).sum(dim=1) / weights.sum(dim=1)  # (P, width)
        return F.normalize(self.text_projection(features), dim=-1)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> GlanceOutput | tuple[Any, ...]:
        """Every image with every prompt."""
        images = self.get_image_features(pixel_values)
        texts = self.get_text_features(input_ids, attention_mask)
        logits = self.logit_scale.exp() * images @ texts.T  # (B, P)
        output = GlanceOutput(logits, logits.T, texts, images)
        return output.to_tuple() if return_dict is False else output


def _backbone(config: dict[str, Any], options: dict[str, Any]) -> Any:
    return AutoModel.from_config(AutoConfig.for_model(**config), **options)


def _width(backbone: Any) -> int:
    return int(getattr(backbone.config, "hidden_size", None) or backbone.config.hidden_sizes[-1])


def _head(width: int, dimensions: int, depth: int) -> nn.Sequential:
    hidden = [layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), nn.GELU())]
    return nn.Sequential(*hidden, nn.Linear(width, dimensions, bias=False))


def _shrink_stem(resnet: Any) -> None:
    """One 3x3 convolution of stride 2 in place of ImageNet's 7x7 one and its pooling."""
    stem = resnet.embedder
    old = stem.embedder.convolution
    stem.embedder.convolution = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=2, padding=1, bias=False)
    stem.pooler = nn.Identity()


GlanceConfig.register_for_auto_class()
GlanceModel.register_for_auto_class("AutoModel")
