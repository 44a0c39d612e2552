from analysis.figures import survivors
from tests.analysis.figures.conftest import named


def test_survivors_add_up_to_the_trials(experiment):
    trials = experiment.trials
    plot = survivors(trials, 8, [1, 3])
    assert plot.y.categories == ("epoch 8, the last", "epoch 3", "epoch 1", "started")
    rows = {}
    for series in plot.series:
        for row, count, base in zip(series.y, series.x, series.base, strict=True):
            assert base == rows.get(row, 0)
            rows[row] = base + count
    assert [rows[row] for row in (3, 2, 1, 0)] == [len(trials), *((trials["epochs"] >= e).sum() for e in (1, 3, 8))]
    stopped = named(plot, "stopped here")
    assert sum(stopped.x) == (trials["state"] == "STOPPED").sum()
    assert plot.caption.startswith("14 of 16 reached epoch 1; 7 of 14 reached epoch 3; ")


def test_without_rungs_survivors_are_counted_at_epochs(experiment):
    plot = survivors(experiment.trials, 8)
    assert plot.y.categories[::-1] == ("started", *(f"epoch {epoch}" for epoch in range(1, 8)), "epoch 8, the last")
    finished = experiment.trials[experiment.trials["state"] == "FINISHED"]
    assert survivors(finished, 8).series == ()
