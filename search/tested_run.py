"""What TensorBoard shows of the best trial after its test: pictures in IMAGES, prompts in PROJECTOR.

    tensorboard/0007 lr=3.1e-03 dim=64/test epoch 12/
        events…                                     a sheet of the most confident mistakes, one of predictions
        projector_config.pbtxt, prompts.tsv, words.tsv    every prompt as a vector, and what it says

A run of its own below that of the trial: a TensorBoard that is open already looks for the projector's files where runs
are new, and a trial that is the best no more keeps what was true of it.
"""

import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.image import metadata
from tensorboard.plugins.projector.metadata import PROJECTOR_FILENAME
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util

from search.event_files import trial_folder
from trainable.data.contact_sheet import Cell, Row, draw_sheet, hangul_font
from trainable.data.vocabulary import label_words
from trainable.files import write_text
from trainable.training.evaluation_file import Evaluation, PromptVectors, opened

COLUMNS = ("prompt", "class", "language", "kind")
"""Of `words.tsv`; the projector labels and colours points by them."""


def write_tested_run(tensorboard: Path, number: int, epoch: int, evaluation: Evaluation, points: PromptVectors) -> None:
    """Write the run of a trial's test, the projector's files first: the run is there once its events are."""
    folder = trial_folder(tensorboard, number) / f"test epoch {epoch}"
    _write_points(folder, points)
    sheets = {
        "test/mistakes": ("The most confident mistakes; above each picture what it is.", _mistakes(evaluation)),
        "test/predictions": ("A few images of each seen class; above each picture what it is.", _samples(evaluation)),
    }
    writer = EventFileWriter(str(folder))
    for tag, (description, cells) in sheets.items():
        if cells:
            writer.add_event(_image_event(tag, description, draw_sheet(cells, hangul_font()), epoch))
    writer.close()


def _mistakes(evaluation: Evaluation) -> list[Cell]:
    return [
        _cell(
            one["truth"],
            one["picture"],
            [(one["predicted"], one["probability"]), (one["truth"], one["probability_of_truth"])],
        )
        for one in evaluation["mistakes"]
    ]


def _samples(evaluation: Evaluation) -> list[Cell]:
    return [_cell(one["truth"], one["picture"], one["guesses"]) for one in evaluation["samples"] if one["seen"]]


def _cell(truth: str, picture: str, guesses: Sequence[tuple[str, float]]) -> Cell:
    rows = [Row(_words(name, "en"), _words(name, "ko"), probability) for name, probability in guesses]
    return Cell(_words(truth, "en"), opened(picture), rows)


def _words(name: str, language: str) -> str:
    return _one_line(label_words(name, language))


def _one_line(text: str) -> str:
    """Without tabs and line ends, which a folder's name may hold."""
    return " ".join(text.split())


def _image_event(tag: str, description: str, sheet: Image.Image, epoch: int) -> Event:
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    content = [str(sheet.width).encode(), str(sheet.height).encode(), file.getvalue()]
    summary, plugin = Summary(), metadata.create_summary_metadata(tag, description)
    summary.value.add(tag=tag, metadata=plugin, tensor=tensor_util.make_tensor_proto(content))
    return Event(wall_time=time.time(), step=epoch, summary=summary)


def _write_points(folder: Path, points: PromptVectors) -> None:
    words = [COLUMNS, *points["rows"]]
    file = io.StringIO()
    np.savetxt(file, points["vectors"], fmt="%.5g", delimiter="\t")
    write_text(folder / "prompts.tsv", file.getvalue())
    write_text(folder / "words.tsv", "".join("\t".join(map(_one_line, row)) + "\n" for row in words))
    config = ProjectorConfig()
    config.embeddings.add(
        tensor_name="prompts",
        tensor_path="prompts.tsv",
        tensor_shape=list(points["vectors"].shape),
        metadata_path="words.tsv",
    )
    write_text(folder / PROJECTOR_FILENAME, text_format.MessageToString(config))
