"""Name the emotions in pictures of faces, zero-shot: any words can be the labels.

    python trainable/predict.py --model results/demo/best face.jpg more-faces/
    python trainable/predict.py --model results/demo/best --labels kote44 --top 5 face.jpg
    python trainable/predict.py --model results/demo/best --labels "happy,tired,relieved" --json face.jpg
    python trainable/predict.py --model results/demo/best --out sheet.png faces/
    curl -s https://example.org/face.jpg | python trainable/predict.py --model results/demo/best -

Pictures that show more than a face are cropped to the largest face, unless `--no-crop` says that all are crops.

Exit status: 0 when every picture was read; 1 when some were not, which are named; 2 when what was asked cannot be done.
"""

import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.errors import CommandParser, ConfigError, DataError, nearest, require, run_command
from trainable.files import user_path
from trainable.model_folder import model_folder

if TYPE_CHECKING:
    import numpy as np

    from trainable.data.face_crop import Box
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
    image: "np.ndarray"
    """uint8 (S, S) or (S, S, 3), as the model saw it."""
    face: "Box | None"
    """What the picture was cropped to; None is all of it."""


STANDARD_INPUT = Path("-")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(lambda: _predict(argv))


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths` as given, `-` too, and every picture below the folders, sorted.

    Raises `DataError` where there is none.
    """
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
    require(arguments.top >= 1, "--top >= 1", arguments.top)
    pictures = find_pictures(arguments.pictures)
    if arguments.out is not None and arguments.out.suffix.lower() != ".png":
        raise ConfigError(f"--out must name a PNG file, such as sheet.png, but got {arguments.out}.")

    import torch

    from trainable.training.predictor import ZeroShotPredictor

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with model_folder(arguments.model) as folder:
        predictor = ZeroShotPredictor.load(folder, device)
    labels = parse_labels(arguments.labels) if arguments.labels is not None else predictor.classes
    inputs = _Pictures(pictures, None if arguments.no_crop else predictor.image_size)
    predictions = _predictions(predictor, inputs, labels, arguments.language, arguments.top)
    shown: list[Prediction] = []
    if arguments.out is not None:
        _require_sheet(len(pictures), min(arguments.top, len(labels)))
        predictions = _kept(predictions, shown)
    (_print_lines if arguments.json else _print_table)(predictions)
    if shown:
        _write_sheet(arguments.out, shown)
    return _say(inputs)


def _require_sheet(pictures: int, labels: int) -> None:
    from trainable.data.contact_sheet import MOST_PIXELS, sheet_size

    width, height = sheet_size(pictures, labels)
    if width * height > MOST_PIXELS:
        raise ConfigError(
            f"a contact sheet must have at most {MOST_PIXELS:,} pixels, but {pictures} pictures with {labels} labels "
            f"each make {width} x {height}; name fewer pictures, or a smaller --top."
        )


def _say(inputs: "_Pictures") -> int:
    """Tell on stderr which pictures are not what was hoped for; returns the exit status."""
    for name in inputs.faceless:
        print(f"no face was found in {name}: it was taken whole", file=sys.stderr)
    for record in inputs.broken:
        print(f"skipped {record.origin}: {record.reason}", file=sys.stderr)
    return 1 if inputs.broken else 0


def _parser() -> CommandParser:
    from trainable.data.vocabulary import VOCABULARIES

    parser = CommandParser(
        prog="trainable/predict.py",
        description="Name the emotions in pictures of faces, zero-shot.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "pictures",
        nargs="*",
        type=user_path,
        metavar="PICTURE",
        help="a picture of a face, a folder of them, or - for a picture on standard input",
    )
    add(
        "--model",
        required=True,
        metavar="PLACE",
        help="a trained model's folder or address, such as results/demo/best or s3://bucket/results/demo/best",
    )
    add(
        "--labels",
        metavar="LABELS",
        help=f"{', '.join(VOCABULARIES)}, or any words: happy,tired,relieved (default: the training's)",
    )
    add("--language", choices=("en", "ko", "both"), help="of the prompts (default: the training's)")
    add("--top", type=int, default=3, metavar="N", help="labels to show of each picture (default: %(default)s)")
    add("--json", action="store_true", help="print one JSON object per picture and line")
    add("--out", type=user_path, metavar="SHEET.png", help="also draw the pictures with their labels on a sheet")
    add("--no-crop", action="store_true", help="take pictures whole, and look for no face")
    return parser


class _Pictures:
    """The pictures as records, each labelled by its position and cropped to its face, and what was noticed of them."""

    def __init__(self, paths: Sequence[Path], face_size: int | None) -> None:
        self.paths = paths
        self.face_size = face_size
        """Side that the model takes, for which faces are cropped; None takes all pictures whole."""
        self.boxes: dict[int, Box] = {}
        """Position of each picture that was cropped -> its face."""
        self.faceless: list[str] = []
        """Pictures in which no face was found."""
        self.broken: list[BrokenRecord] = []
        """Pictures that could not be read."""

    def __iter__(self) -> "Iterator[Record | BrokenRecord]":
        from trainable.data.source import BrokenRecord, Record

        for index, path in enumerate(self.paths):
            if path != STANDARD_INPUT and not path.exists():
                yield BrokenRecord(origin=str(path), reason="there is no such file")
            else:
                image = sys.stdin.buffer.read() if path == STANDARD_INPUT else path
                yield Record(split="test", label=index, image=self._face(index, image), origin=self.name(index))

    def name(self, index: int) -> str:
        """What a picture is called."""
        return "standard input" if self.paths[index] == STANDARD_INPUT else str(self.paths[index])

    def _face(self, index: int, image: "bytes | Path") -> "bytes | Path | np.ndarray":
        from trainable.data.face_crop import crop_face

        if self.face_size is None:
            return image
        try:
            face = crop_face(io.BytesIO(image) if isinstance(image, bytes) else image, self.face_size)
        except Exception:  # Pillow raises nearly anything for a damaged file; decoding it will say what
            return image
        if face.box is not None:
            self.boxes[index] = face.box
        elif face.is_missing:
            self.faceless.append(self.name(index))
        return image if face.pixels is None else face.pixels


def _predictions(
    predictor: "ZeroShotPredictor", inputs: _Pictures, labels: Sequence[str], language: str | None, top: int
) -> Iterator[Prediction]:
    """Decode and predict chunk by chunk; what cannot be read is added to what `inputs` has noticed."""
    from trainable.data.decoding import decode_all
    from trainable.data.vocabulary import label_words

    english, korean = ([label_words(label, spoken) for label in labels] for spoken in ("en", "ko"))
    for chunk in decode_all(inputs, predictor.image_size, predictor.channels):
        inputs.broken += chunk.broken
        if not len(chunk.images):
            continue
        probabilities = predictor.predict(chunk.images, labels, language)  # (N, C)
        for index, image, row in zip(chunk.labels.tolist(), chunk.images, probabilities, strict=True):
            order = (-row).argsort(kind="stable")[:top]
            guesses = tuple(Guess(labels[c], english[c], korean[c], float(row[c])) for c in order)
            yield Prediction(inputs.name(index), guesses, image, inputs.boxes.get(index))


def _kept(predictions: Iterable[Prediction], shown: list[Prediction]) -> Iterator[Prediction]:
    """Hand the predictions on, and keep them for the sheet."""
    for prediction in predictions:
        shown.append(prediction)
        yield prediction


def _write_sheet(out: Path, shown: Sequence[Prediction]) -> None:
    from trainable.data.contact_sheet import Cell, Row, hangul_font, write_sheet

    font = hangul_font()
    cells = [
        Cell(each.picture, each.image, [Row(g.english, g.korean, g.probability) for g in each.guesses])
        for each in shown
    ]
    try:
        write_sheet(out, cells, font)
    except OSError as error:
        raise ConfigError(f"--out must be a file that can be written, but {out} is not: {error}.") from error
    if font is None:
        print("the sheet is in English alone: no font with Hangul is installed, such as Noto Sans CJK", file=sys.stderr)


def _print_lines(predictions: Iterable[Prediction]) -> None:
    for prediction in predictions:
        guesses = [vars(guess) for guess in prediction.guesses]
        line = {"picture": prediction.picture, "face": prediction.face, "predictions": guesses}
        print(json.dumps(line, ensure_ascii=False), flush=True)


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
