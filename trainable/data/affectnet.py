"""Reader of AffectNet (Mollahosseini, Hasani and Mahoor 2017, arXiv 1708.03985) in its two editions.

- folders: `train_set/images/*.jpg` with `train_set/annotations/<number>_exp.npy`, and `val_set/` in the same way;
- CSV: `training.csv` and `validation.csv`, whose rows name a picture, the box of the face in it, and its expression.

The path is the folder that holds either. Expressions 0 to 7 are the eight classes, in the order of the vocabulary
`affectnet8`; rows of 8 to 10 (none, uncertain, no face) are left out and counted.

AffectNet's test split was never published, and papers report on its validation split. So that is the test split here,
whole, and figures compare with theirs. For validation a tenth of each class of the training split is drawn, seeded and
at most `VALIDATION_PER_CLASS` images, as many as the published split has: the classes are then about as balanced in the
one as in the other, though the rarest of the training split are thirty times rarer than the most frequent.
"""

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainable.data.folder import DRAWN_SHARE, IMAGE_SUFFIXES, existing_path
from trainable.data.source import AnyRecord, BrokenRecord, LeftOut, PrepareOptions, Record, Source
from trainable.data.tables import count_rows, require_columns
from trainable.data.vocabulary import VOCABULARIES
from trainable.errors import DataError

CLASSES = VOCABULARIES["affectnet8"]
"""In the order of AffectNet's expressions 0 to 7."""
NO_EXPRESSION = {8: "no_expression", 9: "uncertain", 10: "no_face"}
VALIDATION_PER_CLASS = 500
FOLDERS = ("train_set", "val_set")
CSV_NAMES = ("training.csv", "validation.csv")
BOX_COLUMNS = ("face_x", "face_y", "face_width", "face_height")
TRIED_PICTURES = 20
"""How many of a table's pictures are looked for, until one says where they lie."""
CSV_COLUMNS = ("subDirectory_filePath", *BOX_COLUMNS, "expression")


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Face:
    """A picture with its expression; kept small, for there are hundreds of thousands."""

    image: str
    """Path within the folder of pictures."""
    expression: int
    box: Box | None = None


Found = _Face | BrokenRecord | LeftOut
Split = tuple[Path, Iterator[Found]]
"""A folder of pictures, and the faces in it."""


def read_affectnet(data_path: Path | None, options: PrepareOptions) -> Source:
    """Read AffectNet in whichever edition lies at `data_path`.

    Raises `DataError` where there is none, and, while the records are read, for a number that is no expression.
    """
    root = existing_path("affectnet", data_path)
    if all((root / name / part).is_dir() for name in FOLDERS for part in ("images", "annotations")):
        return _folder_edition(root, options)
    if all((root / name).is_file() for name in CSV_NAMES):
        return _csv_edition(root, options)
    raise DataError(
        f"no edition of AffectNet was found at {root}: it must be a folder that holds train_set/ and val_set/, each "
        "with images/ and annotations/, or training.csv and validation.csv beside the folder of pictures."
    )


def _folder_edition(root: Path, options: PrepareOptions) -> Source:
    images, annotations = ([_files(root / name / part) for name in FOLDERS] for part in ("images", "annotations"))
    train, evaluation = (
        (root / name / "images", _annotated(root / name, pictures))
        for name, pictures in zip(FOLDERS, images, strict=True)
    )
    files = [file for listed in (*images, *annotations) for file in listed]
    return _source(root, "folders", train, evaluation, files, sum(map(len, images)), options)


def _annotated(folder: Path, pictures: list[Path]) -> Iterator[Found]:
    for picture in pictures:
        if picture.suffix.lower() in IMAGE_SUFFIXES:
            yield _face_of(folder, picture)


def _face_of(folder: Path, picture: Path) -> Found:
    annotation = folder / "annotations" / f"{picture.stem}_exp.npy"
    origin = f"{folder.name}/images/{picture.name}"
    try:
        expression = int(np.load(annotation).item())
    except FileNotFoundError:
        return BrokenRecord(origin=origin, reason=f"it has no annotations/{annotation.name}")
    except (OSError, EOFError, ValueError, TypeError) as error:
        return BrokenRecord(origin=origin, reason=f"annotations/{annotation.name} must hold one number, but: {error}")
    return _face(picture.name, expression, None, str(annotation))


def _csv_edition(root: Path, options: PrepareOptions) -> Source:
    tables = [root / name for name in CSV_NAMES]
    rows = [_rows(table) for table in tables]
    pictures = [_folder_of_pictures(root, table) for table in tables]
    train, evaluation = zip(pictures, rows, strict=True)
    return _source(root, "csv", train, evaluation, tables, sum(map(count_rows, tables)), options)


def _rows(table: Path) -> Iterator[Found]:
    with table.open(encoding="utf-8", errors="replace", newline="") as handle:
        rows = csv.DictReader(handle)
        require_columns(table, list(rows.fieldnames or ()), CSV_COLUMNS)
        for row in rows:
            yield _face_in(row, f"{table}, line {rows.line_num}")


def _face_in(row: dict[str, str], origin: str) -> Found:
    try:
        expression = int(row["expression"])
    except (TypeError, ValueError):
        return BrokenRecord(origin=origin, reason=f"its expression must be a number, but is {row['expression']!r}")
    if expression in NO_EXPRESSION:
        return LeftOut(reason=NO_EXPRESSION[expression])  # whose box is often no number
    try:
        left, top, width, height = (float(row[name]) for name in BOX_COLUMNS)
    except (TypeError, ValueError):
        return BrokenRecord(origin=origin, reason=f"its {', '.join(BOX_COLUMNS)} must be numbers")
    return _face(row["subDirectory_filePath"], expression, (left, top, width, height), origin)


def _face(image: str, expression: int, box: Box | None, where: str) -> _Face | LeftOut:
    if expression in NO_EXPRESSION:
        return LeftOut(reason=NO_EXPRESSION[expression])
    if not 0 <= expression < len(CLASSES):
        raise DataError(
            f"an expression must be 0 to {len(CLASSES) - 1} ({', '.join(CLASSES)}) or {min(NO_EXPRESSION)} to "
            f"{max(NO_EXPRESSION)} (none), but {where} has {expression}."
        )
    return _Face(image, expression, box)


def _folder_of_pictures(root: Path, table: Path) -> Path:
    """The folder, at most two levels below `root`, that the paths of a table start from; raises `DataError`."""
    faces = (face for face in _rows(table) if isinstance(face, _Face))
    named = [face.image for face in itertools.islice(faces, TRIED_PICTURES)]
    if not named:
        raise DataError(f"{table} must have rows with expressions 0 to {len(CLASSES) - 1}, but has none.")
    for folder in (root, *root.glob("*/"), *root.glob("*/*/")):
        if any((folder / name).is_file() for name in named):
            return folder
    raise DataError(
        f"the pictures of {table} must lie in {root} or in a folder within it, but {named[0]}, its first, does not. "
        "Unpack the archives of pictures there."
    )


def _source(
    root: Path, edition: str, train: Split, evaluation: Split, files: list[Path], total: int, options: PrepareOptions
) -> Source:
    drawn = f"a tenth of each class of training, at most {VALIDATION_PER_CLASS}, seed {options.seed}"
    return Source.found(
        "affectnet",
        root,
        CLASSES,
        options,
        records=_records(root, train, evaluation, options.seed),
        about={"edition": edition, "validation": drawn, "test": "the published validation split"},
        files=files,
        total=total,
    )


def _records(root: Path, train: Split, evaluation: Split, seed: int) -> Iterator[AnyRecord]:
    """All records: what cannot be used first, then each split, shuffled."""
    for (folder, found), is_train in ((train, True), (evaluation, False)):
        faces = []
        for face in found:
            if isinstance(face, _Face):
                faces.append(face)
            else:
                yield face
        held_out = _held_out(np.array([face.expression for face in faces]), seed) if is_train else set()
        for row in np.random.default_rng(seed).permutation(len(faces)):
            split = "test" if not is_train else "validation" if int(row) in held_out else "train"
            yield _record(root, folder, faces[row], split)


def _record(root: Path, folder: Path, face: _Face, split: str) -> Record:
    image = folder / face.image
    origin = str(image.relative_to(root))
    return Record(split=split, label=face.expression, image=image, origin=origin, box=face.box)


def _held_out(expressions: np.ndarray, seed: int) -> set[int]:
    """The rows of the training split that are drawn for validation."""
    rows: set[int] = set()
    for expression in np.unique(expressions):
        members = np.flatnonzero(expressions == expression)
        count = min(VALIDATION_PER_CLASS, max(1, round(DRAWN_SHARE * len(members))))
        rows.update(np.random.default_rng((seed, int(expression))).permutation(members)[:count].tolist())
    return rows


def _files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
