"""Colours of the report: one role each, readable on a light and on a dark page."""

from analysis.plot import Role

ROLES: dict[Role, str] = {
    "best": "#ec7a08",
    "second": "#0f9d8a",
    "third": "#a855d6",
    "finished": "#4a86e8",
    "stopped": "#97a1b0",
    "running": "#5aa832",
    "paused": "#4fb3bf",
    "failed": "#e0475b",
    "lost": "#b5651d",
    "faint": "#97a1b0",
}

LIGHT_SCALE = ("#bccbe4", "#7fa3e0", "#3f74d1", "#173c8f")
"""Few epochs pale, many dark: on white."""
DARK_SCALE = ("#5f6f8c", "#5478b8", "#6fa3f5", "#d3e4ff")
"""Few epochs dim, many bright: on a dark ground."""

LIGHT = {"ink": "#3b4453", "grid": "#e6e9ee", "line": "#b9c0cb", "ground": "#ffffff"}
DARK = {"ink": "#c3cad6", "grid": "#2a303b", "line": "#4b5565", "ground": "#181c23"}
