"""Reader of FERPlus (Barsoum et al. 2016, arXiv 1608.01041): FER-2013's pictures, each labelled by ten people.

The votes are read from the column `ferplus_votes` of FER-2013's parquet files, or from FERPlus's own `fer2013new.csv`,
which lies beside `fer2013.csv` (or in a folder beside it) and has a row for each of its rows. The path may be such a
file, the folder that holds it, or the folder above. Splits are FER-2013's.

A picture's label is the emotion with most votes, and its shares are those of all votes for emotions. It is left out,
and counted, where most people saw no face or did not know, where two emotions have equally many votes, or where the
likeliest has less than `min_vote_share` of all votes; at 0.5, the default, these are the rules of the paper's majority
voting (section 3), but for its removal of single votes.
"""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainable.data.fer2013 import (
    CSV_NAMES,
    Row,
    count_parquet_rows,
    csv_rows,
    is_csv,
    parquet_rows,
    record_of,
    tables_at,
)
from trainable.data.folder import existing_path, places
from trainable.data.source import AnyRecord, BrokenRecord, LeftOut, PrepareOptions, Source
from trainable.data.tables import count_rows, require_columns
from trainable.data.vocabulary import VOCABULARIES
from trainable.errors import DataError

CLASSES = VOCABULARIES["affectnet8"]
VOTES = "ferplus_votes"
VOTES_NAME = "fer2013new.csv"
VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""What people could vote for, in the order of both editions; NF is not a face."""
_IN_ORDER = [("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt").index(n) for n in CLASSES]
NOT_EMOTIONS = {"unknown": "unknown", "NF": "not_a_face"}


def read_ferplus(data_path: Path | None, options: PrepareOptions) -> Source:
    """Read FERPlus in whichever edition lies at `data_path`.

    Raises `DataError` where there is none, and, while the records are read, where votes are no votes or not of a row.
    """
    root = existing_path("ferplus", data_path)
    edition, files, rows, total = _find(root)
    records = (_voted(row, options.min_vote_share) for row in rows)
    about = {"edition": edition}
    return Source.found("ferplus", root, CLASSES, options, records=records, about=about, files=files, total=total)


Edition = tuple[str, list[Path], Iterator[Row | BrokenRecord], int]
"""Its name, files, rows, and how many rows there are."""


def _find(root: Path) -> Edition:
    for place in places(root):
        if tables := tables_at(place):
            return _csv_edition(tables[0]) if is_csv(tables[0]) else _parquet_edition(tables)
    raise DataError(
        f"no edition of FERPlus was found at {root}: it must be, or hold, {' or '.join(CSV_NAMES)} with {VOTES_NAME} "
        f"beside it, or *.parquet with a column {VOTES}."
    )


def _parquet_edition(files: list[Path]) -> Edition:
    return "parquet", files, parquet_rows(files, VOTES), count_parquet_rows(files, VOTES)


def _csv_edition(file: Path) -> Edition:
    for folder in places(file.parent):
        if (votes := folder / VOTES_NAME).is_file():
            return "csv", [file, votes], _with_votes(file, votes), count_rows(file)
    raise DataError(
        f"the votes of FERPlus must lie beside {file}, or in a folder there, as {VOTES_NAME}, but do not. It is "
        "found at github.com/microsoft/FERPlus."
    )


def _with_votes(file: Path, votes_file: Path) -> Iterator[Row | BrokenRecord]:
    """Row by row the pictures of the one file with the votes of the other; raises `DataError` where they differ."""
    pairs = itertools.zip_longest(csv_rows(file), _vote_rows(votes_file))
    for number, (row, voted) in enumerate(pairs):
        usage = row.usage if isinstance(row, Row) else None
        if row is None or voted is None or (usage is not None and usage != voted[0]):
            raise DataError(
                f"{votes_file} must have a row for each row of {file}, of the same usage, but row {number} is "
                f"{voted[0] if voted else 'not there'} in the one and {usage or 'not there'} in the other."
            )
        yield row._replace(votes=voted[1]) if isinstance(row, Row) else row


def _vote_rows(file: Path) -> Iterator[tuple[str, list[str | None]]]:
    with file.open(encoding="utf-8", errors="replace", newline="") as handle:
        rows = csv.DictReader(handle, skipinitialspace=True)
        require_columns(file, rows.fieldnames or (), ("Usage", *VOTED))
        for row in rows:
            yield row["Usage"], [row[name] for name in VOTED]


def _voted(row: Row | BrokenRecord, min_share: float) -> AnyRecord:
    if isinstance(row, BrokenRecord):
        return row
    if row.votes is None:
        return LeftOut(reason="without_votes")
    votes = _numbers(row.votes)
    if votes is None:
        reason = f"its votes must be {len(VOTED)} numbers of at least 0, but are {row.votes!r}"
        return BrokenRecord(origin=row.origin, reason=reason)
    if (against := _reason_against(votes, min_share)) is not None:
        return LeftOut(reason=against)
    emotions = votes[: len(CLASSES)][_IN_ORDER]
    return record_of(row, int(emotions.argmax()), tuple((emotions / emotions.sum()).tolist()))


def _numbers(votes: Any) -> np.ndarray | None:
    try:
        numbers = np.array(votes, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (len(VOTED),) and bool((numbers >= 0).all()) else None


def _reason_against(votes: np.ndarray, min_share: float) -> str | None:
    """Why a picture is left out, by its votes (10,); None where it is not."""
    if not votes.any():
        return "without_votes"
    likeliest = VOTED[int(votes.argmax())]
    if (votes == votes.max()).sum() > 1:
        return "without_majority"
    if likeliest in NOT_EMOTIONS:
        return NOT_EMOTIONS[likeliest]
    return "below_vote_share" if votes.max() / votes.sum() < min_share else None
