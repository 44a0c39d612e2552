import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.frames import load_experiment
from analysis.page import render
from analysis.unseen import both_parts, unseen_section

METRICS = {
    **{"test_accuracy": 0.9, "test_balanced_accuracy": 0.8, "test_chance": 1 / 7},
    **{"test_unseen_accuracy": 0.4, "test_unseen_balanced_accuracy": 0.375, "test_unseen_chance": 1 / 3},
    **{"test_harmonic_accuracy": 0.25, "test_harmonic_balanced_accuracy": 0.2, "test_generalised_chance": 0.1},
}
UNSEEN = {
    "test": {
        "awed": {"images": 20, "accuracy": 0.1, "generalised_accuracy": 0.05},
        "sadly_angry": {
            "images": 30,
            "accuracy": 0.5,
            "generalised_accuracy": 0.25,
            "parts": ["angry", "sad"],
            "both_parts": 0.8,
        },
        "sadly_fearful": {
            "images": 10,
            "accuracy": 1.0,
            "generalised_accuracy": 0.0,
            "parts": ["fear", "sad"],
            "both_parts": 0.4,
        },
    },
    "validation": {"contempt": {"images": 4, "accuracy": 1.0, "generalised_accuracy": 0.5}},
}


@pytest.fixture
def tested(make: Callable[..., Path]) -> Path:
    path = make("tested")
    config = {"learning_rate": 1e-3}
    best = {"trial_id": "t", "epoch": 2, "config": config, "metrics": METRICS, "unseen": UNSEEN}
    (path / "best.json").write_text(json.dumps(best))
    return path


def test_the_classes_whose_names_say_no_parts_come_last_and_shares_are_of_images(tested: Path) -> None:
    section = unseen_section(load_experiment(tested))

    assert section is not None
    test, validation = section["groups"]
    assert [row["name"] for row in test["rows"]] == ["sadly angry", "sadly fearful", "awed"]
    assert (test["apart"], validation["apart"]) == (True, False)
    assert test["rows"][0] == {
        **{"name": "sadly angry", "parts": "angry and sad", "images": "30"},
        **{"accuracy": "0.500", "generalised": "0.250", "both": "0.800"},
    }
    assert (test["rows"][2]["parts"], test["rows"][2]["both"]) == ("", "–")
    assert both_parts(UNSEEN["test"]) == pytest.approx((30 * 0.8 + 10 * 0.4) / 40)
    assert "70%" in test["sentence"]
    assert (both_parts(UNSEEN["validation"]), validation["sentence"]) == (None, None)
    assert section["measures"] == [
        ("seen, among the seen", "0.900", "0.800", "0.143"),
        ("unseen, among the unseen", "0.400", "0.375", "0.333"),
        ("harmonic mean of the last two", "0.250", "0.200", "0.100"),
    ]


def test_the_page_has_the_section_only_where_unseen_classes_were_tested(tested: Path, demo: Path) -> None:
    page = render(load_experiment(tested), {})
    for text in ('<section id="unseen">', 'href="#unseen"', "sadly angry", "angry and sad", "0.375"):
        assert text in page, text
    assert '<section id="unseen">' not in render(load_experiment(demo), {})


@pytest.mark.parametrize(
    ("metric", "candidates"),
    [("val_accuracy", 7), ("val_unseen_accuracy", 4), ("val_harmonic_balanced_accuracy", 11)],
)
def test_chance_is_that_of_the_metrics_own_candidates(make: Callable[..., Path], metric: str, candidates: int) -> None:
    path = make("made")
    manifest: dict[str, Any] = json.loads((path / "experiment.json").read_text())
    manifest |= {"metric": metric}
    manifest["dataset"]["unseen"] = {"validation": list("abcd"), "test": ["e"]}
    (path / "experiment.json").write_text(json.dumps(manifest))

    experiment = load_experiment(path)
    assert experiment.chance == pytest.approx(1 / candidates)
    assert experiment.chance_of("val_accuracy") == pytest.approx(1 / 7)
