import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from analysis import page, tables
from analysis.figures import plots_of
from analysis.frames import load_experiment
from search.ledger import SEARCH_STATES, LedgerWriter

HOSTILE = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Collects elements, their text by tag, and every attribute that a browser would load or follow."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.open.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("src", "href", "action", "data", "poster", "srcset") if name in values]
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        tag = self.open[-1] if self.open else ""
        self.text.setdefault(tag, []).append(data)
        if tag == "td":
            self.rows[-1].append(data)


def read(experiment_path):
    experiment = load_experiment(experiment_path)
    html = page.render(experiment, plots_of(experiment), written=datetime(2026, 11, 23, 12, tzinfo=UTC))
    return html, Reader(html)


@pytest.fixture(scope="module")
def demo_page(demo):
    return read(demo)


def figures_in(reader):
    return json.loads(next(data for data in reader.text["script"] if data.startswith('{"figures"')))["figures"]


def test_every_section_is_there(demo_page):
    _, reader = demo_page
    sections = ["found", "asked", "best", "best-model", "hyperparameters", "curves", "progress", "failures", "trials"]
    sections += ["cost", "reproduce"]
    assert [id_ for id_ in reader.ids if id_ in sections] == sections
    assert {f"#{name}" for name in sections} <= set(reader.links)
    assert set(reader.links) <= {f"#{id_}" for id_ in reader.ids}


def test_every_figure_has_its_place(demo_page):
    _, reader = demo_page
    assert {f"plot-{name}" for name in figures_in(reader)} <= set(reader.ids)
    assert len(figures_in(reader)) == 17


def test_the_page_loads_nothing(demo_page):
    html, reader = demo_page
    assert all(link.startswith("#") for link in reader.links)
    assert "default-src 'none'" in html
    assert "@import" not in "".join(reader.text["style"])


def test_plotly_is_embedded_once(demo_page):
    html, _ = demo_page
    assert html.count("plotly.js v") == 1


def test_the_best_config_and_its_command(demo, demo_page):
    _, reader = demo_page
    blocks = reader.text["pre"]
    assert (
        json.loads(next(block for block in blocks if block.startswith("{")))
        == json.loads((demo / "best.json").read_text())["config"]
    )
    assert any(block.startswith("glance-train --config ") and block.endswith("best.json") for block in blocks)
    assert "0.861" in reader.text["strong"]


def test_the_table_lists_all_trials_best_first(demo_page):
    _, reader = demo_page
    rows = [row for row in reader.rows if len(row) == 11]
    assert [row[1] for row in rows] == [
        "7",
        "9",
        "15",
        "1",
        "12",
        "5",
        "0",
        "6",
        "13",
        "11",
        "10",
        "3",
        "4",
        "2",
        "8",
        "14",
    ]
    assert rows[0][:7] == ["1", "7", "trained to the end", "0.8105", "8", "8", rows[0][6]]
    assert rows[-1][:4] == ["–", "14", "failed", "–"]


def test_a_long_table_is_cut_and_says_so(demo, monkeypatch):
    monkeypatch.setattr(tables, "ROWS", 5)
    html, reader = read(demo)
    assert len([row for row in reader.rows if len(row) == 11]) == 5
    assert "The best 5 of 16." in html


def test_failures_show_cause_place_count_and_traceback(demo_page):
    html, reader = demo_page
    assert "trainable/training/trainer.py:123" in reader.text["code"]
    assert "3 trials" in reader.text["span"]
    assert "failures/1f0c.txt" in reader.text["code"]
    assert any("DivergedError: nan <loss>" in block for block in reader.text["pre"])
    assert "nan &lt;loss&gt;" in html


def test_a_traceback_outside_the_folder_is_not_read(make):
    def fail(number, config, reports):
        reports[0]["failure"] = {"kind": "X", "message": "", "where": "", "traceback_file": "../secret.txt"}

    path = make(edit=fail)
    (path.parent / "secret.txt").write_text("the secret")
    assert "the secret" not in read(path)[0]


def test_how_to_reproduce(demo_page):
    _, reader = demo_page
    steps = next(block for block in reader.text["pre"] if block.startswith("git checkout 0964d70aa11b")).splitlines()
    assert steps[1] == "python search/run.py --algo asha --trials 16 --name demo"
    assert steps[2].startswith("glance-report ")
    facts = "".join(reader.text["td"])
    assert all(fact in facts for fact in ("9f2c" * 16, "2.13.0", "0964d70aa11b"))


def test_the_headline_names_the_versions_that_decide_a_result(demo_page):
    html, _ = demo_page
    assert all(name in html.partition("<h2")[0] for name in ("glance-tune 0.1.0", "torch 2.13.0", "ray 2.60.0"))


def test_hostile_names_are_shown_not_run(make):
    def hostile(number, config, reports):
        config["weight_init"] = HOSTILE if number % 2 else "xavier"
        if number == 0:
            reports[0]["failure"] = {"kind": HOSTILE, "message": HOSTILE, "where": HOSTILE, "traceback_file": None}

    dataset = {"name": HOSTILE, "classes": [HOSTILE], "counts": {"train": {HOSTILE: 3}}}
    path = make(name="hostile", edit=hostile, dataset=dataset, command=["run", HOSTILE])
    manifest = json.loads((path / "experiment.json").read_text())
    (path / "experiment.json").write_text(json.dumps({**manifest, "name": HOSTILE, "versions": {HOSTILE: HOSTILE}}))
    html, reader = read(path)
    assert HOSTILE not in html
    assert HOSTILE + " " in reader.text["h1"]
    assert len(reader.text["script"]) == 4
    assert not any("<" in data for data in reader.text["script"] if data.startswith('{"figures"'))


def test_a_running_search_has_no_final_best(make):
    html, reader = read(make(until_seconds=40.0))
    assert "had not ended when this page was written" in html
    assert "again for the state of then, or with <code>--watch</code>" in html
    assert "Its test accuracy is computed once, when the search ends." in html
    assert not any(block.startswith("glance-train") for block in reader.text["pre"])


def test_the_headline_says_what_the_search_cost(make):
    html, _ = read(make(trials=3, price_per_hour=2.0))
    assert re.search(r"cost: [\d.]+ CPU-hours.*, [\d.]+ in money", html)


@pytest.mark.parametrize("state", SEARCH_STATES)
def test_every_end_of_a_search_has_words(make, state):
    path = make(trials=1, until_seconds=1.0)
    with LedgerWriter(path / "ledger.jsonl") as ledger:
        ledger.search_ended(state)
    html, _ = read(path)
    assert f">{page._SEARCH_WORDS[state]}</span>" in html


def test_an_experiment_without_trials(make):
    _, reader = read(make(trials=0))
    assert "found" in reader.ids
    assert not {"best", "hyperparameters", "failures", "trials"} & set(reader.ids)


def test_a_sparse_manifest_is_enough(make):
    path = make(trials=3)
    (path / "experiment.json").write_text("{}")
    _, reader = read(path)
    assert {"found", "hyperparameters", "curves", "trials"} <= set(reader.ids)


def test_a_text_read_by_hovering_stands_once(demo_page):
    _, reader = demo_page
    document = json.loads(next(data for data in reader.text["script"] if data.startswith('{"figures"')))
    texts = document["texts"]
    assert len(set(texts)) == len(texts)
    trace = next(
        trace for trace in document["figures"]["val_accuracy_against_learning_rate"]["data"] if "hovertext" in trace
    )
    assert all("learning rate: " in texts[place] for place in trace["hovertext"])


def test_what_was_asked(demo_page):
    html, reader = demo_page
    assert "Which config gives the highest validation accuracy? Searched over 4 hyperparameters with 16 trials" in html
    assert ["0.0001 to 0.01", "logarithmic"] in reader.rows
    assert ["400", "60", "60"] in reader.rows


def test_the_cost_has_its_parts(demo_page):
    html, _ = demo_page
    assert "CPU-hours</strong>" in html
    assert "trials stopped early" in html


def test_changes_that_no_commit_holds_are_told(make):
    html, reader = read(make(trials=3, git_commit="0964d70aa11b-dirty"))
    assert any(block.startswith("git checkout 0964d70aa11b\n") for block in reader.text["pre"])
    assert "The code had changes that no commit holds" in html
