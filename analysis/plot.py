"""A plot as data: computed once, drawn by plotly for the screen and by matplotlib for paper.

All text is plain: the renderers escape it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Style = Literal["points", "lines", "curve", "steps", "bars", "area"]
"""`lines` mark their points, a `curve` does not; an `area` is filled, and `x` and `y` run round its edge."""
Symbol = Literal["disc", "ring", "cross", "triangle", "star"]
Role = Literal["best", "second", "third", "finished", "stopped", "running", "paused", "failed", "lost", "faint"]


class Drawable(Protocol):
    """What stands in a report as a figure."""

    @property
    def name(self) -> str:
        """File name without its ending."""

    @property
    def title(self) -> str:
        """What it shows, as a headline."""

    @property
    def caption(self) -> str:
        """A sentence that says how to read it, or what was left out; may be empty."""

    def plotly(self) -> Any:
        """An interactive `plotly.graph_objects.Figure`."""

    def matplotlib(self) -> "Figure":
        """A `matplotlib.figure.Figure`, for paper."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis: a number line, or categories at 0, 1, 2 …"""

    label: str
    log: bool = False
    categories: tuple[str, ...] = ()
    """Tick labels; empty for a number line."""
    bounds: tuple[float, float] | None = None
    """What the axis must show, in data units; None lets the renderer choose."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One entry of the legend."""

    name: str
    style: Style
    x: Sequence[float]
    y: Sequence[float]
    """NaN breaks a line, and ends an area."""
    base: Sequence[float] = ()
    """Where each bar begins on the x axis; empty for 0."""
    thickness: float = 0.6
    """Of bars, in units of the y axis."""
    role: Role = "faint"
    """Its colour, unless `values` give one to each point."""
    values: Sequence[float] = ()
    """One number per point on the plot's colour scale; empty for one colour."""
    symbol: Symbol = "disc"
    hover: Sequence[str] = ()
    """One text per point; empty for none."""
    in_legend: bool = True


@dataclass(frozen=True)
class Mark:
    """A straight line across the plot at one value, with a label."""

    value: float
    label: str
    vertical: bool = False


@dataclass(frozen=True)
class Note:
    """A text beside a point of the plot."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure before it is drawn."""

    name: str
    """File name without its ending."""
    title: str
    caption: str = ""
    """A sentence that says how to read it, or what was left out."""
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    scale: str = ""
    """What the colour scale shows; empty where no series uses it."""
    marks: tuple[Mark, ...] = field(default=())
    notes: tuple[Note, ...] = ()

    @property
    def scale_end(self) -> float:
        """The largest number on the colour scale, which starts at 0; 1 without any."""
        return max((value for series in self.series for value in series.values if value > 0), default=1.0)

    def plotly(self) -> Any:
        """The plot as an interactive `plotly.graph_objects.Figure`."""
        from analysis.draw_plotly import draw

        return draw(self)

    def matplotlib(self) -> "Figure":
        """The plot as a `matplotlib.figure.Figure`, for paper."""
        from analysis.draw_matplotlib import draw

        return draw(self)


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A table of numbers as colours, before it is drawn."""

    name: str
    """File name without its ending."""
    title: str
    caption: str = ""
    """A sentence that says how to read it, or what was left out."""
    columns: Sequence[str]
    """One label per column."""
    rows: Sequence[str]
    """One label per row."""
    column_label: str = ""
    """What the columns are."""
    row_label: str = ""
    """What the rows are."""
    upward: bool = False
    """Whether the first row stands at the foot, as on a number line; else at the top, as in a table."""
    values: Sequence[Sequence[float]]
    """Rows of columns; NaN for an empty cell."""
    scale: str
    """What the colour shows."""
    bounds: tuple[float, float] | None = None
    """The ends of the colour scale; None for the smallest and the largest value."""
    texts: Sequence[Sequence[str]] = ()
    """What stands in each cell, rows of columns; empty for nothing."""
    hover: Sequence[Sequence[str]] = ()
    """One text per cell, rows of columns; empty for row, column and value."""

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the colour scale, never the same number; 0 and 1 where every cell is empty."""
        finite = [value for row in self.values for value in row if math.isfinite(value)]
        low, high = self.bounds or (min(finite, default=0.0), max(finite, default=1.0))
        return (low, high) if low < high else (low - 0.5, low + 0.5)

    def plotly(self) -> Any:
        """The map as an interactive `plotly.graph_objects.Figure`."""
        from analysis.draw_plotly import draw_heat_map

        return draw_heat_map(self)

    def matplotlib(self) -> "Figure":
        """The map as a `matplotlib.figure.Figure`, for paper."""
        from analysis.draw_matplotlib import draw_heat_map

        return draw_heat_map(self)
