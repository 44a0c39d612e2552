import json
import math

import pytest

from analysis import compare
from analysis.comparison import EPOCHS, SLOT_TIME, asked_of
from analysis.comparison_figures import course_plot, standing_plot
from analysis.comparison_words import verdict
from trainable.errors import ConfigError, ExperimentError


def shifted(by):
    def edit(number, config, reports):
        config["learning_rate"] = 1e-3
        for report in reports:
            report["val_accuracy"] = min(0.99, max(0.01, report["val_accuracy"] + by))

    return edit


@pytest.fixture
def two(make):
    """Two searches of one seed; the second has fewer trials, and each is 0.05 worse."""
    return make("asha", trials=20, edit=shifted(0)), make(
        "random", trials=12, edit=shifted(-0.05), algorithm="random", scheduler="none"
    )


@pytest.fixture
def groups(make):
    """Three seeds of each of two algorithms."""
    return [
        make(f"{algorithm}-{seed}", trials=8, seed=seed, edit=shifted(by), algorithm=algorithm)
        for algorithm, by in (("asha", 0.0), ("random", -0.03))
        for seed in range(3)
    ]


def rewrite(path, **values):
    manifest = json.loads((path / "experiment.json").read_text())
    (path / "experiment.json").write_text(json.dumps({**manifest, **values}))


def test_all_are_cut_off_at_the_smallest_budget_that_all_reached(two):
    found = compare(*two)
    epochs, slots = found.budgets
    assert (epochs.kind, slots.kind, slots.unit) == (EPOCHS, SLOT_TIME, "CPU-seconds")
    assert epochs.amount == min(len(entry.course) for entry in found.entries)
    for budget in found.budgets:
        for one in budget.standings:
            within = one.entry.course[one.entry.course[budget.kind] <= budget.amount]
            assert one.value == within["value"].max()
            assert one.trials == within["number"].nunique()
            assert one.low <= one.value == one.high
    assert len(found.entries[0].course) > epochs.amount


def test_a_course_counts_what_was_spent_and_leaves_out_what_failed(two):
    course = compare(*two).entries[0].course
    assert course["epochs"].tolist() == list(range(1, len(course) + 1))
    assert course["trials"].is_monotonic_increasing
    assert course["slot_seconds"].is_monotonic_increasing
    assert course["best"].dropna().is_monotonic_increasing


def test_failed_trials_cost_and_find_nothing(make):
    def failing(number, config, reports):
        config["learning_rate"] = 1e-3
        if number == 0:
            reports[0]["val_accuracy"] = 0.99
            reports[1]["failure"] = {"kind": "E", "message": "m", "where": "w", "traceback_file": ""}

    found = compare(make("a", trials=6, edit=failing), make("b", trials=6, edit=shifted(0)))
    assert found.entries[0].course["best"].max() < 0.99
    assert math.isnan(found.budgets[0].standings[0].values[0])


def test_the_verdict_of_one_search_of_each_says_how_many_resamples_agree(two):
    sentences = verdict(compare(*two))
    evidence = compare(*two).budgets[0].evidence[0]
    assert (evidence.better, evidence.worse, evidence.method) == ("asha", "random", "trials")
    assert sentences[0].startswith("At an equal budget of ")
    assert "of the resamples of their trials" in sentences[0]
    assert any("of the 420 validation images" in sentence for sentence in sentences)
    assert sentences[-1].startswith("One search of each says nothing of other seeds")


def test_too_few_trials_are_said_to_be_too_few(make):
    first = verdict(compare(make("a", trials=3), make("b", trials=3, seed=5)))[0]
    assert "nothing can be said of which is better" in first
    assert "with a value by then, in one of them, " in first


def test_groups_are_named_by_what_differs_and_paired_by_seed(groups):
    found = compare(*groups)
    assert {name: len(members) for name, members in found.groups.items()} == {"asha": 3, "random": 3}
    (evidence,) = found.budgets[0].evidence
    assert (evidence.better, evidence.method, evidence.seeds, evidence.wins, evidence.sure) == (
        "asha",
        "paired",
        3,
        3,
        "hint",
    )
    first = verdict(found)[0]
    assert "asha is ahead of random" in first
    assert "won with 3 of 3 shared seeds" in first
    assert "3 cannot give less than 0.25" in first


def test_groups_without_shared_seeds_are_compared_by_mann_and_whitney(make):
    asked = {"asha": (0, 1), "random": (2, 3)}
    searches = [
        make(f"{algorithm}-{seed}", trials=3, seed=seed, edit=shifted(0), algorithm=algorithm)
        for algorithm, seeds in asked.items()
        for seed in seeds
    ]
    assert "by Mann and Whitney over 2 searches or more of each" in verdict(compare(*searches))[0]


def test_other_settings_name_groups_too(make):
    paths = [make(f"e{epochs}s{seed}", trials=3, max_epochs=epochs, seed=seed) for epochs in (4, 8) for seed in (0, 1)]
    for path in paths:
        rewrite(path, command=["x"])
    assert set(compare(*paths).groups) == {"max epochs 4", "max epochs 8"}


def test_only_what_was_asked_differently_is_listed(two):
    assert compare(*two).settings == {
        "algorithm": ("asha", "random"),
        "scheduler": ("asha", "none"),
        "trials": (20, 12),
    }


def test_what_was_asked_is_flat_and_has_nothing_that_only_happened():
    asked = asked_of(
        {
            "name": "a",
            "created": "now",
            "versions": {"torch": "1"},
            "space": {"learning_rate": "uniform(0,1)"},
            "dataset": {"name": "faces", "content_hash": "0123456789ab"},
            "resources": {"slots": 4, "cluster_cpus": 9},
            "seed": 3,
            "options": {"name": "a", "seed": 3, "sampler": "tpe", "storage": "results"},
            "fixed": {"seed": 3, "head_depth": 1},
        }
    )
    assert asked == {
        "space.learning_rate": "uniform(0,1)",
        "fixed.head_depth": 1,
        "sampler": "tpe",
        "seed": 3,
        "data": "faces 01234567",
        "slots": 4,
    }


def test_other_metrics_cannot_be_compared(two):
    rewrite(two[1], metric="val_loss", mode="min")
    with pytest.raises(ExperimentError, match=r"searched by the same metric.*val_loss \(min\).*Compare those that did"):
        compare(*two)


def test_other_data_are_compared_with_a_warning(two):
    rewrite(two[1], dataset={"name": "fer2013", "content_hash": "ffff"})
    (warning,) = compare(*two).warnings
    assert warning.startswith("The data differ (asha on synthetic 9f2c9f2c, random on fer2013 ffff)")


def test_an_experiment_without_a_report_has_nothing_to_compare(make):
    found = compare(make("a", trials=4), make("b", trials=0))
    assert found.budgets == ()
    assert verdict(found) == ["Nothing can be said yet: b has no report."]
    assert "Without a report nothing can be compared at equal budgets: b." in found.warnings


def test_an_experiment_stands_only_once(two):
    with pytest.raises(ConfigError, match="two or more different experiments"):
        compare(two[0], two[0])


def test_equal_names_are_told_apart_by_their_place(make):
    found = compare(make("one/same", trials=3), make("two/same", trials=3, seed=5))
    assert [entry.label for entry in found.entries] == [entry.experiment.place for entry in found.entries]


def test_a_course_is_drawn_for_each_experiment_and_a_legend_for_each_group(groups):
    found = compare(*groups)
    plot = course_plot(found, EPOCHS)
    assert [series.name for series in plot.series] == ["asha"] * 3 + ["random"] * 3
    assert [series.in_legend for series in plot.series] == [True, False, False] * 2
    assert len({series.role for series in plot.series}) == 2
    course = found.entries[0].course
    first = plot.series[0]
    assert first.x[-1] == len(course)
    assert first.y[-1] == course["best"].iloc[-1]
    assert list(first.y) == sorted(first.y)
    assert [mark.value for mark in plot.marks] == [found.budgets[0].amount]
    assert course_plot(found, "trials").marks == ()


def test_standings_are_drawn_with_the_best_on_top_and_their_intervals(two):
    found = compare(*two)
    plot = standing_plot(found, found.budgets[0])
    assert plot.y.categories == ("random", "asha")
    lines = [series for series in plot.series if series.style == "lines"]
    standing = {one.entry.label: one for one in found.budgets[0].standings}
    assert [list(line.x) for line in lines] == [
        [standing[name].low, standing[name].high] for name in ("random", "asha")
    ]
