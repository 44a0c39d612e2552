"""Figures as files for a paper."""

import multiprocessing
import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from analysis.plot import Drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
"""Of a PNG."""
KINDS = ("png", "svg")

_FEWEST = 4
"""Plots for which a further process is worth its start."""
_NUMBER = 2
"""Bytes of a plot's number."""

_SAVED: dict[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 2}},  # in half the time a tenth larger
    "svg": {"metadata": {"Date": None}},
}
_SETTINGS: dict[Any, Any] = {"svg.fonttype": "path", "svg.hashsalt": "glance"}


def write_figures(plots: Iterable[Drawable], folder: Path) -> list[Path]:
    """Write each plot into `folder` as a PNG and an SVG of its name; returns the paths. See `FigureWriter`."""
    with FigureWriter(folder) as writer:
        writer.add(list(plots))
        return writer.finish()


class FigureWriter:
    """Writes plots into a folder, each as a PNG and an SVG of its name.

    The folder is made where there is anything to write. A file is there whole, or as it was before. Letters of an SVG
    are outlines, so that they look alike without the fonts of this machine. With more than one of `processes`, others
    begin with plots as soon as they are added; they are forks of this process, which must have no other threads that
    hold locks then.
    """

    def __init__(self, folder: Path, *, processes: int = 1) -> None:
        self._folder = folder
        self._others = processes - 1
        self._batches: list[_Batch] = []

    def add(self, plots: Sequence[Drawable]) -> None:
        """Let others begin to write these."""
        self._batches.append(_Batch(plots, self._folder, helpers=min(self._others, len(plots) // _FEWEST)))

    def finish(self) -> list[Path]:
        """Write what no other process has begun with, and wait for the rest; returns every path.

        Raises `OSError` where a file cannot be written.
        """
        for batch in self._batches:
            batch.work()
        for batch in self._batches:
            batch.complete()
        plots = [plot for batch in self._batches for plot in batch.plots]
        return [self._folder / f"{plot.name}.{kind}" for plot in plots for kind in KINDS]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for batch in self._batches:
            batch.close()


class _Batch:
    """Plots that some processes write, each the next that none has taken."""

    def __init__(self, plots: Sequence[Drawable], folder: Path, *, helpers: int) -> None:
        context = multiprocessing.get_context("fork")
        self.plots = plots
        self._folder = folder
        self._numbers = _handed_out(len(plots))
        self._written = context.Array("b", len(plots), lock=False)
        self._helpers = [context.Process(target=self._help) for _ in range(helpers)]
        for helper in self._helpers:
            helper.start()

    def _help(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.work()

    def work(self) -> None:
        """Write until none is left or one cannot be written."""
        while number := os.read(self._numbers, _NUMBER):
            at = int.from_bytes(number)
            try:
                _write(self.plots[at], self._folder)
            except OSError:
                return
            self._written[at] = True

    def complete(self) -> None:
        """Wait for the others, and write what one of them could not, for the same reason or without."""
        for helper in self._helpers:
            helper.join()
        for plot in (plot for plot, written in zip(self.plots, self._written, strict=True) if not written):
            _write(plot, self._folder)

    def close(self) -> None:
        """Let the others begin with no further plot, and wait for them."""
        while os.read(self._numbers, _NUMBER):
            pass
        for helper in self._helpers:
            helper.join()
        os.close(self._numbers)


def _handed_out(count: int) -> int:
    """A pipe to read the numbers below `count` from: each comes out once, whichever process reads, and then the end."""
    numbers, into = os.pipe()
    os.write(into, b"".join(number.to_bytes(_NUMBER) for number in range(count)))
    os.close(into)
    return numbers


def _write(plot: Drawable, folder: Path) -> None:
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    figure = plot.matplotlib()
    figure.dpi = DOTS_PER_INCH
    _lay_out(figure)
    for kind in KINDS:
        unfinished = folder / f".{plot.name}.{kind}.tmp"
        with rc_context(_SETTINGS):
            figure.savefig(unfinished, format=kind, dpi=DOTS_PER_INCH, **_SAVED[kind])
        unfinished.replace(folder / f"{plot.name}.{kind}")


def _lay_out(figure: "Figure") -> None:
    """Give the parts of a figure their places, for all of its files: `savefig` would draw it once more to do so."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
