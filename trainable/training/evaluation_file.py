"""`best/evaluation.json`: what the best model made of the test split, for people to look at.

It lies with the weights that it is of, and is written once, with the test; `analysis/best_model.py` shows it. Pictures
are small JPEGs as `data:` addresses, so that all of it is one file of some 100 kB.
"""

import base64
import io
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from trainable.files import write_json

NAME = "evaluation.json"
VERSION = 1
SIDE, JPEG_QUALITY = 96, 90
"""A larger picture is made so small, in pixels; 96 x 96 in colour take about 4 kB."""
_HEAD = "data:image/jpeg;base64,"


class ClassFigures(TypedDict):
    """Shares from 0 to 1, None where they are of nothing; `support` are the images of the class."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class Mistake(TypedDict):
    """An image that was taken for another class; probabilities are among the seen classes."""

    truth: str
    predicted: str
    probability: float
    probability_of_truth: float
    picture: str


class Sample(TypedDict):
    """An image, with the likeliest seen classes and their probabilities; none of an image of an unseen class."""

    truth: str
    seen: bool
    guesses: list[tuple[str, float]]
    picture: str


class PromptMap(TypedDict):
    """Cosine similarity of the classes' prompts, the mean over all templates each; the seen classes come first."""

    language: str
    classes: list[str]
    seen: int
    similarity: list[list[float]]


class Evaluation(TypedDict):
    """The file."""

    version: int
    split: str
    classes: list[str]
    """The seen ones, in the order of rows and columns."""
    confusion: list[list[int]] | None
    """Images: the truth as rows, the prediction among the seen classes as columns; None where there are too many."""
    per_class: dict[str, ClassFigures]
    macro: ClassFigures
    """The means over the classes."""
    mistakes: list[Mistake]
    """The most confident first."""
    samples: list[Sample]
    """A few of each class, class by class."""
    prompts: PromptMap | None
    """None where there are too many classes."""


class PromptVectors(TypedDict):
    """Prompts in the space of images and texts, which TensorBoard's projector shows; they are in no file of `best/`."""

    rows: list[tuple[str, str, str, str]]
    """Of each its text, its class, its language, and whether that class is seen or unseen."""
    vectors: np.ndarray
    """Unit vectors, float32 (N, D)."""


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write the file into the folder of the model that it is of."""
    write_json(folder / NAME, dict(evaluation))


def closed(image: np.ndarray) -> str:
    """A picture, uint8 (H, W) or (H, W, 3), as the file holds it."""
    picture, file = Image.fromarray(np.ascontiguousarray(image)), io.BytesIO()
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return _HEAD + base64.b64encode(file.getvalue()).decode("ascii")


def opened(picture: str) -> np.ndarray:
    """The picture that `closed` took, as it was kept."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.removeprefix(_HEAD)))))
