"""The command of the search, with slots that wait at a gate. Run by test_nodes.py.

    python gated_search.py FOLDER FLAGS...

Training is real. A slot trains a trial's first epoch, and no second one before FOLDER/open is there, so that a test
decides what happens to a trial in the middle. FOLDER/trained.txt gets a line for each epoch that was trained to its
end. There is no preflight.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import search.driver
import search.preflight
from search.run import main
from trainable.slot.trial_slot import TrialSlot


class GatedRunner:
    """A runner in front of another."""

    def __init__(self, runner: Any, gates: Path) -> None:
        self._runner, self._gates = runner, gates

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def start(self, config: Mapping[str, Any], folder: Path, inherited: bool = False) -> float:
        self._trial = folder.parent.name
        epoch: float = self._runner.start(config, folder, inherited)
        self._epoch = epoch
        return epoch

    def run_epoch(self) -> Any:
        while self._epoch >= 1 and not (self._gates / "open").exists():
            time.sleep(0.02)
        report = self._runner.run_epoch()
        self._epoch += 1
        with (self._gates / "trained.txt").open("a", encoding="utf-8") as file:
            file.write(f"{self._trial} {self._epoch:g}\n")
        return report


class GatedSlot(TrialSlot):
    """A slot with such a runner."""

    gates: Path

    def setup(self, config: dict[str, Any], options: dict[str, Any] | None = None) -> None:
        super().setup(config, options)
        self._slot._runner = GatedRunner(self._slot._runner, self.gates)


if __name__ == "__main__":
    GatedSlot.gates = Path(sys.argv[1])
    search.driver.TrialSlot = GatedSlot  # type: ignore[attr-defined]
    search.preflight.preflight = lambda *arguments, **options: None
    sys.exit(main(sys.argv[2:]))
