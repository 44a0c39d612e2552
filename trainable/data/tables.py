"""What the readers of tables share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from trainable.errors import DataError

_BLOCK_BYTES = 1 << 20


def count_rows(file: Path) -> int:
    """How many lines a CSV file has below its header: its rows, where none goes over several lines."""
    with file.open("rb") as handle:
        lines = sum(block.count(b"\n") for block in iter(lambda: handle.read(_BLOCK_BYTES), b""))
    return max(0, lines - 1)


@contextmanager
def parquet_errors(file: Path) -> Iterator[None]:
    """Raise `DataError` where a parquet file cannot be read."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} must be a whole parquet file, but: {error}.") from error


def require_columns(file: Path, columns: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise `DataError` where a table lacks one of the columns that are read."""
    if missing := [name for name in wanted if name not in columns]:
        raise DataError(
            f"{file} must have the columns {', '.join(wanted)}, but lacks {', '.join(missing)}; it has "
            f"{', '.join(columns) or 'none'}."
        )
