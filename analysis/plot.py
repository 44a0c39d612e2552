"""A plot as data: computed once, drawn by plotly for the screen and by matplotlib for paper.

All text is plain: the renderers escape it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Style = Literal["points", "lines", "steps", "bars"]
Symbol = Literal["disc", "ring", "cross", "triangle", "star"]
Role = Literal["best", "second", "third", "finished", "stopped", "running", "failed", "faint"]


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
    """NaN breaks a line."""
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
