"""A trained model as two ONNX files, one for each tower with its head.

    image.onnx    images, float32 (B, channels, S, S) in [0, 1]             -> features, unit vectors (B, D)
    text.onnx     input_ids and attention_mask, int64 (P, L)                -> features, unit vectors (P, D)

The factor of the similarities stands in the metadata of both as `logit_scale`, beside `image_size` (S), `channels` and
`max_tokens` (the largest L).
"""

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from trainable.errors import ConfigError
from trainable.model.dual_encoder import DualEncoder
from trainable.training.predictor import ZeroShotPredictor

IMAGE_FILE, TEXT_FILE = "image.onnx", "text.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Raises `ConfigError` where a package is missing that writes or runs ONNX files."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"an export to ONNX must have {', '.join(PACKAGES)} installed, but {', '.join(missing)} cannot be found; "
            'install them by `pip install -c constraints.txt -e ".[export]"`, or use --format transformers.'
        )


def write_onnx(predictor: ZeroShotPredictor, folder: Path) -> None:
    """Write both files; batch and length of the prompts stay free."""
    model, side = predictor.model, predictor.image_size
    batch, length = Dim("batch"), Dim("length", max=model.text_tower.max_tokens)
    images = torch.rand(2, predictor.channels, side, side)
    _export(predictor, _ImageEncoder(model), {"images": images}, {"images": {0: batch}}, folder / IMAGE_FILE)
    tokens, mask = model.text_tower.tokenize(["happy", "a photo of a face that looks sad"])
    names = ("input_ids", "attention_mask")
    shapes = {name: {0: batch, 1: length} for name in names}
    _export(predictor, _TextEncoder(model), dict(zip(names, (tokens, mask), strict=True)), shapes, folder / TEXT_FILE)


def run_onnx(file: Path, inputs: dict[str, Tensor]) -> Tensor:
    """The features that ONNX Runtime gives for the inputs by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    features: np.ndarray = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    return torch.from_numpy(features)


class _ImageEncoder(nn.Module):
    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_images(images)


class _TextEncoder(nn.Module):
    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model.encode_texts(input_ids, attention_mask)


def _export(
    predictor: ZeroShotPredictor,
    encoder: nn.Module,
    inputs: dict[str, Tensor],
    shapes: dict[str, dict[int, Dim]],
    file: Path,
) -> None:
    with _quiet():
        program = torch.onnx.export(
            encoder.eval(),
            kwargs=inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            output_names=["features"],
            verbose=False,
        )
        assert program is not None  # as always with dynamo
        program.model.metadata_props.update(_metadata(predictor))
        program.save(file)


def _metadata(predictor: ZeroShotPredictor) -> dict[str, str]:
    return {
        "logit_scale": repr(predictor.model.logit_scale.sum().exp().item()),
        "image_size": str(predictor.image_size),
        "channels": str(predictor.channels),
        "max_tokens": str(predictor.model.text_tower.max_tokens),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of libraries that are not installed, and of axes that share a name."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
