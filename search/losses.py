"""How often a trial was lost without having come any further. Part of folding a ledger."""

from dataclasses import dataclass


@dataclass
class Losses:
    """How far a trial has come, and how its processes were lost on the way.

    A node that is taken away is not the trial's fault, so a loss counts only where the trial had come no further since
    the one before, by a report or a checkpoint within an epoch. A search over nodes that are lost again and again ends
    all the same: each trial either comes further, to its last epoch, or is lost too often in a row.
    """

    saved: float = 0.0
    """Epochs that can be gone on from; a fraction where a checkpoint within an epoch was the last one."""
    reached: float = 0.0
    """The most that were saved before the last loss."""
    in_a_row: int = 0
    """Losses, up to the last one, since the trial came further."""

    @property
    def next_in_a_row(self) -> int:
        """What `in_a_row` becomes where the trial is lost now."""
        return 0 if self.saved > self.reached else self.in_a_row + 1

    def lose(self) -> None:
        """The trial's processes were lost."""
        self.in_a_row, self.reached = self.next_in_a_row, max(self.reached, self.saved)
