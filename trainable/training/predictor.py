"""A trained model on disk, and zero-shot prediction with it.

model.safetensors    weights, and in its header the epoch
config.json          the trial's config
model.json           classes, those kept unseen, image size, channels, pixel statistics
image_tower/, text_tower/    a tower's own config and tokenizer, where it is not built in
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainable.config import TrialConfig, load_config
from trainable.data.unseen import UnseenClasses, parts_of
from trainable.data.vocabulary import prompts
from trainable.errors import CheckpointError, ConfigError
from trainable.files import write_atomically, write_json
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.model.towers import IMAGE_TOWERS, TEXT_TOWERS
from trainable.training.device_data import DeviceData, image_tensor
from trainable.training.parallel import whole_tensors
from trainable.training.ranks import ONE_RANK, Ranks
from trainable.training.zero_shot import (
    EVALUATION_BATCH,
    Outcomes,
    PromptTokens,
    Watch,
    class_logits,
    prompt_vectors,
    tell_images,
    zero_shot_classifier,
)


def save_model(
    folder: Path, model: DualEncoder, config: TrialConfig, data: DeviceData, *, epoch: int, ranks: Ranks = ONE_RANK
) -> None:
    """Write a model that `ZeroShotPredictor.load` reads without the data set, a hub or a network.

    All ranks must call it, and the first one writes. Written over an older one of the same trial each file is replaced
    whole, and the weights, the only file that differs between epochs, carry their epoch: see `saved_epoch`.
    """
    weights = whole_tensors(model.state_dict(), ranks)
    if ranks.rank > 0:
        return
    if config.image_tower not in IMAGE_TOWERS:
        model.image_tower.backbone.config.save_pretrained(folder / "image_tower")  # type: ignore[operator, union-attr]
        model.image_tower.preprocessing.write(folder / "image_tower")
    if config.text_tower not in TEXT_TOWERS:
        model.text_tower.backbone.config.save_pretrained(folder / "text_tower")  # type: ignore[operator, union-attr]
        model.text_tower.tokenizer.save_pretrained(folder / "text_tower")  # type: ignore[attr-defined]
    write_atomically(folder / "model.safetensors", lambda path: save_file(weights, path, {"epoch": str(epoch)}))
    write_json(folder / "config.json", config.to_dict())
    write_json(folder / "model.json", _description(model, data))


def saved_epoch(folder: Path) -> int:
    """The epoch after which `save_model` wrote the weights in `folder`. Raises `CheckpointError`."""
    path = folder / "model.safetensors"
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return int(file.metadata()["epoch"])
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"a model's weights must name its epoch, but {path} does not: {error}") from error


def _description(model: DualEncoder, data: DeviceData) -> dict[str, Any]:
    return {
        "classes": list(data.classes),
        "unseen": data.unseen.to_dict(),
        "image_size": data.image_size,
        "channels": data.channels,
        "mean": model.mean,
        "std": model.std,
        "dataset": data.store.manifest.dataset,
        "content_hash": data.store.manifest.content_hash,
    }


class ZeroShotPredictor:
    """Matches pictures with any words."""

    def __init__(
        self, model: DualEncoder, config: TrialConfig, description: dict[str, Any], device: torch.device
    ) -> None:
        self.model = model.to(device).eval()
        self.config = config
        self.classes: tuple[str, ...] = tuple(description["classes"])
        self.unseen = UnseenClasses.from_dict(description.get("unseen"))
        self.image_size = int(description["image_size"])
        self.channels = int(description["channels"])
        self.dataset = str(description.get("dataset", "a data set of its own"))
        self.device = device

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Read what `save_model` wrote. Raises `CheckpointError` naming the file that is missing or wrong."""
        try:
            config = load_config(folder / "config.json")[0]
            description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            model = build_dual_encoder(
                _local(config, folder),
                image_size=description["image_size"],
                channels=description["channels"],
                mean=description["mean"],
                std=description["std"],
                classes=len(description["classes"]),
            )
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RuntimeError,
            safetensors.SafetensorError,
            ConfigError,
        ) as error:
            raise CheckpointError(
                f"a model folder must hold model.safetensors, config.json and model.json as a search writes them to "
                f"best/, but {folder} does not load: {f'{error} is missing' if isinstance(error, KeyError) else error}"
            ) from error
        return cls(model, config, description, device or torch.device("cpu"))

    @torch.no_grad()
    def classifier(self, labels: Sequence[str], language: str | None = None) -> Tensor:
        """One unit vector per label (C, D), the mean over its prompts; the language defaults to the training's."""
        rows = prompts(labels, language or self.config.language)
        return zero_shot_classifier(self.model, PromptTokens.of(self.model, rows, self.device))

    @torch.no_grad()
    def prompt_vectors(self, labels: Sequence[str]) -> tuple[list[list[str]], Tensor]:
        """The prompts of each label, [C][P], in the training's language, and one unit vector each (C, P, D)."""
        rows = prompts(labels, self.config.language)
        return rows, prompt_vectors(self.model, PromptTokens.of(self.model, rows, self.device))

    def tell(self, data: DeviceData, split: str, group: tuple[str, ...], watch: Watch | None = None) -> Outcomes:
        """How the images of a split were told, of the trained classes and of a group of unseen ones."""
        candidates, seen = (*data.classes, *group), len(data.classes)
        classifier, parts = self.classifier(candidates), parts_of(candidates, data.classes)
        images = data.split(split, group)
        return tell_images(self.model, images, classifier, seen=seen, parts=parts, watch=watch)

    @torch.no_grad()
    def predict(self, images: np.ndarray, labels: Sequence[str], language: str | None = None) -> np.ndarray:
        """Probabilities (N, C) of uint8 images (N, H, W) or (N, H, W, 3) over any labels."""
        classifier = self.classifier(labels, language)
        rows = []
        for part in image_tensor(images).split(EVALUATION_BATCH):
            features = self.model.encode_images(part.to(self.device).float().div_(255))
            rows.append(class_logits(features, classifier, self.model.logit_scale).softmax(dim=1))
        return torch.cat(rows).cpu().numpy()


def _local(config: TrialConfig, folder: Path) -> TrialConfig:
    """The config with its outside towers read from `folder` and no weights fetched: they come from the file."""
    image = config.image_tower if config.image_tower in IMAGE_TOWERS else str(folder / "image_tower")
    text = config.text_tower if config.text_tower in TEXT_TOWERS else str(folder / "text_tower")
    return replace(config, image_tower=image, text_tower=text, weight_init="trunc_normal", freeze="none")
