import io
import json
import math

import pandas as pd
import pytest

from analysis import compare, load
from analysis.formats import comparison_of, report_of
from analysis.frames import load_experiment
from analysis.markdown_text import escape, table
from analysis.verdict import details, verdict


@pytest.fixture(scope="module")
def experiment(demo):
    return load_experiment(demo)


def test_json_has_what_the_page_says(experiment):
    document = json.loads(report_of(experiment, "json").files["report.json"])
    assert document["verdict"] == verdict(experiment)
    assert document["details"] == details(experiment)
    assert document["best_model"]["sentences"]
    assert document["spent"][0]["unit"] == "CPU"
    assert [row["number"] for row in document["trials"]] == list(range(16))
    assert document["trials"][0]["config/learning_rate"] == experiment.trials.loc[0, "config/learning_rate"]
    assert document["failures"][0]["count"] == int((experiment.trials["state"] == "FAILED").sum())
    assert document["best_trial"]["number"] == 7
    names = {plot["name"] for plots in document["plots"].values() for plot in plots}
    assert "val_accuracy_against_learning_rate" in names
    (plot,) = [plot for plot in document["plots"]["curves"] if plot["name"] == "curves_val_accuracy"]
    drawn = [value for trace in plot["traces"] for value in trace["y"] if value is not None]
    assert len(drawn) == len(experiment.reports)


def test_json_of_values_that_are_not_finite_is_json(make):
    def lost(number, config, reports):
        reports[0]["val_accuracy"] = math.nan

    document = report_of(load_experiment(make(trials=2, edit=lost)), "json").files["report.json"]
    assert json.loads(document, parse_constant=pytest.fail)


@pytest.mark.parametrize(("form", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_tables_are_the_frames(demo, experiment, form, read):
    files = report_of(experiment, form).files
    assert set(files) == {f"trials.{form}", f"reports.{form}"}
    for name, frame in zip(("reports", "trials"), load(demo), strict=True):
        found = read(io.BytesIO(files[f"{name}.{form}"]))
        assert list(found) == list(frame)
        pd.testing.assert_frame_equal(found, frame, check_dtype=False, check_like=False)


def test_a_column_of_several_kinds_is_json_in_parquet(make):
    def mixed(number, config, reports):
        config["tower"] = "vit" if number else 3

    files = report_of(load_experiment(make(trials=2, edit=mixed)), "parquet").files
    trials = pd.read_parquet(io.BytesIO(files["trials.parquet"]))
    assert [json.loads(value) for value in trials["config/tower"]] == [3, "vit"]


def test_markdown_has_the_verdict_the_tables_and_links_to_the_figures(experiment):
    report = report_of(experiment, "md")
    text = report.files["report.md"].decode()
    assert text.startswith("# demo\n\n- The best is trial 7")
    for plot in report.plots:
        assert f"(figures/{plot.name}.png)" in text
    assert "| rank | trial | state |" in text
    assert "DivergedError" in text
    assert "glance-train --config" in text
    assert "## Best model" in text


def test_what_is_printed_has_no_links_to_figures_that_were_not_drawn(experiment):
    report = report_of(experiment, "md", printed=True)
    assert report.plots == ()
    assert "figures/" not in report.files["report.md"].decode()


def test_texts_from_the_data_are_escaped_in_markdown():
    assert escape("<script>a|b</script>\n# x_y") == r"\<script\>a\|b\</script\> \# x\_y"
    assert table(["a"], [["|"]]).splitlines()[-1] == r"| \| |"


@pytest.mark.parametrize("form", ["html", "md", "json", "csv", "parquet"])
def test_a_comparison_has_every_format(make, form):
    hostile = "<script>alert(1)</script>"
    found = compare(make("a", trials=4), make("b", trials=4, seed=9, algorithm=hostile))
    report = comparison_of(found, form)
    assert report.verdict
    if form in ("csv", "parquet"):
        read = pd.read_csv if form == "csv" else pd.read_parquet
        trials = read(io.BytesIO(report.files[f"trials.{form}"]))
        assert trials["experiment"].tolist() == ["a"] * 4 + ["b"] * 4
    elif form == "json":
        document = json.loads(report.files["comparison.json"], parse_constant=pytest.fail)
        assert document["settings"] == {"algorithm": ["asha", hostile], "seed": [2, 9]}
        assert [one["experiment"] for one in document["budgets"][0]["standings"]] == ["a", "b"]
    else:
        text = report.files[f"comparison.{form}"].decode()
        assert hostile not in text
        assert "alert(1)" in text
        assert "What differs" in text
