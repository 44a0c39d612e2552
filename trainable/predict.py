"""Name the emotions in pictures of faces, zero-shot: any words can be the labels.

    python trainable/predict.py --model results/demo/best face.jpg more-faces/
    python trainable/predict.py --model results/demo/best --labels kote44 --top 5 face.jpg
    python trainable/predict.py --model results/demo/best --labels "happy,tired,relieved" --json face.jpg

Exit status: 0 when every picture was read; 1 when some were not, which are named; 2 when what was asked cannot be done.
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.errors import CheckpointError, CommandParser, ConfigError, DataError, nearest, run_command
from trainable.files import user_path
from trainable.storage.retry import CONTACT_SECONDS, persist
from trainable.storage.storage import is_remote, open_storage
from trainable.storage.transfer import fetch_folder

if TYPE_CHECKING:
    from trainable.data.source import BrokenRecord, Record
    from trainable.training.predictor import ZeroShotPredictor


@dataclass(frozen=True)
class Guess:
    """One label of one picture."""

    label: str
    """As the class is called, or as the user wrote it."""
    english: str
    korean: str
    probability: float
    """Share of all labels asked for, 0 to 1."""


@dataclass(frozen=True)
class Prediction:
    """The likeliest labels of one picture, likeliest first."""

    picture: str
    guesses: tuple[Guess, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(lambda: _predict(argv))


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths` as given, and every picture below the folders, sorted; raises `DataError` for none."""
    from trainable.data.folder import IMAGE_SUFFIXES

    pictures: list[Path] = []
    for path in paths:
        inside = path.rglob("*") if path.is_dir() else ()
        pictures += sorted(file for file in inside if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        pictures += [] if path.is_dir() else [path]
    if not pictures:
        where = ", ".join(map(str, paths)) or "no path"
        raise DataError(
            f"pictures must be given, as {', '.join(IMAGE_SUFFIXES)} or as folders of them, but got {where}."
        )
    return pictures


def parse_labels(text: str) -> tuple[str, ...]:
    """The labels of a vocabulary by name, or those between the commas; raises `ConfigError`."""
    from trainable.data.vocabulary import VOCABULARIES

    if text in VOCABULARIES:
        return VOCABULARIES[text]
    labels = tuple(label for part in text.split(",") if (label := part.strip()))
    if len(labels) < 2:
        raise ConfigError(
            f"--labels must name a vocabulary, or at least two labels with a comma between them, but got {text!r}."
            f"{nearest(text, VOCABULARIES)}"
        )
    return labels


def _predict(argv: Sequence[str] | None) -> int:
    arguments = _parser().read(argv)
    if arguments.top < 1:
        raise ConfigError(f"--top >= 1 must hold, but got {arguments.top}.")
    pictures = find_pictures(arguments.pictures)

    import torch

    from trainable.training.predictor import ZeroShotPredictor

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _model_folder(arguments.model) as folder:
        predictor = ZeroShotPredictor.load(folder, device)
    labels = parse_labels(arguments.labels) if arguments.labels is not None else predictor.classes
    broken: list[BrokenRecord] = []
    predictions = _predictions(predictor, pictures, labels, arguments.language, arguments.top, broken)
    (_print_lines if arguments.json else _print_table)(predictions)
    for record in broken:
        print(f"skipped {record.origin}: {record.reason}", file=sys.stderr)
    return 1 if broken else 0


@contextlib.contextmanager
def _model_folder(place: str) -> Iterator[Path]:
    """The folder of a model, which one at an address is fetched to for as long as it is read."""
    if not is_remote(place):
        yield user_path(place)
        return
    storage = open_storage(place)
    keys = persist(storage.sizes, CONTACT_SECONDS)
    if "model.safetensors" not in keys:
        raise CheckpointError(
            f"--model must be the address of a model's folder, such as s3://bucket/results/demo/best, "
            f"but {storage.uri} has no model.safetensors."
        )
    with tempfile.TemporaryDirectory(prefix="glance-") as folder:
        fetch_folder(storage, Path(folder), keys)
        yield Path(folder)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="trainable/predict.py",
        description="Name the emotions in pictures of faces, zero-shot.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("pictures", nargs="*", type=user_path, metavar="PICTURE", help="a picture of one face, or a folder of them")
    add(
        "--model",
        required=True,
        metavar="PLACE",
        help="a trained model's folder or address, such as results/demo/best or s3://bucket/results/demo/best",
    )
    add(
        "--labels",
        metavar="LABELS",
        help="basic7, affectnet8, compound15, kote44, or any words: happy,tired,relieved (default: the training's)",
    )
    add("--language", choices=("en", "ko", "both"), help="of the prompts (default: the training's)")
    add("--top", type=int, default=3, metavar="N", help="labels to show of each picture (default: %(default)s)")
    add("--json", action="store_true", help="print one JSON object per picture and line")
    return parser


def _predictions(
    predictor: "ZeroShotPredictor",
    pictures: Sequence[Path],
    labels: Sequence[str],
    language: str | None,
    top: int,
    broken: "list[BrokenRecord]",
) -> Iterator[Prediction]:
    """Decode and predict chunk by chunk; what cannot be read is added to `broken`."""
    from trainable.data.decoding import decode_all
    from trainable.data.vocabulary import label_words

    english, korean = ([label_words(label, spoken) for label in labels] for spoken in ("en", "ko"))
    for chunk in decode_all(_records(pictures), predictor.image_size, predictor.channels):
        broken += chunk.broken
        if not len(chunk.images):
            continue
        probabilities = predictor.predict(chunk.images, labels, language)  # (N, C)
        for index, row in zip(chunk.labels, probabilities, strict=True):
            order = (-row).argsort(kind="stable")[:top]
            guesses = tuple(Guess(labels[c], english[c], korean[c], float(row[c])) for c in order)
            yield Prediction(str(pictures[index]), guesses)


def _records(pictures: Iterable[Path]) -> "Iterator[Record | BrokenRecord]":
    """Each picture as a record whose label is its position."""
    from trainable.data.source import BrokenRecord, Record

    for index, path in enumerate(pictures):
        if path.exists():
            yield Record(split="test", label=index, image=path, origin=str(path))
        else:
            yield BrokenRecord(origin=str(path), reason="there is no such file")


def _print_lines(predictions: Iterable[Prediction]) -> None:
    for prediction in predictions:
        guesses = [vars(guess) for guess in prediction.guesses]
        print(json.dumps({"picture": prediction.picture, "predictions": guesses}, ensure_ascii=False), flush=True)


def _print_table(predictions: Iterable[Prediction]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("picture", "English", "Korean")
    table.columns[0].overflow = "fold"
    table.add_column("probability", justify="right")
    for prediction in predictions:
        table.add_section()
        for rank, guess in enumerate(prediction.guesses):
            picture = prediction.picture if rank == 0 else ""
            table.add_row(Text(picture), Text(guess.english), Text(guess.korean), f"{guess.probability:.3f}")
    if table.row_count:
        Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
