"""An exported model beside Glance: the same pictures and prompts must give the same logits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainable.data.vocabulary import prompts
from trainable.errors import CheckpointError
from trainable.exports.onnx_files import IMAGE_FILE, TEXT_FILE, run_onnx
from trainable.exports.transformers_folder import load_processor, load_transformers
from trainable.model.loss import similarity_logits
from trainable.training.device_data import image_tensor
from trainable.training.predictor import ZeroShotPredictor

TOLERANCE = 1e-4
"""Largest difference of two logits."""
ROUNDING = 4e-6
"""Share of the largest logit that comes on top: thirty-odd times float32's precision, as logits may reach 100."""
PICTURES = 4


@dataclass(frozen=True)
class Sample:
    """Pictures of noise, and the prompts of the classes that were trained."""

    pictures: np.ndarray
    """(B, S, S) or (B, S, S, 3) uint8."""
    texts: list[str]

    @classmethod
    def of(cls, predictor: ZeroShotPredictor) -> "Sample":
        """Of the size and kind that the model was trained with."""
        shape = (PICTURES, predictor.image_size, predictor.image_size) + ((3,) if predictor.channels == 3 else ())
        pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return cls(pictures, [text for row in prompts(predictor.classes, predictor.config.language) for text in row])

    def images(self) -> Tensor:
        """(B, channels, S, S) in [0, 1]."""
        return image_tensor(self.pictures).float().div(255)


@torch.no_grad()
def glance_logits(predictor: ZeroShotPredictor, sample: Sample) -> Tensor:
    """(B, P): every picture with every prompt."""
    model = predictor.model
    texts = model.encode_texts(*model.text_tower.tokenize(sample.texts))
    return similarity_logits(model.encode_images(sample.images()), texts, model.logit_scale)


@torch.no_grad()
def transformers_logits(predictor: ZeroShotPredictor, folder: Path, sample: Sample, reason: str | None) -> Tensor:
    """The same from a folder of `write_transformers`, by its own processor."""
    processor = load_processor(predictor, folder)
    pictures = [Image.fromarray(picture) for picture in sample.pictures]
    inputs = processor(text=sample.texts, images=pictures, padding=True, truncation=True, return_tensors="pt")
    logits: Tensor = load_transformers(folder, reason)(**inputs).logits_per_image
    return logits


def onnx_logits(predictor: ZeroShotPredictor, folder: Path, sample: Sample) -> Tensor:
    """The same from the files of `write_onnx`, by ONNX Runtime."""
    tokens, mask = predictor.model.text_tower.tokenize(sample.texts)
    texts = run_onnx(folder / TEXT_FILE, {"input_ids": tokens, "attention_mask": mask})
    images = run_onnx(folder / IMAGE_FILE, {"images": sample.images()})
    return images @ texts.T * predictor.model.logit_scale.sum().exp().item()


def require_same(exported: Tensor, original: Tensor, what: str) -> float:
    """The largest difference; raises `CheckpointError` where it exceeds `TOLERANCE`."""
    difference = float((exported - original).abs().max())
    allowed = TOLERANCE + ROUNDING * float(original.abs().max())
    if not difference <= allowed:
        raise CheckpointError(
            f"{what} must give Glance's logits to {allowed:.1g}, but differs by {difference:.2g}; nothing was written."
        )
    return difference
