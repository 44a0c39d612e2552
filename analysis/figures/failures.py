"""Why trials failed."""

from pathlib import PurePath

import pandas as pd

from analysis.plot import Axis, Plot, Series
from analysis.summary import failures, plural


def failure_counts(trials: pd.DataFrame) -> Plot:
    """How many trials failed of each cause; no series where none failed."""
    causes = failures(trials).iloc[::-1]
    labels = [
        f"{kind} ({PurePath(where).name})" if where else str(kind)
        for kind, where in zip(causes["kind"], causes["where"], strict=True)
    ]
    hover = [
        f"{plural(count, 'trial')}\n{message}"
        for count, message in zip(causes["count"], causes["message"], strict=True)
    ]
    bars = Series(
        name="failed trials",
        style="bars",
        role="failed",
        x=causes["count"].tolist(),
        y=list(range(len(causes))),
        hover=hover,
        in_legend=False,
    )
    return Plot(
        name="failures",
        title="Failed trials by cause",
        x=Axis(label="trials"),
        y=Axis(label="", categories=tuple(labels)),
        series=(bars,) if len(causes) else (),
    )
