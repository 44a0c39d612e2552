"""Reader of FER-2013 (Goodfellow et al. 2013, arXiv 1307.0414) in the editions that go around.

- `fer2013.csv` (columns `emotion,pixels,Usage`) and `icml_face_data.csv` (the same, with blanks in its header);
- folders of pictures, `train/<class>/` and `test/<class>/`, where file names `PublicTest_…` and `PrivateTest_…` tell
  validation from test;
- parquet files with the columns `image` (encoded), `emotion` and `usage`.

The path may be such a file, the folder that holds it, or the folder above. Splits are those of the competition:
Training, PublicTest = validation, PrivateTest = test. A folder edition that lost the file names has one evaluation
folder only: it is halved into validation and test, seeded and stratified, so that the training split keeps its 28,709
images and the halves about the sizes of the original ones; the figures are then near, but not equal, to published ones.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from trainable.data.folder import (
    LabelledFile,
    existing_path,
    file_records,
    labelled_files,
    places,
    split_folders,
    stratify,
    subfolders,
)
from trainable.data.source import BrokenRecord, PrepareOptions, Record, Source
from trainable.data.tables import count_rows, parquet_errors, require_columns
from trainable.data.vocabulary import VOCABULARIES, canonical_name
from trainable.errors import DataError

CLASSES = VOCABULARIES["basic7"]
"""In the order of FER-2013's labels 0 to 6."""
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
PARQUET_COLUMNS = ("image", "emotion", "usage")

Records = Iterator[Record | BrokenRecord]


class Row(NamedTuple):
    """One row of a table of pictures, as it is written."""

    emotion: Any
    usage: Any
    image: Any
    origin: str
    """File and line."""
    votes: Any = None


class Found(NamedTuple):
    """One edition of the data set."""

    edition: str
    records: Records
    files: list[Path]
    total: int
    evaluation_split: str = "usage"
    """What told validation from test."""


def read_fer2013(data_path: Path | None, options: PrepareOptions) -> Source:
    """Read FER-2013 in whichever edition lies at `data_path`.

    Raises `DataError` where there is none, and, while the records are read, for an emotion that is no label.
    """
    root = existing_path("fer2013", data_path)
    found = _find(root, options)
    return Source.found(
        "fer2013",
        root,
        CLASSES,
        options,
        records=found.records,
        about={"edition": found.edition, "evaluation_split": found.evaluation_split},
        files=found.files,
        total=found.total,
    )


def _find(root: Path, options: PrepareOptions) -> Found:
    """Detect the edition by what `root` is, or what lies in it or in one of its folders."""
    for place in places(root):
        if tables := tables_at(place):
            return _csv_edition(tables[0]) if is_csv(tables[0]) else _parquet_edition(tables)
        splits = split_folders(place) if place.is_dir() else {}
        if "train" in splits and len(splits) > 1:
            return _folder_edition(place, splits, options.seed)
    raise DataError(
        f"no edition of FER-2013 was found at {root}: it must be, or hold, {' or '.join(CSV_NAMES)}, *.parquet, or the "
        "folders train/ and test/ with a folder per class."
    )


def tables_at(place: Path) -> list[Path]:
    """The table that a place is; of a folder the CSV file that goes by its name, or else all parquet files."""
    if place.is_file():
        return [place] if is_csv(place) or place.suffix.lower() == ".parquet" else []
    named = [place / name for name in CSV_NAMES if (place / name).is_file()]
    return named[:1] or sorted(place.glob("*.parquet"))


def is_csv(file: Path) -> bool:
    """Whether a table is a CSV file, and no parquet."""
    return file.suffix.lower() == ".csv"


def _csv_edition(file: Path) -> Found:
    return Found("csv", map(_record, csv_rows(file)), [file], count_rows(file))


def csv_rows(file: Path) -> Iterator[Row | BrokenRecord]:
    """The rows of `fer2013.csv`; raises `DataError` where it lacks a column or is no CSV."""
    with file.open(encoding="utf-8", errors="replace", newline="") as handle:
        rows = csv.reader(handle)
        columns = [name.strip().lower() for name in next(rows, [])]
        require_columns(file, columns, ("emotion", "pixels", "usage"))
        emotion, pixels, usage = (columns.index(name) for name in ("emotion", "pixels", "usage"))
        try:
            for row in filter(None, rows):
                origin = f"{file.name}, line {rows.line_num}"
                if len(row) != len(columns):
                    reason = f"the row must have {len(columns)} columns, but has {len(row)}"
                    yield BrokenRecord(origin=origin, reason=reason)
                else:
                    yield Row(row[emotion], row[usage].strip(), row[pixels], origin)
        except csv.Error as error:
            raise DataError(f"{file}, line {rows.line_num} must be a row of CSV, but: {error}.") from error


def _parquet_edition(files: list[Path]) -> Found:
    return Found("parquet", map(_record, parquet_rows(files)), files, count_parquet_rows(files))


def count_parquet_rows(files: list[Path], *more: str) -> int:
    """How many rows parquet files have; raises `DataError` where one lacks a column, or one of `more`."""
    total = 0
    for file in files:
        with parquet_errors(file):
            opened = pq.ParquetFile(file)
        require_columns(file, opened.schema_arrow.names, (*PARQUET_COLUMNS, *more))
        total += opened.metadata.num_rows
    return total


def parquet_rows(files: list[Path], votes: str | None = None) -> Iterator[Row]:
    """The rows of parquet files, with the column of `votes` where one is named."""
    columns = [*PARQUET_COLUMNS, *([votes] if votes else [])]
    for file in files:
        row_number = 0
        with parquet_errors(file):
            for batch in pq.ParquetFile(file).iter_batches(512, columns=columns):
                for row in batch.to_pylist():
                    origin = f"{file.name}, row {row_number}"
                    yield Row(row["emotion"], row["usage"], row["image"], origin, row[votes] if votes else None)
                    row_number += 1


def _record(row: Row | BrokenRecord) -> Record | BrokenRecord:
    """One row; raises `DataError` for an emotion that is a number but no label."""
    if isinstance(row, BrokenRecord):
        return row
    try:
        label = int(row.emotion)
    except (TypeError, ValueError):
        return BrokenRecord(origin=row.origin, reason=f"its emotion must be a number, but is {row.emotion!r}")
    if not 0 <= label < len(CLASSES):
        raise DataError(
            f"an emotion must be 0 to {len(CLASSES) - 1} ({', '.join(CLASSES)}), but {row.origin} has {label}."
        )
    return record_of(row, label)


def record_of(row: Row, label: int, shares: tuple[float, ...] | None = None) -> Record | BrokenRecord:
    """The record of a row whose label is known."""
    _, usage, image, origin, _ = row
    if usage not in USAGES:
        reason = f"its usage must be one of {', '.join(USAGES)}, but is {usage!r}"
        return BrokenRecord(origin=origin, reason=reason)
    if not image:
        return BrokenRecord(origin=origin, reason="it has no image")
    return Record(split=USAGES[usage], label=label, image=image, origin=origin, shares=shares)


def _folder_edition(root: Path, splits: dict[str, Path], seed: int) -> Found:
    names = {folder.name: canonical_name(folder.name) for split in splits.values() for folder in subfolders(split)}
    files = {split: labelled_files(folder, CLASSES, names) for split, folder in splits.items()}
    told_by = "folders"
    if len(files) == 2:
        train = files.pop("train")
        (evaluation,) = files.values()
        told_by, files = _divide(evaluation, seed)
        files["train"] = train
    paths = [file.path for labelled in files.values() for file in labelled]
    return Found("folders", file_records(root, files, seed=seed), paths, len(paths), told_by)


def _divide(evaluation: list[LabelledFile], seed: int) -> tuple[str, dict[str, list[LabelledFile]]]:
    """Divide one evaluation folder: by the file names where they all tell, otherwise in stratified halves."""
    usages = [USAGES.get(file.path.name.split("_")[0]) for file in evaluation]
    if set(usages) == {"validation", "test"}:
        pairs = list(zip(evaluation, usages, strict=True))
        return "file names", {
            split: [file for file, usage in pairs if usage == split] for split in ("validation", "test")
        }
    return f"stratified halves, seed {seed}", stratify(evaluation, {"validation": 0.5}, rest="test", seed=seed)
