import numpy as np
import pytest

from analysis.association import associations
from analysis.frames import load_experiment


def paint(value):
    """An edit that gives each trial `value(config)` after every epoch, and a rate that does not diverge."""

    def edit(number, config, reports):
        config["learning_rate"] = float(1e-4 * 40 ** np.random.default_rng(number).uniform())
        for report in reports:
            report["val_accuracy"] = value(config)

    return edit


def shares(make, value, trials=60):
    found = associations(load_experiment(make(trials=trials, edit=paint(value))))
    return {one.name: one for one in found.found}


def test_what_decides_stands_out_and_nothing_else(make):
    found = shares(make, lambda config: 0.2 + 0.1 * config["logit_scale"])
    assert [name for name, one in found.items() if one.stands_out] == ["logit_scale"]
    assert next(iter(found)) == "logit_scale"
    assert found["logit_scale"].share > 0.8


def test_an_optimum_inside_the_range_counts(make):
    found = shares(make, lambda config: 0.8 - 0.1 * abs(config["logit_scale"] - 2.5))
    assert found["logit_scale"].stands_out


def test_a_category_counts(make):
    worth = {"kaiming": 0.8, "xavier": 0.6, "orthogonal": 0.4, "trunc_normal": 0.2}
    found = shares(make, lambda config: worth[config["weight_init"]])
    assert found["weight_init"].share == pytest.approx(1.0, abs=0.01)


def test_equal_trials_let_nothing_stand_out(make):
    assert not any(one.stands_out for one in shares(make, lambda config: 0.5).values())


def test_few_trials_tell_nothing(make):
    assert associations(load_experiment(make(trials=4))) is None
    assert associations(load_experiment(make("none", trials=0))) is None


def test_trials_are_compared_where_half_of_them_came(demo):
    found = associations(load_experiment(demo))
    last = load_experiment(demo).trials.query("state != 'FAILED'")["epochs"]
    assert found.epoch == sorted(last, reverse=True)[max(8, (len(last) + 1) // 2) - 1]
    assert found.trials == (last >= found.epoch).sum()
