"""Figures as files for a paper."""

import multiprocessing
from collections.abc import Callable, Iterable, MutableSequence, Sequence
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from analysis.plot import Drawable

DOTS_PER_INCH = 150
"""Of a PNG."""
KINDS = ("png", "svg")

_SAVED: dict[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 2}},  # in half the time a tenth larger
    "svg": {"metadata": {"Date": None}},
}
_SETTINGS: dict[Any, Any] = {"svg.fonttype": "path", "svg.hashsalt": "glance"}


def write_figures(
    plots: Iterable[Drawable],
    folder: Path,
    *,
    processes: int = 1,
    meanwhile: Callable[[], object] = lambda: None,
) -> list[Path]:
    """Write each plot into `folder` as a PNG and an SVG of its name; returns the paths.

    The folder is made where there is anything to write. A file is there whole, or as it was before.
    Letters of an SVG are outlines, so that they look alike without the fonts of this machine. Several processes are
    forks of this one, which must have no other threads that hold locks then; this one calls `meanwhile` before it
    draws its share.
    """
    every = list(plots)
    context = multiprocessing.get_context("fork")
    taken, written = context.Value("i", 0), context.Array("b", len(every), lock=False)
    helpers = [
        context.Process(target=_write_shared, args=(every, folder, taken, written)) for _ in range(processes - 1)
    ]
    for helper in helpers:
        helper.start()
    try:
        meanwhile()
        _write_shared(every, folder, taken, written)
    finally:
        for helper in helpers:
            helper.join()
    for plot in (plot for plot, there in zip(every, written, strict=True) if not there):
        _write(plot, folder)  # what another process could not, for the same reason or without
    return [folder / f"{plot.name}.{kind}" for plot in every for kind in KINDS]


def _write_shared(
    plots: Sequence[Drawable], folder: Path, taken: "Synchronized[int]", written: MutableSequence[int]
) -> None:
    """Write one plot after the other that no other process has `taken`, until none is left or one cannot be written."""
    while (at := _next(taken)) < len(plots):
        try:
            _write(plots[at], folder)
        except OSError:
            return
        written[at] = True


def _next(taken: "Synchronized[int]") -> int:
    with taken.get_lock():
        taken.value += 1
        return taken.value - 1


def _write(plot: Drawable, folder: Path) -> None:
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    figure = plot.matplotlib()
    for kind in KINDS:
        unfinished = folder / f".{plot.name}.{kind}.tmp"
        with rc_context(_SETTINGS):
            figure.savefig(unfinished, format=kind, dpi=DOTS_PER_INCH, **_SAVED[kind])
        unfinished.replace(folder / f"{plot.name}.{kind}")
        figure.set_layout_engine(None)
