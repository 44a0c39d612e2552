"""Experiments to draw."""

import pytest

from analysis.frames import load_experiment
from tests.analysis.conftest import make_experiment


def named(plot, name):
    return next(series for series in plot.series if series.name == name)


@pytest.fixture(scope="session")
def experiment(demo):
    return load_experiment(demo)


@pytest.fixture(scope="session")
def random_search(tmp_path_factory):
    """Forty trials of one epoch, of which none is stopped; some diverged."""
    path = tmp_path_factory.mktemp("random") / "random"
    return load_experiment(make_experiment(path, trials=40, max_epochs=1, slots=4, seed=5, scheduler="none"))
