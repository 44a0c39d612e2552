"""Figures as files for a paper."""

import multiprocessing
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from analysis.plot import Drawable

DOTS_PER_INCH = 150
"""Of a PNG."""
KINDS = ("png", "svg")

_SETTINGS: dict[Any, Any] = {"svg.fonttype": "path", "svg.hashsalt": "glance"}


def write_figures(plots: Iterable[Drawable], folder: Path, *, processes: int = 1) -> list[Path]:
    """Write each plot into `folder` as a PNG and an SVG of its name; returns the paths.

    The folder is made where there is anything to write. A file is there whole, or as it was before.
    Letters of an SVG are outlines, so that they look alike without the fonts of this machine. Several processes are
    forks of this one, which must have no other threads that hold locks then.
    """
    every = list(plots)
    shares = [every[first::processes] for first in range(processes)]
    helpers = [
        multiprocessing.get_context("fork").Process(target=_write_quietly, args=(share, folder)) for share in shares[1:]
    ]
    for helper in helpers:
        helper.start()
    _write(shares[0], folder)
    for helper, share in zip(helpers, shares[1:], strict=True):
        helper.join()
        if helper.exitcode:
            _write(share, folder)  # what it could not, for the same reason or without
    return [folder / f"{plot.name}.{kind}" for plot in every for kind in KINDS]


def _write_quietly(plots: Sequence[Drawable], folder: Path) -> None:
    """The same in a process of its own, which says by its exit status whether it could."""
    try:
        _write(plots, folder)
    except OSError:
        sys.exit(1)


def _write(plots: Sequence[Drawable], folder: Path) -> None:
    from matplotlib import rc_context

    for plot in plots:
        folder.mkdir(parents=True, exist_ok=True)
        figure = plot.matplotlib()
        for kind in KINDS:
            unfinished = folder / f".{plot.name}.{kind}.tmp"
            with rc_context(_SETTINGS):
                figure.savefig(
                    unfinished, format=kind, dpi=DOTS_PER_INCH, metadata={"Date": None} if kind == "svg" else {}
                )
            unfinished.replace(folder / f"{plot.name}.{kind}")
            figure.set_layout_engine(None)
