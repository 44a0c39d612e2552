"""The command: what it writes, says and refuses. Whether exports are exact is tested in `exports/`."""

import importlib.util
import json

import pytest

from trainable.export import main
from trainable.exports import comparison


def test_a_model_for_transformers_is_written_whole_and_compared(model, tmp_path, capsys):
    out = tmp_path / "new" / "exported"
    assert main(["--model", str(model), "--out", str(out), "--format", "transformers"]) == 0
    printed = capsys.readouterr()
    assert "modeling_glance.py, because its image tower is a resnet" in printed.out
    assert "of Glance's" in printed.out
    files = {path.name for path in out.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "modeling_glance.py", "prompts.json"} <= files
    assert "image.onnx" not in files
    assert list(out.parent.iterdir()) == [out]
    assert {path.stat().st_mode for path in out.iterdir()} == {(out / "prompts.json").stat().st_mode}
    document = json.loads((out / "prompts.json").read_text())
    assert document["classes"]["fear"][0] == document["templates"]["en"][0].format(adjective_en="fearful")


def test_a_model_that_says_something_else_is_not_kept(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(comparison, "transformers_logits", lambda *_: comparison.torch.zeros(4, 42))
    out = tmp_path / "exported"
    assert main(["--model", str(model), "--out", str(out), "--format", "transformers"]) == 2
    assert "must give Glance's logits to 0.0001" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_packages_that_are_missing_are_named(model, tmp_path, capsys, monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: known(name) if name != "onnxscript" else None)
    assert main(["--model", str(model), "--out", str(tmp_path / "exported"), "--format", "onnx"]) == 2
    assert "but onnxscript cannot be found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "words"), [(".", "--out must be a new or empty folder"), ("file/x", "that can be written")]
)
def test_a_place_that_cannot_be_written_is_refused(place, words, model, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--model", str(model), "--out", str(tmp_path / place), "--format", "transformers"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_model_must_be_there(tmp_path, capsys):
    assert main(["--model", str(tmp_path), "--out", str(tmp_path / "exported")]) == 2
    assert "a model folder must hold" in capsys.readouterr().err
