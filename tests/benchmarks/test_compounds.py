import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compounds


def leave(folder: Path, accuracy: float, both: float) -> Path:
    awed = {"images": 10, "accuracy": 0.0, "generalised_accuracy": 0.0}
    classes = {"awed": awed, "sadly_angry": {**awed, "parts": ["angry", "sad"], "both_parts": both}}
    metrics = {"test_unseen_accuracy": accuracy, "test_unseen_chance": 0.1}
    best: dict[str, Any] = {"metrics": metrics, "config": {}, "unseen": {"test": classes}}
    (folder / "best.json").write_text(json.dumps(best))
    return folder


@pytest.mark.parametrize(("accuracy", "both", "status"), [(0.31, 0.6, 0), (0.29, 0.6, 1), (0.31, 0.5, 1)])
def test_both_rules_must_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], accuracy: float, both: float, status: int
) -> None:
    assert compounds.main([str(leave(tmp_path, accuracy, both))]) == status

    out = capsys.readouterr().out
    assert out.index("sadly_angry") < out.index("awed")
    assert json.loads(out.splitlines()[-1])["metrics"]["test_unseen_accuracy"] == accuracy


def test_an_experiment_without_figures_of_unseen_classes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "best.json").write_text(json.dumps({"metrics": {"test_accuracy": 0.5}}))

    assert compounds.main([str(tmp_path)]) == compounds.main([str(tmp_path / "none")]) == 2
    assert "search on synthetic, to the end" in capsys.readouterr().err
