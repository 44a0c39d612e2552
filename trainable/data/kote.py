"""Reader of KOTE, 50,000 Korean online comments with 44 labels each yes or no (Jeon et al. 2022, arXiv 2205.05300).

A split is `<split>.parquet` (columns `id`, `text`, `labels`) or, as its authors publish it, `<split>.tsv`: no header,
an id, the text, and label numbers from 0 to 43 with commas between them. `labels.txt`, where it lies beside them, must
name the labels in the order that the numbers mean.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from trainable.data.folder import existing_path
from trainable.data.tables import parquet_errors, require_columns
from trainable.data.vocabulary import VOCABULARIES
from trainable.errors import DataError

LABELS = VOCABULARIES["kote44"]
"""In the order of KOTE's label numbers 0 to 43."""
PARQUET_COLUMNS = ("id", "text", "labels")


@dataclass(frozen=True)
class Comments:
    """N comments and their labels."""

    texts: tuple[str, ...]
    labels: npt.NDArray[np.bool_]  # (N, 44)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: npt.NDArray[np.intp]) -> "Comments":
        """Those of the given rows, in that order."""
        return Comments(tuple(self.texts[row] for row in rows), self.labels[rows])


class Kote(NamedTuple):
    """The comments by what they are for; no comment of `test` stands in another part."""

    train: Comments
    """What a tower learns from."""
    held_out: Comments
    """What ends the training and sets the thresholds."""
    test: Comments
    """What is measured once."""
    source: str
    """Which files became which part."""


def read_kote(data_path: str | Path, *, held_out: float = 0.2, seed: int = 0) -> Kote:
    """The comments of the folder `data_path`.

    With a training file that one trains and the validation file is held out; without, the validation file trains,
    save the share `held_out`, which `seed` draws. Raises `DataError` that names the file, and the row, that is wrong.
    """
    folder = existing_path("kote", Path(data_path))
    if not folder.is_dir():
        raise DataError(f"the path of KOTE must be the folder that holds val and test, but {folder} is a file.")
    _check_labels(folder / "labels.txt")
    files = {split: _split_file(folder, split) for split in ("train", "val", "test")}
    if files["test"] is None or files["val"] is None:
        raise DataError(
            f"KOTE must have val.tsv or val.parquet, and test.tsv or test.parquet, but {folder} holds "
            f"{', '.join(sorted(path.name for path in folder.iterdir())) or 'nothing'}."
        )
    test = _read(files["test"])
    first = _without(_read(files["train"] or files["val"]), test)
    if files["train"] is not None:
        return Kote(first, _without(_read(files["val"]), test), test, f"{files['train'].name} and {files['val'].name}")
    rows = np.random.default_rng(seed).permutation(len(first))
    kept = round(held_out * len(first))
    return Kote(first.take(rows[kept:]), first.take(rows[:kept]), test, files["val"].name)


def _split_file(folder: Path, split: str) -> Path | None:
    found = (folder / f"{split}{suffix}" for suffix in (".parquet", ".tsv"))
    return next((path for path in found if path.is_file()), None)


def _read(file: Path) -> Comments:
    rows = list(_parquet_rows(file) if file.suffix == ".parquet" else _tsv_rows(file))
    if not rows:
        raise DataError(f"{file} must hold comments, but holds none.")
    labels = np.zeros((len(rows), len(LABELS)), dtype=np.bool_)
    for number, (_, numbers) in enumerate(rows):
        labels[number, numbers] = True
    return Comments(tuple(text for text, _ in rows), labels)


def _parquet_rows(file: Path) -> Iterator[tuple[str, list[int]]]:
    with parquet_errors(file):
        table = pq.read_table(file)
    require_columns(file, table.column_names, PARQUET_COLUMNS)
    for number, row in enumerate(table.select(["text", "labels"]).to_pylist()):
        yield _comment(row["text"], row["labels"], f"{file}, row {number}")


def _tsv_rows(file: Path) -> Iterator[tuple[str, list[int]]]:
    with file.open(encoding="utf-8", newline="") as handle:
        rows = csv.reader(handle, delimiter="\t")
        try:
            for row in filter(None, rows):
                origin = f"{file}, line {rows.line_num}"
                if len(row) != 3:
                    raise DataError(f"a comment must be an id, a text and labels, but {origin} has {len(row)} columns.")
                yield _comment(row[1], row[2].split(","), origin)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{file}, line {rows.line_num + 1} must be tab-separated UTF-8, but: {error}.") from error


def _comment(text: Any, labels: Sequence[Any] | None, origin: str) -> tuple[str, list[int]]:
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"a comment must have a text, but {origin} has {text!r}.")
    try:
        numbers = [int(label) for label in labels or ()]
    except (TypeError, ValueError):
        numbers = []
    if not numbers or not all(0 <= number < len(LABELS) for number in numbers):
        raise DataError(
            f"a comment must have labels, which are numbers from 0 to {len(LABELS) - 1}, but {origin} has {labels!r}."
        )
    return text, numbers


def _without(comments: Comments, others: Comments) -> Comments:
    """The comments whose text does not stand among `others`."""
    known = {text.strip() for text in others.texts}
    return comments.take(
        np.array([row for row, text in enumerate(comments.texts) if text.strip() not in known], np.intp)
    )


def _check_labels(file: Path) -> None:
    if not file.is_file():
        return
    names = file.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, expected in enumerate(LABELS):
        found = names[number].strip() if number < len(names) else "nothing"
        if found != expected:
            raise DataError(
                f"the labels must be KOTE's 44 in their order, but line {number + 1} of {file} is {found!r}, "
                f"not {expected!r}."
            )
