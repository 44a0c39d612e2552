"""A search in the simulator whose process is killed again and again, for test_kill_resume.py.

    python dying_driver.py FOLDER SCHEDULER ALGORITHM SEED DEATHS

Runs the search to its end in FOLDER/whole. Then runs it in FOLDER/killed, in processes of which each but the last kills
itself with SIGKILL at a random moment, when it is about to write a line of the ledger; half of the times a part of that
line is in the file. Each process takes up what the one before it left.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from search.ledger import LEDGER_NAME, LedgerWriter
from search.pbt import ranges_of
from search.schedulers import SchedulerOptions, build_scheduler
from search.searchers import Objective, SearcherOptions, build_searcher
from search.simulate import Plan, VirtualClock, simulate
from search.synthetic_curves import SYNTHETIC_SPACE, SyntheticCurves

EPOCHS = 9
PLAN = Plan(metric="val_accuracy", mode="max", trials=20, slots=4, max_epochs=EPOCHS)
CURVES = SyntheticCurves(epochs=EPOCHS, seed=1, failing_share=0.3, nan_share=0.15)


class DyingClock(VirtualClock):
    """Kills its process when it is asked for the time of line number `lines` that this process writes, from 0."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self._left = lines

    def __call__(self) -> float:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1
        return super().__call__()


def search(folder: Path, scheduler: str, algorithm: str, lines: int) -> None:
    """Begin the search of a folder, or go on with it, and die before line number `lines`; not if it is negative."""
    options = SchedulerOptions(
        metric=PLAN.metric,
        mode=PLAN.mode,
        max_epochs=EPOCHS,
        grace_epochs=1,
        reduction_factor=3,
        seed=1,
        ranges=ranges_of(SYNTHETIC_SPACE),
        trials=PLAN.trials,
    )
    objective = Objective(metric=PLAN.metric, mode=PLAN.mode)
    drawing = SearcherOptions(space=SYNTHETIC_SPACE, objective=objective, seed=1, journal=folder / "study.log")
    clock = DyingClock(lines)
    with LedgerWriter(folder / LEDGER_NAME, clock=clock) as ledger:
        searcher = build_searcher(algorithm, drawing)
        simulate(PLAN, ledger, searcher, build_scheduler(scheduler, options), CURVES, clock=clock)


def status_of(body: Callable[[], None]) -> int:
    """Run something in a process of its own; returns its exit status, or the negated signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, scheduler: str, algorithm: str, seed: int, deaths: int) -> None:
    """Print the exit statuses of the processes that search in `killed`."""
    search(folder / "whole", scheduler, algorithm, -1)
    lines = (folder / "whole" / LEDGER_NAME).read_bytes().splitlines(keepends=True)
    statuses, rng = [], np.random.default_rng(seed)
    moments = np.sort(rng.choice(np.arange(1, len(lines)), size=deaths, replace=False)).tolist()
    for before, moment in zip([0, *moments], moments, strict=False):
        # Every process but the first one writes first that the search goes on.
        left = moment - before + (before > 0)
        statuses.append(status_of(lambda left=left: search(folder / "killed", scheduler, algorithm, left)))
        if rng.random() < 0.5:
            with (folder / "killed" / LEDGER_NAME).open("ab") as ledger:
                ledger.write(lines[moment][: rng.integers(1, len(lines[moment]) - 1)])
    statuses.append(status_of(lambda: search(folder / "killed", scheduler, algorithm, -1)))
    print(*statuses)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
