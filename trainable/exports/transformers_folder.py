"""A trained model as a folder that plain transformers loads.

Where towers and heads allow it, this is a `VisionTextDualEncoderModel`; else `modeling_glance.py`, which lies in the
folder. Both are exact: what would only come near is not written.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
)

from trainable.exports.averaging_layer import (
    averaging_weights,
    direct_pooler,
    leading_projection,
    with_averaging_layer,
)
from trainable.exports.modeling_glance import GlanceConfig, GlanceModel
from trainable.model.dual_encoder import DualEncoder
from trainable.model.towers import IMAGE_TOWERS
from trainable.training.predictor import ZeroShotPredictor

BERTS = ("bert", "roberta", "xlm-roberta", "camembert")
"""Text backbones of BERT's layers, on which one more can be put."""
PARTS = {
    "image_tower.backbone.": "vision_model.",
    "text_tower.backbone.": "text_model.",
    "image_head.": "visual_projection.",
    "text_head.": "text_projection.",
}
"""Glance's names of weights -> those of transformers' dual encoder."""


def write_transformers(predictor: ZeroShotPredictor, folder: Path) -> str | None:
    """Write the model, its processor and its tokenizer; returns why it is no `VisionTextDualEncoderModel`, if so."""
    reason = unlike_dual_encoder(predictor)
    model = glance_model(predictor) if reason else dual_encoder(predictor)
    model.eval().save_pretrained(folder)
    image_processor = image_processor_of(predictor)
    VisionTextDualEncoderProcessor(image_processor, write_tokenizer(predictor, folder)).save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return reason


def write_tokenizer(predictor: ZeroShotPredictor, folder: Path) -> Any:
    """Write the tokenizer, which knows how long a prompt may be, and return it."""
    tokenizer: Any = predictor.model.text_tower.tokenizer
    tokenizer.model_max_length = predictor.model.text_tower.max_tokens
    tokenizer.save_pretrained(folder)
    return tokenizer


def load_transformers(folder: Path, reason: str | None) -> Any:
    """The model that `write_transformers` wrote, in evaluation."""
    model = GlanceModel if reason else VisionTextDualEncoderModel
    return model.from_pretrained(folder).eval()


def load_processor(predictor: ZeroShotPredictor, folder: Path) -> Any:
    """The processor that `write_transformers` wrote, part by part.

    In one piece transformers would ask whether it may run the folder's module, though a tokenizer needs none of it.
    """
    tokenizer: Any = predictor.model.text_tower.tokenizer
    image_processor = CLIPImageProcessorPil.from_pretrained(folder)
    return VisionTextDualEncoderProcessor(image_processor, type(tokenizer).from_pretrained(folder))


def unlike_dual_encoder(predictor: ZeroShotPredictor) -> str | None:
    """Why `VisionTextDualEncoderModel` cannot be this model; None where it can."""
    model, config = predictor.model, predictor.config
    vision, text = _config(model.image_tower), _config(model.text_tower)
    if config.head_depth > 1:
        return f"its projection heads have {config.head_depth} layers, and must have one"
    if vision["model_type"] not in ("vit", "clip_vision_model"):
        return f"its image tower is a {vision['model_type']}, and must be a vit or clip_vision_model"
    if model.image_tower.image_size != predictor.image_size:
        return f"its image tower resizes or interpolates images of {predictor.image_size} pixels"
    if text["model_type"] not in BERTS:
        return f"its text tower is a {text['model_type']}, and must be one of {', '.join(BERTS)}"
    if config.embedding_dim >= model.text_tower.width:
        return f"its embedding dim is {config.embedding_dim}, and must be below the text tower's width"
    return None


def glance_model(predictor: ZeroShotPredictor) -> GlanceModel:
    """The model as `modeling_glance.py` has it."""
    model, config = predictor.model, predictor.config
    vision, text = _config(model.image_tower), _config(model.text_tower)
    built = GlanceModel(
        GlanceConfig(
            vision_backbone=vision,
            text_backbone=text,
            vision_options=_options(model.image_tower.backbone),
            text_options=_options(model.text_tower.backbone),
            projection_dim=config.embedding_dim,
            head_depth=config.head_depth,
            image_size=model.image_tower.image_size,
            interpolate_pos_encoding=model.image_tower.interpolates,
            small_image_stem=config.image_tower in IMAGE_TOWERS and vision["model_type"] == "resnet",
        )
    )
    built.load_state_dict(_renamed(model))
    return built


def dual_encoder(predictor: ZeroShotPredictor) -> Any:
    """The model as transformers' own class: see `averaging_layer` for the text, of a ViT the pooler is the identity."""
    model, config = predictor.model, predictor.config
    vision, text = _config(model.image_tower), _config(model.text_tower)
    if vision["model_type"] == "vit":
        vision |= {"pooler_act": "linear", "pooler_output_size": vision["hidden_size"]}
    built = VisionTextDualEncoderModel(
        VisionTextDualEncoderConfig(
            vision_config=vision,
            text_config=with_averaging_layer(text),
            projection_dim=config.embedding_dim,
            logit_scale_init_value=model.logit_scale.sum().item(),
        )
    )
    weights = _renamed(model)
    projection = weights.pop("text_projection.0.weight")
    weights |= {"visual_projection.weight": weights.pop("visual_projection.0.weight")}
    weights |= {"text_projection.weight": leading_projection(model.text_tower.width, config.embedding_dim)}
    prefix = f"text_model.encoder.layer.{text['num_hidden_layers']}."
    weights |= averaging_weights(prefix, built.state_dict(), projection)
    weights |= {f"text_model.{name}": value for name, value in direct_pooler(model.text_tower.width).items()}
    if vision["model_type"] == "vit":
        width = vision["hidden_size"]
        weights |= {"vision_model.pooler.dense.weight": torch.eye(width)}
        weights |= {"vision_model.pooler.dense.bias": torch.zeros(width)}
    built.load_state_dict(weights)
    return built


def image_processor_of(predictor: ZeroShotPredictor) -> Any:
    """Of pictures in the data's mode, "L" or "RGB": the middle square at the data's size, then mean and deviation."""
    mean, std = pixel_statistics(predictor.model)
    side = predictor.image_size
    return CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        resample=1,  # Lanczos
        image_mean=mean,
        image_std=std,
        do_convert_rgb=predictor.model.image_tower.channels == 3,
    )


def pixel_statistics(model: DualEncoder) -> tuple[list[float], list[float]]:
    """Mean and deviation of each of the tower's channels, in [0, 1]: its own, else those of the training data."""
    own = model.image_tower.preprocessing
    if own.mean is None or own.std is None:
        return [model.mean] * model.image_tower.channels, [model.std] * model.image_tower.channels
    return list(own.mean), list(own.std)


def _config(tower: Any) -> dict[str, Any]:
    document: dict[str, Any] = tower.backbone.config.to_dict()
    return document


def _options(backbone: Any) -> dict[str, bool]:
    """That no pooler is built where the backbone has none."""
    takes = "add_pooling_layer" in inspect.signature(type(backbone).__init__).parameters
    return {"add_pooling_layer": False} if takes else {}


def _renamed(model: DualEncoder) -> dict[str, Tensor]:
    """The weights by transformers' names; the sigmoid loss's bias is left away, for it changes no label's rank."""
    weights = {"logit_scale": model.logit_scale.detach().sum()}
    for name, value in model.state_dict().items():
        for ours, theirs in PARTS.items():
            if name.startswith(ours):
                weights[theirs + name.removeprefix(ours)] = value
    return weights
