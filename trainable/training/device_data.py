"""A store's images as batches on the device where the model is."""

import copy
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from trainable.data.store import Store
from trainable.data.unseen import UnseenClasses
from trainable.errors import ConfigError

RESIDENT_BYTES = 2 * 1024**3
"""A split up to this size is copied to the accelerator whole; a larger one streams from the memory map."""

STATISTICS_IMAGES = 10_000
"""Mean and deviation of the pixels are measured on at most about this many training images, evenly spaced."""


@dataclass(frozen=True)
class DeviceSplit:
    """Some images of one split, uint8 on the device or mapped, and their labels as `DeviceData.split` says."""

    images: Tensor  # (M, channels, H, W) uint8
    labels: Tensor  # (N,) int64, on the device
    device: torch.device
    rows: Tensor | None = None  # (N,) int64: where in `images` each image lies; None where they are all of them
    shares: Tensor | None = None  # (N, C) float32, on the device: of the votes for each class, where people voted

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def batch(self, indices: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """The images (B, channels, H, W), float32 in [0, 1], and labels (B,) at `indices`, on the device."""
        where = torch.as_tensor(indices)
        images = self.images[self._rows(where)].to(self.device, non_blocking=True)
        return images.float().div_(255), self.labels[where.to(self.device)]

    def subset(self, indices: np.ndarray) -> "DeviceSplit":
        """The same split with the images at `indices` alone."""
        where = torch.as_tensor(indices)
        labels, images = self.labels[where.to(self.device)], self.images[self._rows(where)]
        return DeviceSplit(images, labels, self.device, shares=self.shares_of(indices))

    def shares_of(self, indices: np.ndarray | Tensor) -> Tensor | None:
        """The shares (B, C) of the images at `indices`, on the device, where people voted."""
        return None if self.shares is None else self.shares[torch.as_tensor(indices).to(self.device)]

    def _rows(self, where: Tensor) -> Tensor:
        at = where.to(self.images.device)
        return at if self.rows is None else self.rows[at]


class DeviceData:
    """What the trials of one slot train on: opened once, shared by all of them."""

    def __init__(self, store: Store, device: torch.device, unseen: UnseenClasses | None = None) -> None:
        self.store = store
        self.device = device
        self.unseen = UnseenClasses() if unseen is None else unseen
        self.classes = self.unseen.seen(store.manifest)
        self.image_size = store.manifest.image_size
        self.channels = store.manifest.channels
        self._splits: dict[tuple[str, tuple[str, ...]], DeviceSplit] = {}

    def split(self, name: str, group: tuple[str, ...] | None = None) -> DeviceSplit:
        """The images of one split that belong to the seen classes or to a group of unseen ones, by default its own.

        Labels are indices into `classes`, and then into the group.
        """
        wanted = self.unseen.of(name) if group is None else group
        if (name, wanted) not in self._splits:
            self._splits[name, wanted] = self._load(name, (*self.classes, *wanted))
        return self._splits[name, wanted]

    def require_few(self, images: int) -> None:
        """Raise `ConfigError` where that is less than the number of classes or more than the training split has."""
        most = len(self.split("train"))
        if not len(self.classes) <= images <= most:
            raise ConfigError(f"--overfit must lie between {len(self.classes)} and {most} images, but got {images}.")

    def overfit(self, images: int, *, seed: int) -> "DeviceData":
        """The same data with both training and validation cut to the same few images, equally many of each class.

        Raises `ConfigError` as `require_few` does.
        """
        self.require_few(images)
        train = self.split("train")
        few = copy.copy(self)
        few.unseen = UnseenClasses()
        few.__dict__["pixel_statistics"] = self.pixel_statistics
        subset = train.subset(_balanced_indices(train.labels.cpu().numpy(), images, seed))
        few._splits = {("train", ()): subset, ("validation", ()): subset}
        return few

    @cached_property
    def pixel_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the training pixels, in [0, 1]."""
        whole = self.store.split("train", self.store.manifest.classes)
        rows = self._rows_of(whole.labels, self.classes)
        pixels = whole.images[rows[:: max(1, len(rows) // STATISTICS_IMAGES)]]
        counts = np.bincount(pixels.reshape(-1), minlength=256).astype(np.float64)
        values = np.arange(256) / 255
        mean = float((counts * values).sum() / counts.sum())
        variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
        return mean, max(variance**0.5, 1e-3)

    def _load(self, name: str, classes: tuple[str, ...]) -> DeviceSplit:
        """The images of some classes; they are not copied on the host, wherever in the split they lie."""
        whole = self.store.split(name, self.store.manifest.classes)
        rows = self._rows_of(whole.labels, classes)
        first, last = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        piece = whole.images[first:last]
        images = image_tensor(piece)
        if self.device.type != "cpu" and piece.nbytes <= RESIDENT_BYTES:
            images = images.to(self.device)
        position = {self.store.label_of(name): i for i, name in enumerate(classes)}
        labels = torch.tensor([position[int(label)] for label in whole.labels[rows]], device=self.device)
        scattered = torch.from_numpy(rows - first).to(images.device) if len(rows) < len(piece) else None
        shares = None if whole.shares is None else self._shares_of(whole.shares[rows], list(position))
        return DeviceSplit(images, labels, self.device, scattered, shares)

    def _shares_of(self, shares: np.ndarray, labels: list[int]) -> Tensor:
        """Of the votes (N, all classes) those for some labels (N, C), as shares that add up to 1 again."""
        kept = shares[:, labels]
        return torch.from_numpy(kept / kept.sum(axis=1, keepdims=True)).to(self.device)

    def _rows_of(self, labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
        """Where images of some classes lie in a split with these labels, in rising order."""
        return np.flatnonzero(np.isin(labels, [self.store.label_of(name) for name in classes]))


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
