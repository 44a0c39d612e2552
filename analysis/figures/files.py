"""Figures as files for a paper."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.plot import Drawable

DOTS_PER_INCH = 150
"""Of a PNG."""

_SETTINGS: dict[Any, Any] = {"svg.fonttype": "path", "svg.hashsalt": "glance"}


def write_figures(plots: Iterable[Drawable], folder: Path) -> list[Path]:
    """Write each plot into `folder` as a PNG and an SVG of its name; returns the paths.

    The folder is made where there is anything to write. A file is there whole, or as it was before.
    Letters of an SVG are outlines, so that they look alike without the fonts of this machine.
    """
    from matplotlib import rc_context

    written = []
    for plot in plots:
        folder.mkdir(parents=True, exist_ok=True)
        figure = plot.matplotlib()
        for kind in ("png", "svg"):
            unfinished = folder / f".{plot.name}.{kind}.tmp"
            with rc_context(_SETTINGS):
                figure.savefig(
                    unfinished, format=kind, dpi=DOTS_PER_INCH, metadata={"Date": None} if kind == "svg" else {}
                )
            written.append(unfinished.replace(folder / f"{plot.name}.{kind}"))
            figure.set_layout_engine(None)
    return written
