"""Backbones from a local folder or the Hugging Face hub, with the preprocessing that they were trained with."""

import functools
import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import transformers
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.utils.tqdm import disable_progress_bars
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel

from trainable.errors import ConfigError
from trainable.files import user_path, write_json

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
disable_progress_bars()

HUB_SECONDS = 5
"""How long the hub may take to answer whether it has a tower."""
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
PICKLED_WEIGHTS = "pytorch_model*.bin"
"""What is fetched where a repository has no safetensors; transformers reads tensors alone from it."""
PREPROCESSING_NAME = "preprocessor_config.json"


@dataclass(frozen=True)
class Preprocessing:
    """What an image tower wants of its images; None where its folder does not say."""

    size: int | None = None
    """Side of the square images, in pixels."""
    mean: tuple[float, ...] | None = None
    """Of each channel, in [0, 1]."""
    std: tuple[float, ...] | None = None
    """Deviation of each channel, in [0, 1]."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From `preprocessor_config.json` as image processors of transformers write it.

        Of one that resizes and then crops, the crop's size is taken, so that a face is not cut. Raises `ConfigError`
        that names the file where it cannot be read.
        """
        file = folder / PREPROCESSING_NAME
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            mean, std = (document.get(name) for name in ("image_mean", "image_std"))
            size = document.get("crop_size") if document.get("do_center_crop") else document.get("size")
            normalised = document.get("do_normalize", True) and mean and std
            return cls(_side(size), *((tuple(map(float, mean)), tuple(map(float, std))) if normalised else ()))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{file} must hold an image processor's settings, but: {error}.") from error

    def write(self, folder: Path) -> None:
        """As `read` reads it; nothing where nothing is known."""
        if self != Preprocessing():
            size = self.size and {"height": self.size, "width": self.size}
            write_json(folder / PREPROCESSING_NAME, {"size": size, "image_mean": self.mean, "image_std": self.std})


def _side(size: Any) -> int | None:
    """224 of 224, {"height": 224, "width": 224} or {"shortest_edge": 224}."""
    if isinstance(size, dict):
        size = next((size[key] for key in ("height", "shortest_edge", "longest_edge") if size.get(key)), None)
    return None if size is None else int(size)


def tower_folder(name: str, field: str, known: Iterable[str]) -> Path:
    """The folder of a tower, downloaded where `name` is a hub id.

    Raises `ConfigError` where it is neither a folder nor a hub id that is at hand or can be reached.
    """
    path = user_path(name)
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith(("./", "../", "~")):
        raise _not_loaded(name, field, known, "there is no such folder")
    try:
        return _downloaded(name)
    except Exception as error:  # of the hub's client, of the library below it, of the system
        without = f"Without a network, fetch it elsewhere (`hf download {name} --local-dir FOLDER`) and name the folder"
        raise _not_loaded(name, field, known, f"{_first_line(error)}. {without}") from error


@functools.cache
def _downloaded(name: str) -> Path:
    """A hub repository's files on this disk: the newest where the hub answers, else those of an earlier time.

    The hub is asked once, with a time limit, before anything is fetched: the libraries above it try again for half a
    minute where there is no network.
    """
    if constants.is_offline_mode():
        return Path(snapshot_download(name, local_files_only=True))
    try:
        files = [file.rfilename for file in HfApi().model_info(name, timeout=HUB_SECONDS).siblings or ()]
    except Exception:
        try:
            return Path(snapshot_download(name, local_files_only=True))
        except OSError:
            pass
        raise
    pickled = [] if any(file.endswith(".safetensors") for file in files) else [PICKLED_WEIGHTS]
    return Path(snapshot_download(name, allow_patterns=[*FILES, *pickled]))


def load_backbone(folder: Path, name: str, field: str, known: Iterable[str], *, pretrained: bool) -> nn.Module:
    """The backbone in a folder, as float32 whatever its files hold: autocast and the optimizer start from there.

    Of a model with two towers, such as CLIP, it is the one that `field` names. A pooler that an architecture has on top
    is left away: many checkpoints hold none, or one of another task. Raises `ConfigError`, also where the files lack
    weights, which transformers would draw at random.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
        part = {"image_tower": "vision_config", "text_tower": "text_config"}[field]
        config = getattr(config, part, None) or config
        settings = {"dtype": torch.float32, **_without_pooler(config)}
        if not pretrained:
            built: nn.Module = AutoModel.from_config(config, **settings)
            return built
        model, loaded = AutoModel.from_pretrained(folder, config=config, output_loading_info=True, **settings)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise _not_loaded(name, field, known, _first_line(error)) from error
    if missing := sorted(loaded["missing_keys"]):
        raise _not_loaded(
            name, field, known, f"its weights lack {len(missing)} of {type(model).__name__}: {missing[0]}"
        )
    backbone: nn.Module = model
    return backbone


def _without_pooler(config: Any) -> dict[str, bool]:
    model = MODEL_MAPPING.get(type(config), None)
    has_pooler = inspect.isclass(model) and "add_pooling_layer" in inspect.signature(model.__init__).parameters
    return {"add_pooling_layer": False} if has_pooler else {}


def _not_loaded(name: str, field: str, known: Iterable[str], reason: str) -> ConfigError:
    kind = "folder" if user_path(name).is_dir() else "folder or hub id"
    return ConfigError(
        f"{field} must be {', '.join(known)}, a local folder written by save_pretrained or a hub id that can be "
        f"reached, but the {kind} {name!r} did not load: {reason}"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
