import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import load
from analysis.figures import files
from analysis.report import _parser, main, write_report
from trainable.storage.mirror import Mirror
from trainable.storage.storage import open_storage
from trainable.storage.uploader import Uploader

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(files, "DOTS_PER_INCH", 30)


def test_writes_the_page_and_the_figures(demo, tmp_path, capsys):
    assert main([str(demo), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    figures = {path.name: path.read_bytes()[:8] for path in (tmp_path / "figures").iterdir()}
    kinds = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml ve"}
    assert {name: start for name, start in figures.items() if start != kinds[Path(name).suffix]} == {}
    assert {f"val_accuracy_against_{name}.png" for name in ("learning_rate", "weight_init")} < set(figures)
    assert {"curves_val_loss.png", "best_so_far.png", "best_so_far.svg"} < set(figures)
    out = capsys.readouterr().out
    assert "The best is trial 7" in out
    assert f"report   {tmp_path / 'report.html'}" in out
    assert f"figures  {tmp_path / 'figures'}" in out


def test_writes_into_the_experiment_by_default_and_again(make):
    path = make(trials=0)
    assert write_report(path) == path / "report.html" == write_report(path)
    assert not list(path.rglob("*.tmp"))


@pytest.mark.parametrize("options", [{"trials": 0}, {"trials": 1}, {"until_seconds": 20.0}])
def test_an_unfinished_or_tiny_search_has_a_report(make, options):
    assert main([str(make(**options))]) == 0


def test_metrics_that_are_all_nan_have_a_report(make):
    def lost(number, config, reports):
        config["learning_rate"] = 1e-3
        for epoch in reports:
            epoch.update(val_accuracy=math.nan, val_loss=math.nan)

    path = make(trials=2, edit=lost)
    assert main([str(path)]) == 0
    drawn = {figure.stem for figure in (path / "figures").iterdir()}
    assert {name for name in drawn if name.startswith("curves")} == {"curves_train_accuracy", "curves_train_loss"}


def test_a_folder_that_is_no_experiment(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert "must hold experiment.json" in capsys.readouterr().err


def test_an_unwritable_out(demo, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([str(demo), "--out", str(tmp_path / "file")]) == 2
    assert "Choose another with --out." in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "md"])
def test_one_text_can_be_printed(demo, capsys, form):
    assert main([str(demo), "--format", form, "--out", "-"]) == 0
    printed = capsys.readouterr().out
    assert "The best is trial 7" in printed
    assert form == "md" or json.loads(printed)["name"] == "demo"


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("md", {"report.md", "figures"}),
        ("json", {"report.json"}),
        ("csv", {"trials.csv", "reports.csv"}),
        ("parquet", {"trials.parquet", "reports.parquet"}),
    ],
)
def test_other_formats_are_written_beside(demo, tmp_path, capsys, form, names):
    assert main([str(demo), "--format", form, "--out", str(tmp_path / "new" / "here")]) == 0
    assert {path.name for path in (tmp_path / "new" / "here").iterdir()} == names
    assert f"{tmp_path / 'new' / 'here'}/{min(names - {'figures'})}" in capsys.readouterr().out


def test_several_experiments_are_compared_on_one_page(make, tmp_path, capsys):
    places = [str(make("a", trials=4)), str(make("b", trials=4, seed=5))]
    assert main([*places, "--out", str(tmp_path / "both")]) == 0
    page = (tmp_path / "both" / "comparison.html").read_text()
    assert "Glance comparison" in page
    assert "default-src 'none'; style-src" in page
    assert "At an equal budget of" in capsys.readouterr().out
    assert (tmp_path / "both" / "figures" / "best_so_far_by_epochs.png").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["other"], "a comparison must be told where to go"),
        (["--out", "-"], "--out - must go with --format md or json, but got html"),
        (["--out", "-", "--format", "csv"], "but got csv"),
        (["--out", "s3://bucket/x"], "must be a file or folder of this machine"),
        (["--watch", "--out", "x"], "--watch serves a page and writes nothing"),
        (["--watch", "--format", "md"], "--watch serves a page and writes nothing"),
        (["--port", "80"], "--host and --port must go with --watch"),
        (["--host", "0.0.0.0"], "--host and --port must go with --watch"),
        (["--watch", "--port", "70000"], "--port must be from 0 to 65535"),
        (["--format", "pdf"], "invalid choice: 'pdf'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(demo, capsys, flags, sentence):
    assert main([str(demo), *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_every_flag_stands_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    flags = [
        option for action in _parser()._actions for option in action.option_strings if option not in ("-h", "--help")
    ]
    assert len(flags) > 5
    assert [flag for flag in flags if f"`{flag}`" not in readme] == []


def test_other_metrics_are_not_compared(demo, make, tmp_path, capsys):
    other = make("other", trials=2, metric="val_loss", mode="min")
    assert main([str(demo), str(other), "--out", str(tmp_path)]) == 2
    assert "must have searched by the same metric" in capsys.readouterr().err


def loaded_after(statement):
    code = f"import json, sys; {statement}; print(json.dumps(sorted(name.split('.')[0] for name in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_importing_the_analysis_loads_no_heavy_library():
    assert not {"torch", "ray", "pandas", "plotly", "matplotlib"} & loaded_after("import analysis, analysis.report")


@pytest.mark.e2e
def test_a_report_loads_neither_torch_nor_ray(demo, tmp_path):
    loaded = loaded_after(
        f"from analysis.report import write_report as w; from pathlib import Path as P; "
        f"w(P({str(demo)!r}), P({str(tmp_path)!r}))"
    )
    assert {"pandas", "plotly", "matplotlib"} <= loaded
    assert not {"torch", "ray", "optuna"} & loaded


def test_an_experiment_in_a_bucket_is_read_from_there_and_gets_its_report(demo, tmp_path, s3, capsys):
    storage = open_storage("s3://glance/results/demo")
    Mirror(open_storage("s3://glance/results"), "demo", demo, Uploader(), without=("report.html", "figures")).close(30)

    assert main(["s3://glance/results/demo/"]) == 0
    out = capsys.readouterr().out
    assert "The best is trial 7" in out
    assert "report   s3://glance/results/demo/report.html" in out
    page = storage.get("report.html").decode()
    assert "glance-train --config s3://glance/results/demo/best.json" in page
    assert str(tmp_path) not in page
    assert any(key.endswith(".png") for key in storage.sizes("figures/"))

    assert main(["s3://glance/results/demo", "--out", str(tmp_path / "here")]) == 0
    assert (tmp_path / "here" / "report.html").exists()
    assert main(["s3://glance/results/demo", "--format", "csv"]) == 0
    assert storage.get("trials.csv").decode().startswith("trial_id,number,state,rank,")
    assert len(load("s3://glance/results/demo")[1]) == 16
    assert main(["s3://glance/results/none"]) == 2
    assert "has none" in capsys.readouterr().err
