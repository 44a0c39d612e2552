"""Draws a `Plot` or a `HeatMap` for the screen."""

import html
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.plot import Axis, HeatMap, Mark, Note, Plot, Series
from analysis.theme import DARK, DARK_SCALE, LIGHT, LIGHT_SCALE, ROLES

_SYMBOLS = {"disc": "circle", "ring": "circle-open", "cross": "x", "triangle": "triangle-up", "star": "star"}
_SIZES = {"disc": 9, "ring": 8, "cross": 8, "triangle": 9, "star": 16}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Noto Sans KR', 'Malgun Gothic', sans-serif"


def draw(plot: Plot) -> go.Figure:
    """An interactive figure; all its text is escaped, so a name from the data is shown as it is."""
    traces = [trace for series in plot.series for trace in _traces(series, bool(plot.scale))]
    figure = go.Figure(data=traces, layout=_layout(plot))
    for mark in plot.marks:
        _add_mark(figure, mark)
    for note in plot.notes:
        _add_note(figure, note)
    return figure


def draw_heat_map(heat_map: HeatMap) -> go.Figure:
    """An interactive figure; a cell's text is black or white, whichever its colour lets be read."""
    trace = {
        "type": "heatmap",
        "z": np.asarray(heat_map.values, dtype=np.float32),
        "coloraxis": "coloraxis",
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "hovertext": [list(map(_text, row)) for row in heat_map.hover or _cells(heat_map)],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    if len(heat_map.texts):
        trace |= {"text": [list(map(_text, row)) for row in heat_map.texts], "texttemplate": "%{text}"}
    return go.Figure(data=[trace], layout=_heat_map_layout(heat_map))


def template(*, dark: bool) -> dict[str, Any]:
    """Plotly template of the light or the dark page."""
    tones, scale = (DARK, DARK_SCALE) if dark else (LIGHT, LIGHT_SCALE)
    axis = {
        "gridcolor": tones["grid"],
        "linecolor": tones["line"],
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": tones["line"],
        "automargin": True,
        "title": {"font": {"size": 13}, "standoff": 8},
    }
    layout = {
        "font": {"family": FONT, "size": 13, "color": tones["ink"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": axis,
        "yaxis": axis,
        "coloraxis": {"colorscale": [[i / (len(scale) - 1), colour] for i, colour in enumerate(scale)]},
        "modebar": {"bgcolor": tones["ground"], "color": tones["line"], "activecolor": tones["ink"]},
        "hoverlabel": {"bgcolor": tones["ground"], "bordercolor": tones["line"], "font": {"color": tones["ink"]}},
    }
    return {"layout": layout}


def _layout(plot: Plot) -> dict[str, Any]:
    return {
        "template": template(dark=False),
        "title": {"text": _text(plot.title), "x": 0.02},
        "xaxis": _axis(plot.x),
        "yaxis": _axis(plot.y),
        "coloraxis": {
            "cmin": 0,
            "cmax": plot.scale_end,
            "showscale": any(len(series.values) for series in plot.series),
            "colorbar": {
                "title": {"text": _text(plot.scale), "side": "right", "font": {"size": 12}},
                "thickness": 10,
                "outlinewidth": 0,
                "tickformat": "d",
                "nticks": min(6, round(plot.scale_end) + 1),
            },
        },
        "legend": {
            "orientation": "h",
            "itemsizing": "constant",
            "font": {"size": 11.5},
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
        },
        "hovermode": "closest",
        "barmode": "overlay",
        "margin": {"l": 56, "r": 16, "t": 56, "b": 48},
    }


def _heat_map_layout(heat_map: HeatMap) -> dict[str, Any]:
    low, high = heat_map.ends
    rows, columns = len(heat_map.rows), len(heat_map.columns)
    feet, sides = (-0.5, max(1, rows) - 0.5), (-0.5, max(1, columns) - 0.5)
    x = Axis(label=heat_map.column_label, categories=tuple(heat_map.columns), bounds=sides)
    y = Axis(
        label=heat_map.row_label,
        categories=tuple(heat_map.rows),
        bounds=feet if heat_map.upward else (feet[1], feet[0]),
    )
    return {
        "template": template(dark=False),
        "title": {"text": _text(heat_map.title), "x": 0.02},
        "xaxis": {**_axis(x), "showgrid": False},
        "yaxis": {**_axis(y), "showgrid": False},
        "coloraxis": {
            "cmin": low,
            "cmax": high,
            "colorbar": {
                "title": {"text": _text(heat_map.scale), "side": "right", "font": {"size": 12}},
                "thickness": 10,
                "outlinewidth": 0,
                "nticks": 6,
            },
        },
        "hovermode": "closest",
        "margin": {"l": 56, "r": 16, "t": 56, "b": 48},
    }


def _cells(heat_map: HeatMap) -> list[list[str]]:
    """What each cell says of itself."""
    return [
        [f"{row}, {column}: {value:.4g}" for column, value in zip(heat_map.columns, values, strict=True)]
        for row, values in zip(heat_map.rows, heat_map.values, strict=True)
    ]


def _axis(axis: Axis) -> dict[str, Any]:
    settings: dict[str, Any] = {"title": {"text": _text(axis.label)}, "type": "log" if axis.log else "linear"}
    if axis.log:
        settings |= {"exponentformat": "power", "minor": {"ticks": "outside", "ticklen": 3}}
    if axis.categories:
        settings |= {"tickvals": list(range(len(axis.categories))), "ticktext": list(map(_text, axis.categories))}
    if axis.bounds:
        settings["range"] = [math.log10(bound) for bound in axis.bounds] if axis.log else list(axis.bounds)
    return settings


def _traces(series: Series, scaled: bool) -> list[dict[str, Any]]:
    """A series as a trace; where each point has its own colour, a second one stands for it in the legend."""
    return [_trace(series, scaled), *([_legend_key(series)] if len(series.values) else [])]


def _trace(series: Series, scaled: bool) -> dict[str, Any]:
    colour = ROLES[series.role]
    trace: dict[str, Any] = {
        "type": "bar" if series.style == "bars" else "scatter",
        "name": _text(series.name),
        "x": _numbers(series.x),
        "y": _numbers(series.y),
        "showlegend": series.in_legend and not len(series.values),
        "legendgroup": _text(series.name),
        "marker": _marker(series, colour, scaled),
    }
    if series.style == "bars":
        trace |= {"orientation": "h", "width": series.thickness}
        if len(series.base):
            trace["base"] = _numbers(series.base)
    else:
        trace |= _strokes(series, colour)
    if len(series.hover):
        trace |= {"hovertext": list(map(_text, series.hover)), "hovertemplate": "%{hovertext}<extra></extra>"}
    return trace


def _legend_key(series: Series) -> dict[str, Any]:
    """A legend entry in one colour, for a series that has a colour for each point."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _text(series.name),
        "legendgroup": _text(series.name),
        "x": [None],
        "y": [None],
        "hoverinfo": "skip",
        "marker": _marker(replace(series, values=()), ROLES[series.role], scaled=True),
    }


def _strokes(series: Series, colour: str) -> dict[str, Any]:
    """How a scatter trace is stroked: points alone, lines with small points, or steps."""
    if series.style == "points":
        return {"mode": "markers", "opacity": 0.45 if series.role == "faint" else 1.0}
    named = series.role in ("best", "second", "third")
    if series.style == "area":
        return {"mode": "none", "fill": "toself", "fillcolor": _faded(colour), "hoverinfo": "skip"}
    line = {"color": colour, "width": 2.5 if named else 1.4}
    if series.style == "curve":
        return {"mode": "lines", "line": line, "connectgaps": False}
    if series.style == "steps":
        return {"mode": "lines", "line": {**line, "shape": "hv"}}
    return {"mode": "lines+markers", "line": line, "opacity": 1.0 if named else 0.7, "connectgaps": False}


def _faded(colour: str) -> str:
    """A colour `#rrggbb` that lets most of what lies under it through."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def _marker(series: Series, colour: str, scaled: bool) -> dict[str, Any]:
    if series.style == "bars":
        return {"color": colour}
    if series.style != "points":
        return {"color": colour, "size": 5 if series.role in ("best", "second", "third") else 4}
    marker: dict[str, Any] = {"symbol": _SYMBOLS[series.symbol], "size": _SIZES[series.symbol], "color": colour}
    if series.symbol == "ring":
        marker["line"] = {"width": 2}
    if series.symbol == "star":
        marker["line"] = {"width": 1, "color": "#ffffff"}
    if not scaled:
        marker["size"] = 4
    if len(series.values):
        marker |= {"color": _numbers(series.values), "coloraxis": "coloraxis"}
    return marker


def _add_mark(figure: go.Figure, mark: Mark) -> None:
    line = {"color": ROLES["faint"], "width": 1, "dash": "dot"}
    note = {"text": _text(mark.label), "font": {"size": 11, "color": ROLES["faint"]}}
    if mark.vertical:
        figure.add_vline(mark.value, line=line, annotation=note, annotation_position="top right")
    else:
        figure.add_hline(mark.value, line=line, annotation=note, annotation_position="top right")


def _add_note(figure: go.Figure, note: Note) -> None:
    figure.add_annotation(x=note.x, y=note.y, text=_text(note.text), showarrow=False, font={"size": 10.5})


def _numbers(values: Sequence[float]) -> np.ndarray:
    """Single precision halves the page, and is finer than any screen."""
    return np.asarray(values, dtype=np.float32)


def _text(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")
