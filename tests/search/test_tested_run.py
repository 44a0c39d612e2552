import io
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from search.event_files import EventFiles, folder_name
from search.spaces import build_space
from search.tested_run import write_tested_run
from tests.evaluations import evaluation, points
from trainable.data.contact_sheet import sheet_size

SHEETS = ("test/mistakes", "test/predictions")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "0007 lr=3.1e-03").mkdir()
    (tmp_path / "0070").mkdir()
    write_tested_run(tmp_path, 7, 12, evaluation(), points())
    return tmp_path / "0007 lr=3.1e-03" / "test epoch 12"


def sheets(run: Path) -> dict[str, tuple[int, Image.Image]]:
    accumulator = EventAccumulator(str(run))
    accumulator.Reload()
    found = {}
    for tag in accumulator.Tags()["tensors"]:
        (event,) = accumulator.Tensors(tag)
        width, height, png = tensor_util.make_ndarray(event.tensor_proto)
        found[tag] = event.step, Image.open(io.BytesIO(png))
        assert found[tag][1].size == (int(width), int(height))
    return found


def test_mistakes_and_predictions_are_sheets_of_the_trials_own_run(run: Path) -> None:
    found = sheets(run)
    assert {tag: (step, sheet.size) for tag, (step, sheet) in found.items()} == {
        "test/mistakes": (12, sheet_size(pictures=2, labels=2)),
        "test/predictions": (12, sheet_size(pictures=6, labels=2)),
    }


def test_the_projector_gets_every_prompt_with_its_words(run: Path) -> None:
    vectors = np.loadtxt(run / "prompts.tsv", delimiter="\t")
    words = [line.split("\t") for line in (run / "words.tsv").read_text().splitlines()]

    assert vectors == pytest.approx(points()["vectors"], rel=1e-4)
    assert words == [["prompt", "class", "language", "kind"], *map(list, points()["rows"])]
    assert '"prompts.tsv"' in (run / "projector_config.pbtxt").read_text()


def test_names_from_folders_break_no_line(tmp_path: Path) -> None:
    name = "a\tb\n<script>"
    few = points(count=1)
    few["rows"] = [(name, name, "en", "seen")]
    write_tested_run(tmp_path, 7, 1, evaluation((name, "c"), ()), few)

    run = tmp_path / "0007" / "test epoch 1"
    assert (run / "words.tsv").read_text().splitlines()[1] == "a b <script>\ta b <script>\ten\tseen"
    assert set(sheets(run)) == {*SHEETS}


def test_without_mistakes_there_is_no_sheet_of_them(tmp_path: Path) -> None:
    write_tested_run(tmp_path, 7, 1, {**evaluation(), "mistakes": []}, points())
    assert set(sheets(tmp_path / "0007" / "test epoch 1")) == {"test/predictions"}


@pytest.mark.e2e
def test_a_tensorboard_that_is_open_already_serves_prompts_and_pictures(
    tmp_path: Path, make_trial, tensorboard: Callable[[Path], Any], eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    folder, trial = tmp_path / "files", make_trial(7, "RUNNING", [0.5], config={"embedding_dim": 8})
    with EventFiles(folder, build_space("scratch", [], max_epochs=4), "val_accuracy") as files:
        files.reported(trial, trial.reports[0])
    server = tensorboard(folder)
    assert eventually(lambda: len(server.ask("/data/plugin/scalars/tags") or ()) == 1)
    assert server.ask("/data/plugin/projector/runs") == []

    write_tested_run(folder, 7, 12, evaluation(), points())
    name = f"{folder_name(trial, ['embedding_dim'])}/test epoch 12"
    assert eventually(lambda: server.ask("/data/plugin/projector/runs") == [name])
    of_run = urllib.parse.urlencode({"run": name, "name": "prompts"})
    tensor = np.frombuffer(server.read(f"/data/plugin/projector/tensor?{of_run}"), dtype=np.float32)
    assert tensor.reshape(5, 4) == pytest.approx(points()["vectors"], rel=1e-4)
    words = server.read(f"/data/plugin/projector/metadata?{of_run}").decode().splitlines()
    assert words[1].split("\t") == ["행복한 얼굴 0", "happy", "ko", "seen"]
    assert server.ask(f"/data/plugin/projector/info?{of_run}")["embeddings"][0]["tensorShape"] == [5, 4]

    assert eventually(lambda: set((server.ask("/data/plugin/images/tags") or {}).get(name, ())) == {*SHEETS})
    of_tag = urllib.parse.urlencode({"run": name, "tag": "test/mistakes", "sample": 0})
    (image,) = server.ask(f"/data/plugin/images/images?{of_tag}")
    shown = Image.open(io.BytesIO(server.read(f"/data/plugin/images/individualImage?{image['query']}")))
    assert (shown.format, shown.size, image["step"]) == ("PNG", sheet_size(pictures=2, labels=2), 12)
