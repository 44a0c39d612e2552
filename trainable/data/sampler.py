"""Class-balanced batches, as a pure function of seed and epoch."""

from collections.abc import Iterator

import numpy as np

from trainable.errors import DataError


class BalancedSampler:
    """Draws batches in which every class has, as nearly as the batch size allows, the same number of images.

    With C classes present and a global batch of G = B x world size images, every global batch holds floor(G / C) or
    ceil(G / C) images of each class; the extra places go round the classes in a seeded order. Within a class, images
    come without replacement until all have been shown, across epochs; then the class is shuffled anew. A class with
    fewer images than a batch has places for it shows some of them twice.

    **An epoch** is `steps` = max(1, (epoch_samples or len(labels)) // G) global batches: as many images as the split
    has, not one pass over each image. Images of a class rarer than the mean are seen more than once, those of a more
    frequent one are spread over several epochs.

    Each rank gets its own B places of the global batch, about as balanced as the whole. `epoch` keeps no state, so
    that a resumed run draws what the interrupted one would have drawn.
    """

    steps: int
    """Batches per epoch."""

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        *,
        epoch_samples: int = 0,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Take labels (N,), the batch size B of one rank, and which rank of how many this is.

        `epoch_samples` 0 means len(labels). Raises `DataError` for labels or numbers that allow no batch.
        """
        _require(len(labels) > 0, "a sampler needs at least one label", len(labels))
        _require(batch_size >= 1, "batch_size >= 1 must hold", batch_size)
        _require(epoch_samples >= 0, "epoch_samples >= 0 must hold", epoch_samples)
        _require(seed >= 0, "seed >= 0 must hold", seed)
        _require(0 <= rank < world_size, f"0 <= rank < world_size = {world_size} must hold", rank)
        present = np.unique(labels)
        order = np.random.default_rng((seed, 0)).permutation(len(present))
        self._members = [np.flatnonzero(labels == present[index]) for index in order]  # C arrays of rows
        self._global_batch = batch_size * world_size
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self.steps = max(1, (epoch_samples or len(labels)) // self._global_batch)

    def epoch(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield `steps` arrays (B,) of row numbers for this rank; a pure function of the seed and `epoch`."""
        first = epoch * self.steps
        bounds = self._drawn_before(np.arange(first, first + self.steps + 1))  # (steps + 1, C)
        queues = [self._draws(c, bounds[0, c], bounds[-1, c]) for c in range(len(self._members))]
        mixer = np.random.default_rng((self._seed, 1, epoch, self._rank))
        for step in range(self.steps):
            start, end = bounds[step] - bounds[0], bounds[step + 1] - bounds[0]
            batch = np.concatenate([queue[start[c] : end[c]] for c, queue in enumerate(queues)])  # (G,) by class
            yield mixer.permutation(batch[self._rank :: self._world_size])  # (B,)

    def _drawn_before(self, steps: np.ndarray) -> np.ndarray:
        """How many images of each class all batches before each of `steps` (S,) hold: (S, C)."""
        classes = len(self._members)
        even, extra = divmod(self._global_batch, classes)
        extras = steps[:, None] * extra - np.arange(classes)[None, :]
        return steps[:, None] * even + (extras + classes - 1) // classes

    def _draws(self, c: int, start: int, end: int) -> np.ndarray:
        """Draws number `start` to `end` of the endless, pass by pass shuffled sequence of one class."""
        members = self._members[c]
        size = len(members)
        passes = range(start // size, -(-end // size))
        shuffled = [np.random.default_rng((self._seed, 2, c, turn)).permutation(members) for turn in passes]
        return np.concatenate([members[:0], *shuffled])[start - passes.start * size : end - passes.start * size]


def _require(holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise DataError(f"{rule}, but got {value!r}.")
