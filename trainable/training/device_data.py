"""A store's images as batches on the device where the model is."""

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from trainable.data.store import Store
from trainable.errors import ConfigError

RESIDENT_BYTES = 2 * 1024**3
"""A split up to this size is copied to the accelerator whole; a larger one streams from the memory map."""

STATISTICS_IMAGES = 10_000
"""Mean and deviation of the pixels are measured on at most about this many training images, evenly spaced."""


@dataclass(frozen=True)
class DeviceSplit:
    """One split: uint8 images on the device or mapped, labels as indices into `DeviceData.classes`."""

    images: Tensor  # (N, channels, H, W) uint8
    labels: Tensor  # (N,) int64, on the device
    device: torch.device

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def batch(self, indices: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """The images (B, channels, H, W), float32 in [0, 1], and labels (B,) at `indices`, on the device."""
        where = torch.as_tensor(indices)
        images = self.images[where.to(self.images.device)].to(self.device, non_blocking=True)
        return images.float().div_(255), self.labels[where.to(self.device)]

    def subset(self, indices: np.ndarray) -> "DeviceSplit":
        """The same split with the images at `indices` alone."""
        where = torch.as_tensor(indices)
        return DeviceSplit(self.images[where.to(self.images.device)], self.labels[where.to(self.device)], self.device)


class DeviceData:
    """What the trials of one slot train on: opened once, shared by all of them."""

    def __init__(self, store: Store, device: torch.device) -> None:
        self.store = store
        self.device = device
        self.classes = store.manifest.seen_classes
        self.image_size = store.manifest.image_size
        self.channels = store.manifest.channels
        self._splits: dict[str, DeviceSplit] = {}

    def split(self, name: str) -> DeviceSplit:
        """The images of the seen classes of one split."""
        if name not in self._splits:
            self._splits[name] = self._load(name)
        return self._splits[name]

    def overfit(self, images: int, *, seed: int) -> "DeviceData":
        """The same data with both training and validation cut to the same few images, equally many of each class.

        Raises `ConfigError` where `images` is less than the number of classes or more than the training split has.
        """
        train = self.split("train")
        if not len(self.classes) <= images <= len(train):
            raise ConfigError(
                f"--overfit must lie between {len(self.classes)} and {len(train)} images, but got {images}."
            )
        few = DeviceData(self.store, self.device)
        few.__dict__["pixel_statistics"] = self.pixel_statistics
        subset = train.subset(_balanced_indices(train.labels.cpu().numpy(), images, seed))
        few._splits = {"train": subset, "validation": subset}
        return few

    @cached_property
    def pixel_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the training pixels, in [0, 1]."""
        images = self.store.split("train").images
        pixels = images[:: max(1, len(images) // STATISTICS_IMAGES)]
        counts = np.bincount(pixels.reshape(-1), minlength=256).astype(np.float64)
        values = np.arange(256) / 255
        mean = float((counts * values).sum() / counts.sum())
        variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
        return mean, max(variance**0.5, 1e-3)

    def _load(self, name: str) -> DeviceSplit:
        split = self.store.split(name)
        images = image_tensor(split.images)
        if self.device.type != "cpu" and split.images.nbytes <= RESIDENT_BYTES:
            images = images.to(self.device)
        position = {self.store.manifest.classes.index(name): i for i, name in enumerate(self.classes)}
        labels = torch.tensor([position[int(label)] for label in split.labels], device=self.device)
        return DeviceSplit(images, labels, self.device)


def image_tensor(images: np.ndarray) -> Tensor:
    """(N, H, W) or (N, H, W, 3) -> (N, channels, H, W) over the same memory.

    A store's map is read-only, and nothing here writes to it, so torch's warning of that is not for us.
    """
    channels_first = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(channels_first)


def _balanced_indices(labels: np.ndarray, images: int, seed: int) -> np.ndarray:
    """`images` distinct indices, class by class in turn until a class runs out."""
    rng = np.random.default_rng(seed)
    queues = [list(rng.permutation(np.flatnonzero(labels == label))) for label in np.unique(labels)]
    rounds = (queue[i] for i in range(len(labels)) for queue in queues if i < len(queue))
    return np.array([next(rounds) for _ in range(images)])
