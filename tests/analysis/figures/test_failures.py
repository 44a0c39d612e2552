from analysis.figures import failure_counts
from analysis.frames import load_experiment


def test_failures_by_cause(make):
    out_of_memory = {"kind": "OutOfMemoryError", "message": "no memory", "where": "a/b.py:7", "traceback_file": None}

    def fail(number, config, reports):
        reports[0] |= {"failure": out_of_memory} if number < 5 else {}

    trials = load_experiment(make(edit=fail)).trials
    plot = failure_counts(trials)
    assert dict(zip(plot.y.categories, plot.series[0].x, strict=True)) == {
        "OutOfMemoryError (b.py:7)": 5,
        "DivergedError (trainer.py:123)": 2,
    }
    assert failure_counts(trials[trials["state"] != "FAILED"]).series == ()
