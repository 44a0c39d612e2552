"""The random draws of a trial: which generator they come from, and how its state is kept."""

import numpy as np
import torch
from torch import Tensor

from trainable.training.ranks import Ranks

DEVICE_GENERATORS = ("augmentation", "cuda")
"""Random generators whose state fits one kind of device alone."""


class RandomStates:
    """The generators of one rank; all follow from the trial's seed.

    `template` draws the same on every rank. `augmentation`, and torch's own generators, which dropout draws from, are
    each rank's own.
    """

    def __init__(self, seed: int, device: torch.device, ranks: Ranks) -> None:
        self._seed, self._device, self._ranks = seed, device, ranks
        self.template = torch.Generator().manual_seed(seed)
        self.augmentation = torch.Generator(device)
        for generator in self._own().values():
            generator.manual_seed(_seed_of(seed, 0, ranks.rank))

    def tensors(self) -> dict[str, Tensor]:
        """The states of all ranks, for a checkpoint: `random/template`, `random/<rank>/<name>`."""
        states = {"random/template": self.template.get_state()}
        for name, generator in self._own().items():
            rows = self._ranks.collect(generator.get_state().to(self._device)).view(self._ranks.world_size, -1)
            states |= {f"random/{rank}/{name}": row for rank, row in enumerate(rows.cpu())}
        return states

    def restore(self, tensors: dict[str, Tensor], *, epoch: int, same_device: bool) -> None:
        """Go on from a checkpoint's states.

        What it has no state for, because it is of fewer ranks or of another kind of device, starts anew from the seed
        and the `epoch`.
        """
        self.template.set_state(tensors["random/template"])
        for name, generator in self._own().items():
            state = tensors.get(f"random/{self._ranks.rank}/{name}")
            if state is not None and (same_device or name not in DEVICE_GENERATORS):
                generator.set_state(state)
            else:
                generator.manual_seed(_seed_of(self._seed, epoch, self._ranks.rank))

    def _own(self) -> dict[str, torch.Generator]:
        own = {"torch": torch.default_generator, "augmentation": self.augmentation}
        if self._device.type == "cuda":
            own["cuda"] = torch.cuda.default_generators[self._device.index or 0]
        return own


def _seed_of(seed: int, epoch: int, rank: int) -> int:
    """The trial's own seed for the first rank at the start, an independent one for every other place."""
    if epoch == rank == 0:
        return seed
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])
