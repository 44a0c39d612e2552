"""What all pages share: templates that escape every text, style, script, and figures as data."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.io import to_json
from plotly.offline import get_plotlyjs

from analysis.draw_plotly import template
from analysis.plot import Drawable


def render_template(template_name: str, plots: Iterable[Drawable], **values: Any) -> str:
    """A page that loads nothing from anywhere: the template gets its style, script, plotly and `plots` as data."""
    environment = Environment(
        loader=PackageLoader("analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template_name).render(
        plots_json=_figures_json(plots),
        plotly_js=Markup(get_plotlyjs()),
        style=Markup(asset("report.css")),
        script=Markup(asset("report.js")),
        **values,
    )


def asset(name: str) -> str:
    """A file beside the templates."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _figures_json(plots: Iterable[Drawable]) -> Markup:
    """Figures and templates for the page's script; `<` is written so that no text can end the script element.

    A text that is read by hovering stands once, in `texts`, however many figures show its trial.
    """
    texts: dict[str, int] = {}
    figures = {plot.name: orjson.loads(to_json(plot.plotly(), validate=False)) for plot in plots}
    for figure in figures.values():
        layout = figure["layout"]
        for name in ("title", "template", "width", "height"):
            layout.pop(name, None)
        layout["margin"] = {**layout.get("margin", {}), "t": 36}
        for trace in figure["data"]:
            if trace.get("hovertext") is not None:
                trace["hovertext"] = _numbered(trace["hovertext"], texts)
    templates = {"light": template(dark=False), "dark": template(dark=True)}
    document = {"figures": figures, "texts": list(texts), "templates": templates}
    return Markup(orjson.dumps(document).decode().replace("<", "\\u003c"))


def _numbered(hovertext: Any, texts: dict[str, int]) -> Any:
    """The place of each text in `texts`, in lists as the texts stand in; a new text is added."""
    if isinstance(hovertext, list):
        return [_numbered(one, texts) for one in hovertext]
    return texts.setdefault(str(hovertext), len(texts))
