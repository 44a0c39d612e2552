"""The config of one trial: typed, validated, frozen; a plain dict across process boundaries."""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from trainable.errors import ConfigError, nearest, require, require_one_of

MAX_LOGIT_SCALE = math.log(100.0)
"""Clamp of the logit scale in log space (CLIP, arXiv 2103.00020, section 2.5)."""

WEIGHT_INITS = ("pretrained", "trunc_normal", "xavier", "kaiming", "orthogonal")
LOSSES = ("multipositive", "clip", "sigmoid")
FROZEN = ("none", "image", "text", "both")
IMAGE_RESOLUTIONS = ("tower", "data")
LANGUAGES = ("en", "ko", "both")
PRECISIONS = ("auto", "float32", "bf16")
PARALLELISMS = ("ddp", "fsdp")


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One draw from a search space, with every field that training depends on.

    Raises `ConfigError` on construction when a value is out of its domain.
    """

    learning_rate: float = 2e-3
    """Peak of the schedule, reached after the warm-up."""
    text_learning_rate_factor: float = 0.1
    """The text tower's learning rate, as a share of `learning_rate`: a rate that suits a small ResNet from scratch is
    too high for a transformer from scratch, whose prompts then draw together and come apart late."""
    image_learning_rate_factor: float = 1.0
    """The image tower's learning rate, as a share of `learning_rate`, which is that of heads and logit scale."""
    layer_decay: float = 1.0
    """Share of the learning rate of one block of a tower that the block below it has; 1 is the same rate for all."""
    freeze: str = "none"
    """Which towers keep the weights that they were loaded with: `none`, `image`, `text` or `both`; `both:2` trains the
    last 2 blocks of each and what follows them."""
    logit_scale: float = math.log(1 / 0.07)
    """Start of the logit scale, in log space; at most ln 100."""
    embedding_dim: int = 64
    """Width D of the shared embedding."""
    weight_init: str = "kaiming"
    """How towers and heads start: one of `WEIGHT_INITS`."""

    image_tower: str = "resnet-tiny"
    """A built-in name, a local folder or a hub id."""
    text_tower: str = "bert-tiny"
    """A built-in name, a local folder or a hub id."""
    image_resolution: str = "tower"
    """Whether images are resized to the size that an image tower from a folder or the hub was made for (`tower`), or it
    runs at that of the `data`, a ViT with its position embeddings interpolated."""
    head_depth: int = 1
    """Layers of each projection head, 1 to 3."""
    loss: str = "multipositive"
    """One of `LOSSES`."""
    soft_targets: bool = False
    """Whether an image belongs to all classes that people voted for, by their shares, instead of to the likeliest; the
    data set must have votes."""
    mixing: float = 0.0
    """Share of a batch's images that are the mean of two, and belong to the classes of both: meant to teach a model to
    see several emotions in one face, as in the unseen compound ones."""
    learn_logit_scale: bool = True
    """Whether the logit scale is trained or stays at its start."""
    language: str = "en"
    """Language of the prompts: one of `LANGUAGES`."""

    batch_size: int = 64
    """Images per optimiser step, over all workers of the trial."""
    accumulation: int = 1
    """Micro-batches into which each worker cuts its share of a batch, so that a large one fits into a small device."""
    max_epochs: int = 8
    """Length of the schedule; a scheduler may end the trial before."""
    epoch_samples: int = 0
    """Images per epoch; 0 means as many as the training split has."""
    warmup_fraction: float = 0.1
    """Share of all steps over which the learning rate rises linearly."""
    weight_decay: float = 0.05
    """AdamW's decay; biases, norms and the logit scale have none."""
    gradient_clip: float = 1.0
    """Largest global gradient norm; 0 switches clipping off."""
    augmentation: float = 0.2
    """Strength of the image augmentation, 0 (none) to 1."""
    precision: str = "auto"
    """`auto` is bf16 autocast where the device has it, float32 elsewhere."""
    activation_checkpointing: bool = False
    """Whether the towers' activations are computed again in the backward pass instead of kept: less memory, slower."""
    compile: bool = False
    """Whether the towers are compiled; the next trial of the same shape in a slot reuses the code."""
    parallelism: str = "ddp"
    """How the workers of a trial share the model: `ddp` copies it to each, `fsdp` shards it over them."""
    seed: int = 0
    """Seeds weights, batches, templates and augmentation; 32 bits."""

    def __post_init__(self) -> None:
        """Check every field against its domain."""
        for field in dataclasses.fields(self):
            _check_type(field.name, field.type, getattr(self, field.name))
        require(self.learning_rate > 0, "learning_rate > 0", self.learning_rate)
        require(self.text_learning_rate_factor >= 0, "text_learning_rate_factor >= 0", self.text_learning_rate_factor)
        require(
            self.image_learning_rate_factor >= 0, "image_learning_rate_factor >= 0", self.image_learning_rate_factor
        )
        require(0 < self.layer_decay <= 1, "0 < layer_decay <= 1", self.layer_decay)
        require(0 <= self.logit_scale <= MAX_LOGIT_SCALE, "0 <= logit_scale <= ln 100 = 4.605", self.logit_scale)
        require(self.embedding_dim >= 1, "embedding_dim >= 1", self.embedding_dim)
        require(1 <= self.head_depth <= 3, "1 <= head_depth <= 3", self.head_depth)
        require(self.batch_size >= 2, "batch_size >= 2", self.batch_size)
        require(self.accumulation >= 1, "accumulation >= 1", self.accumulation)
        require(self.max_epochs >= 1, "max_epochs >= 1", self.max_epochs)
        require(self.epoch_samples >= 0, "epoch_samples >= 0", self.epoch_samples)
        require(0 <= self.warmup_fraction < 1, "0 <= warmup_fraction < 1", self.warmup_fraction)
        require(self.weight_decay >= 0, "weight_decay >= 0", self.weight_decay)
        require(self.gradient_clip >= 0, "gradient_clip >= 0", self.gradient_clip)
        require(0 <= self.augmentation <= 1, "0 <= augmentation <= 1", self.augmentation)
        require(0 <= self.seed < 2**32, "0 <= seed < 2**32", self.seed)
        require_one_of("weight_init", self.weight_init, WEIGHT_INITS)
        require_one_of("loss", self.loss, LOSSES)
        require_one_of("image_resolution", self.image_resolution, IMAGE_RESOLUTIONS)
        require(
            self.loss != "clip" or not self.soft_targets, "soft_targets with loss=multipositive or sigmoid", self.loss
        )
        require(0 <= self.mixing <= 1, "0 <= mixing <= 1", self.mixing)
        require(self.loss != "clip" or not self.mixing, "mixing with loss=multipositive or sigmoid", self.loss)
        self.frozen_towers()
        require_one_of("language", self.language, LANGUAGES)
        require_one_of("precision", self.precision, PRECISIONS)
        require_one_of("parallelism", self.parallelism, PARALLELISMS)

    def frozen_towers(self) -> dict[str, int]:
        """The towers that keep their weights, and how many of their last blocks train nevertheless."""
        which, colon, blocks = self.freeze.partition(":")
        require_one_of("freeze", which, FROZEN)
        require(
            not colon or (blocks.isdecimal() and int(blocks) >= 1 and which != "none"),
            "freeze must be none, image, text or both, and after the last three a number of blocks, as in both:2",
            self.freeze,
        )
        towers = {"none": (), "both": ("image", "text")}.get(which, (which,))
        return dict.fromkeys(towers, int(blocks or 0))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from a plain dict; raises `ConfigError` naming the nearest known field for an unknown one."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigError(f"no hyperparameter is called {name!r}.{nearest(name, known)}")
        return cls(**values)

    def rows_per_worker(self, workers: int) -> int:
        """B, the share of the global batch of each of so many. Raises `ConfigError` where all cannot be of one size."""
        shares = workers * self.accumulation
        if self.batch_size % shares:
            above = self.batch_size + -self.batch_size % shares
            raise ConfigError(
                f"batch_size must be a multiple of workers x accumulation = {workers} x {self.accumulation}, so "
                f"that all shares are of one size, but got {self.batch_size}; take {above}."
            )
        return self.batch_size // workers

    def to_dict(self) -> dict[str, Any]:
        """The plain dict that `from_dict` takes back."""
        return dataclasses.asdict(self)


def load_config(path: Path) -> tuple[TrialConfig, dict[str, Any]]:
    """Read a trial's config from JSON.

    The file is a plain config, or a `best.json` that holds it under `config`. Returns the config and the whole
    document, so that a caller finds `dataset` beside it. Raises `ConfigError`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the config file must be readable, but {path}: {error.strerror}.") from error
    return parse_config(content, str(path))


def parse_config(content: bytes, place: str) -> tuple[TrialConfig, dict[str, Any]]:
    """What `load_config` gives, of a file that was read at a place. Raises `ConfigError`."""
    try:
        document = json.loads(content.decode())
    except ValueError as error:
        raise ConfigError(f"{place} must hold JSON, but: {error}.") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{place} must hold a JSON object, but holds a {type(document).__name__}.")
    if {"space", "algorithm"} <= document.keys():
        raise ConfigError(f"{place} says what a search was asked, and holds no config: give the best.json beside it.")
    values = document.get("config", document)
    if not isinstance(values, dict):
        raise ConfigError(f"{place} must hold a JSON object, but its 'config' holds a {type(values).__name__}.")
    return TrialConfig.from_dict(values), document


def _check_type(name: str, expected: Any, value: Any) -> None:
    """Reject a value of another type than the field's; an int passes as a float, a bool never as a number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if expected is float:
        valid = number and abs(value) <= sys.float_info.max
    elif expected is int:
        valid = number and isinstance(value, int)
    else:
        valid = isinstance(value, expected)
    if not valid:
        kind = f"finite {expected.__name__}" if expected in (int, float) else expected.__name__
        raise ConfigError(f"{name} must be a {kind}, but got {value!r}.")
