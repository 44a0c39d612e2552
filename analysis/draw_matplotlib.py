"""Draws a `Plot` or a `HeatMap` for paper."""

import logging
import math
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.fonts import families, legible
from analysis.plot import Axis, HeatMap, Mark, Plot, Series
from analysis.theme import LIGHT, LIGHT_SCALE, ROLES

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
"""It warns where a font has no bold face and a lighter one stands in, of which a reader can do nothing."""

SIZE_INCHES = (7.0, 4.2)
HEAVY = 2_000
"""A series of more points is a picture in an SVG, which would take long to open otherwise."""
LETTERS_ABREAST = 60
"""More letters than these under a heat map are set aslant."""
SLANTED, ROW_INCHES = 12, 0.19
"""More columns than these have their names upright; the height of a row, which a heat map of many rows keeps."""
_SYMBOLS = {"disc": "o", "ring": "o", "cross": "X", "triangle": "^", "star": "*"}
_AREAS = {"disc": 42, "ring": 34, "cross": 38, "triangle": 40, "star": 210}
_NAMED = ("best", "second", "third")


def draw(plot: Plot) -> Figure:
    """A static figure; no text is read as mathematical notation, so a name from the data is shown as it is."""
    with rc_context(_style()):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(legible(plot.title), loc="left", fontsize=12, fontweight="bold", y=1.0, pad=28)
        colours = _colours(plot)
        for order, series in enumerate(plot.series):
            _draw_series(axes, series, colours, zorder=2 + order / 100, large=bool(plot.scale))
        _set_axis(axes, plot.x, "x")
        _set_axis(axes, plot.y, "y")
        for mark in plot.marks:
            _draw_mark(axes, mark)
        for note in plot.notes:
            axes.text(note.x, note.y, legible(note.text), ha="center", va="center", fontsize=8)
        if any(len(series.values) for series in plot.series):
            bar = figure.colorbar(colours, ax=axes, aspect=32, pad=0.02, ticks=MaxNLocator(6, integer=True))
            bar.set_label(legible(plot.scale))
            bar.outline.set_visible(False)
        _draw_legend(axes)
    return figure


def draw_heat_map(heat_map: HeatMap) -> Figure:
    """A static figure; a cell's text is black or white, whichever its colour lets be read."""
    values = np.asarray(heat_map.values, dtype=float)
    with rc_context(_style()):
        width, height = SIZE_INCHES
        figure = Figure(figsize=(width, max(height, ROW_INCHES * (len(heat_map.rows) + 8))), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(legible(heat_map.title), loc="left", fontsize=12, fontweight="bold", y=1.0)
        colours = ScalarMappable(Normalize(*heat_map.ends), LinearSegmentedColormap.from_list("scale", LIGHT_SCALE))
        if values.size:
            origin: Any = "lower" if heat_map.upward else "upper"
            axes.imshow(colours.to_rgba(np.ma.masked_invalid(values)), aspect="auto", origin=origin)
        _write_cells(axes, heat_map, colours)
        _set_axis(axes, Axis(label=heat_map.column_label, categories=tuple(heat_map.columns)), "x")
        _set_axis(axes, Axis(label=heat_map.row_label, categories=tuple(heat_map.rows)), "y")
        if sum(map(len, heat_map.columns)) > LETTERS_ABREAST:
            slant = 35 if len(heat_map.columns) <= SLANTED else 90
            for label in axes.get_xticklabels():
                label.set(rotation=slant, ha="right", rotation_mode="anchor", va="top" if slant < 90 else "center")
        bar = figure.colorbar(colours, ax=axes, aspect=32, pad=0.02)
        bar.set_label(legible(heat_map.scale))
        bar.outline.set_visible(False)
    return figure


def _write_cells(axes: Axes, heat_map: HeatMap, colours: ScalarMappable) -> None:
    rows, columns = len(heat_map.rows), len(heat_map.columns)
    size = min(10.0, 160.0 / max(1, rows), 200.0 / max(1, columns))
    shades = colours.to_rgba(np.asarray(heat_map.values, dtype=float))
    for row, texts in enumerate(heat_map.texts):
        for column, text in enumerate(texts):
            red, green, blue, _ = shades[row][column]
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            ink = "white" if dark and not math.isnan(heat_map.values[row][column]) else LIGHT["ink"]
            axes.text(column, row, legible(text), ha="center", va="center", fontsize=size, color=ink)


def _colours(plot: Plot) -> ScalarMappable:
    return ScalarMappable(Normalize(0, plot.scale_end), LinearSegmentedColormap.from_list("scale", LIGHT_SCALE))


def _style() -> dict[Any, Any]:
    return {
        "font.family": families(),
        "font.size": 10,
        "text.parse_math": False,
        "text.color": LIGHT["ink"],
        "axes.labelcolor": LIGHT["ink"],
        "axes.edgecolor": LIGHT["line"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LIGHT["grid"],
        "xtick.color": LIGHT["line"],
        "ytick.color": LIGHT["line"],
        "xtick.labelcolor": LIGHT["ink"],
        "ytick.labelcolor": LIGHT["ink"],
    }


def _draw_series(axes: Axes, series: Series, colours: ScalarMappable, *, zorder: float, large: bool) -> None:
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    common: dict[str, Any] = {"zorder": zorder, "label": legible(series.name) if series.in_legend else "_"}
    common["rasterized"] = len(x) > HEAVY
    if series.style == "bars":
        axes.barh(y, x, left=series.base or None, height=series.thickness, color=ROLES[series.role], **common)
    elif series.style == "area":
        for edge in _pieces(x, y):
            axes.fill(*edge, color=ROLES[series.role], alpha=0.18, linewidth=0, **common)
    elif series.style == "points":
        axes.scatter(x, y, **_marker(series, colours, large), **common)
    else:
        axes.plot(x, y, **_stroke(series), **common)


def _pieces(x: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The edges of an area's pieces, which NaN parts."""
    ends = np.flatnonzero(np.isnan(y))
    parts = zip(np.split(x, ends), np.split(y, ends), strict=True)
    return [(a[~np.isnan(b)], b[~np.isnan(b)]) for a, b in parts if not np.isnan(b).all()]


def _marker(series: Series, colours: ScalarMappable, large: bool) -> dict[str, Any]:
    shades = colours.to_rgba(np.asarray(series.values)) if len(series.values) else [ROLES[series.role]]
    return {
        "s": _AREAS[series.symbol] if large else 9,
        "marker": _SYMBOLS[series.symbol],
        "facecolors": "none" if series.symbol == "ring" else shades,
        "edgecolors": "white" if series.symbol == "star" else shades,
        "linewidths": 1.6 if series.symbol == "ring" else 0.8,
        "alpha": 0.45 if series.role == "faint" else None,
    }


def _stroke(series: Series) -> dict[str, Any]:
    named, marked = series.role in _NAMED, series.style == "lines"
    return {
        "color": ROLES[series.role],
        "linewidth": 2.2 if named else 0.9 if marked else 1.5,
        "alpha": 0.7 if marked and not named else 1.0,
        "drawstyle": "steps-post" if series.style == "steps" else "default",
        "marker": "o" if marked else None,
        "markersize": 4 if named else 2.5,
    }


def _set_axis(axes: Axes, axis: Axis, which: str) -> None:
    name = getattr(axes, f"{which}axis")
    if axis.log:
        getattr(axes, f"set_{which}scale")("log")
    elif axis.categories:
        name.set_ticks(range(len(axis.categories)), list(map(legible, axis.categories)))
        name.grid(visible=False)
    if axis.bounds:
        getattr(axes, f"set_{which}lim")(*axis.bounds)
    if axis.label == "epoch":
        name.set_major_locator(MaxNLocator(integer=True))
    name.set_label_text(legible(axis.label))


def _draw_mark(axes: Axes, mark: Mark) -> None:
    line: dict[str, Any] = {"color": ROLES["faint"], "linewidth": 1.0, "linestyle": ":", "zorder": 1.5}
    text: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": ROLES["faint"]}
    if mark.vertical:
        axes.axvline(mark.value, **line)
        top = axes.get_xaxis_transform()
        axes.annotate(legible(mark.label), (mark.value, 1), xycoords=top, xytext=(3, -3), va="top", **text)
    else:
        axes.axhline(mark.value, **line)
        right = axes.get_yaxis_transform()
        axes.annotate(legible(mark.label), (1, mark.value), xycoords=right, xytext=(-3, 2), ha="right", **text)


def _draw_legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            ncols=6,
            frameon=False,
            fontsize=9,
            handletextpad=0.3,
            columnspacing=1.0,
            borderaxespad=0.1,
        )
