from pathlib import Path

import pytest

from trainable.config import TrialConfig
from trainable.errors import ExperimentError, GlanceError
from trainable.training.run_folder import RunFolder


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (Path("/proc/nope/x"), tmp_path / "file" / "x"):
        with pytest.raises(ExperimentError, match=f"must be writable, but {path}: "):
            RunFolder.create(path, TrialConfig(), {})


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("run.json", '{"config": {}}', "must hold the run's dataset"),
        ("run.json", "{", r"run\.json must hold JSON"),
        ("best.json", "{", r"best\.json must hold a JSON object, but: "),
        ("best.json", "[]", r"best\.json must hold a JSON object"),
        ("reports.jsonl", '{"epoch": 1}\nx\n', r"reports\.jsonl must hold a JSON object, but: "),
    ],
)
def test_a_run_folder_with_an_odd_file_is_named(file, text, words, tmp_path):
    RunFolder.create(tmp_path / "run", TrialConfig(), {"name": "synthetic"})
    (tmp_path / "run" / file).write_text(text)

    def read():
        folder = RunFolder.open(tmp_path / "run")[0]
        return folder.read_best(), folder.read_reports()

    with pytest.raises(GlanceError, match=words):
        read()
