"""Experiments out of the ordinary: each must give a report that makes sense."""

import html
import json
import math
import re

import pytest

from analysis.figures import plots_of
from analysis.frames import load_experiment
from analysis.page import render
from trainable.errors import ExperimentError

HOSTILE = "</script><script>alert(1)</script>"


def read(path):
    """The page, and its text without scripts, styles and tags."""
    experiment = load_experiment(path)
    page = render(experiment, plots_of(experiment))
    shown = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return page, " ".join(html.unescape(re.sub(r"<[^>]*>", " ", shown)).split())


def sections(page):
    return re.findall(r'<section id="([\w-]+)"', page)


def rewrite(path, **changes):
    manifest = json.loads((path / "experiment.json").read_text())
    kept = {**manifest, **changes}
    (path / "experiment.json").write_text(json.dumps({k: v for k, v in kept.items() if v is not None}))


def calm(number, config, reports):
    config["learning_rate"] = 1e-3


def test_no_trial_finished(make):
    page, text = read(make(trials=6, until_seconds=5.0, edit=calm))
    assert "The best so far is trial" in text
    assert "wait for the search to end" in text
    assert "had not ended when this page was written" in text
    assert "curves" in sections(page)


def test_a_search_that_has_only_begun(make):
    page, text = read(make(until_seconds=0.0))
    assert "No trial has a result yet. All 2 trials are waiting." in text
    assert "best" not in sections(page)


def test_one_trial(make):
    page, text = read(make(trials=1, edit=calm))
    assert "No other trial has a value that it could be compared with." in text
    assert "Too few trials have a value to tell which hyperparameter mattered" in text
    assert {"best", "hyperparameters", "curves", "trials", "cost"} <= set(sections(page))


def test_all_failed(make):
    def diverge(number, config, reports):
        config["learning_rate"] = 9e-3

    page, text = read(make(edit=diverge))
    assert "No trial gave a result. All 16 trials failed. The failures, all alike: DivergedError" in text
    assert "best" not in sections(page)
    assert {"failures", "trials", "cost"} <= set(sections(page))


def test_a_constant_hyperparameter(make):
    def hold(number, config, reports):
        config.update(learning_rate=1e-3, weight_init="xavier")

    space = {"logit_scale": "uniform(1,4)", "embedding_dim": "choice(2,4,8,16,32,64,128)"}
    _, text = read(make(edit=hold, space=space))
    assert "Held at xavier in this experiment." in text
    assert "over 2 hyperparameters" in text
    verdict = text.partition("What was found")[2].partition("What was asked")[0]
    assert "learning rate" not in verdict


def test_nothing_varied(make):
    def hold(number, config, reports):
        config.update(learning_rate=1e-3, logit_scale=2.0, embedding_dim=8, weight_init="xavier")

    _, text = read(make(trials=3, edit=hold, space={}))
    assert "No hyperparameter was varied; next, " in text


def test_metrics_that_are_all_nan(make):
    def spoil(number, config, reports):
        calm(number, config, reports)
        for report in reports:
            report.update(val_accuracy=math.nan, val_loss=math.inf)

    page, text = read(make(trials=5, edit=spoil))
    assert "No trial gave a result." in text
    assert " nan" not in text
    assert "trials" in sections(page)


def test_metrics_that_turn_nan(make):
    def spoil(number, config, reports):
        calm(number, config, reports)
        for report in reports[2:]:
            report["val_accuracy"] = math.nan

    _, text = read(make(trials=5, scheduler="none", edit=spoil))
    assert re.search(r"The best is trial \d+ .* after [12] of 8 epochs", text)


@pytest.mark.parametrize("torn", [b'{"event": "report", "trial', b"\x00\xff"])
def test_a_torn_ledger_line(make, torn):
    path = make(trials=4, edit=calm)
    whole = read(path)[1]
    with (path / "ledger.jsonl").open("ab") as ledger:
        ledger.write(torn)
    at = re.compile(r"Written .* UTC")
    assert at.sub("", read(path)[1]) == at.sub("", whole)


def test_an_experiment_of_an_older_version(make):
    """Before data counts, metrics by name, slots' units and evaluations; with an event that was dropped since."""
    path = make(trials=6, edit=calm)
    gone = ("metrics", "dataset", "resources", "versions", "hardware", "git_commit", "fixed", "space", "created")
    rewrite(path, **dict.fromkeys(gone), grace_epochs=None, reduction_factor=None)
    lines = [json.loads(line) for line in (path / "ledger.jsonl").read_text().splitlines()]
    for line in lines:
        if line["event"] == "search_started":
            line.pop("unit"), line.pop("units")
    lines.insert(3, {"event": "heartbeat", "trial_id": None, "time": lines[2]["time"]})
    (path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    best = {"trial_id": "t0001", "epoch": 8, "config": {"learning_rate": 1e-3}, "metrics": {"val_accuracy": 0.5}}
    (path / "best.json").write_text(json.dumps(best))
    page, text = read(path)
    assert "Trial 1 at epoch 8" in text
    assert "One seed each says little" in text
    assert {"found", "asked", "best", "hyperparameters", "curves", "trials", "cost"} <= set(sections(page))


@pytest.mark.parametrize("best", [{}, {"config": {"a": 1}}, {"trial_id": "gone", "metrics": None}])
def test_a_best_json_that_says_less(make, best):
    path = make(trials=3, edit=calm)
    (path / "best.json").write_text(json.dumps(best))
    assert "found" in sections(read(path)[0])


@pytest.mark.parametrize("text", ["[]", "{", "\xff"])
def test_a_best_json_that_is_none_is_an_error_in_words(make, text):
    path = make(trials=2)
    (path / "best.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ExperimentError, match=r"best\.json must hold a JSON object"):
        load_experiment(path)


def test_hostile_names_everywhere(make):
    def hostile(number, config, reports):
        calm(number, config, reports)
        config["weight_init"] = HOSTILE
        config[HOSTILE] = number
        for report in reports:
            report[f"val_{HOSTILE}"] = 0.5
        if number == 0:
            reports[0]["failure"] = dict.fromkeys(("kind", "message", "where"), HOSTILE) | {"traceback_file": None}

    counts = {split: {HOSTILE: 7, "b": 7} for split in ("train", "validation", "test")}
    path = make(trials=9, edit=hostile, dataset={"name": HOSTILE, "classes": [HOSTILE], "counts": counts})
    everything = dict.fromkeys(
        ("name", "created", "git_commit", "algorithm", "scheduler", "space_name", "seed"), HOSTILE
    )
    rewrite(path, **everything, command=[HOSTILE], versions={HOSTILE: HOSTILE}, space={HOSTILE: HOSTILE})
    config = {HOSTILE: HOSTILE}
    (path / "best.json").write_text(json.dumps({"trial_id": HOSTILE, "config": config, "epoch": HOSTILE}))
    page, text = read(path)
    assert "<script>alert" not in page
    assert "alert(1)</script" not in page
    assert text.count(HOSTILE) > 15
