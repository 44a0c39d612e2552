import numpy as np
import pytest

from analysis.figures import timeline
from analysis.plot import HeatMap


def test_the_timeline_has_a_bar_for_each_stay(experiment):
    stints = experiment.stints
    plot = timeline(stints, experiment.seconds)
    bars = [bar for series in plot.series for bar in zip(series.base, series.x, series.y, strict=True)]
    assert sorted(bars) == sorted(
        (row["began"], row["ended"] - row["began"], 1 - row["slot"]) for row in stints.to_dict("records")
    )
    assert plot.y.categories == ("slot 2", "slot 1")
    busy = (stints["ended"] - stints["began"]).sum() / (2 * experiment.seconds)
    assert plot.caption.endswith(f"idle {1 - busy:.1%} of the time.")


def test_very_many_stays_are_shown_as_shares(experiment, monkeypatch):
    monkeypatch.setitem(timeline.__globals__, "BARS", 5)
    found = timeline(experiment.stints, experiment.seconds)
    assert isinstance(found, HeatMap)
    busy = (experiment.stints["ended"] - experiment.stints["began"]).sum() / (2 * experiment.seconds)
    assert np.mean(found.values) == pytest.approx(busy)
    assert "16 stays of trials are too many" in found.caption
