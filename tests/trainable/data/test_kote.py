import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainable.data.kote import LABELS, read_kote
from trainable.errors import DataError

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "kote"
ROWS = {
    "train": [("슬퍼요", [5]), ("무서워요", [18, 41])],
    "val": [(f"기뻐요 {number}", [42]) for number in range(10)],
    "test": [('그가 "아니"라고\t했다', [0, 23]), ("좋아요", [1])],
}


def write_tsv(folder, splits=("val", "test"), rows=ROWS):
    for split in splits:
        with (folder / f"{split}.tsv").open("w", encoding="utf-8", newline="") as handle:
            lines = [(number, text, ",".join(map(str, labels))) for number, (text, labels) in enumerate(rows[split])]
            csv.writer(handle, delimiter="\t", lineterminator="\n").writerows(lines)
    return folder


def write_parquet(folder, splits=("val", "test"), rows=ROWS):
    for split in splits:
        texts, labels = zip(*rows[split], strict=True)
        columns = {"id": range(len(texts)), "text": texts, "labels": pa.array(labels, pa.list_(pa.int8()))}
        pq.write_table(
            pa.table({name: pa.array(column) for name, column in columns.items()}), folder / f"{split}.parquet"
        )
    return folder


@pytest.mark.parametrize("write", [write_tsv, write_parquet])
def test_both_editions_read_alike(tmp_path, write):
    comments = read_kote(write(tmp_path), held_out=0.3)

    assert comments.test.texts == ('그가 "아니"라고\t했다', "좋아요")
    assert [np.flatnonzero(row).tolist() for row in comments.test.labels] == [[0, 23], [1]]
    assert (len(comments.train), len(comments.held_out)) == (7, 3)
    assert {*comments.train.texts, *comments.held_out.texts} == {text for text, _ in ROWS["val"]}


def test_the_training_file_trains_where_there_is_one(tmp_path):
    comments = read_kote(write_tsv(tmp_path, ("train", "val", "test")))
    assert comments.train.texts == ("슬퍼요", "무서워요")
    assert len(comments.held_out) == 10
    assert comments.source == "train.tsv and val.tsv"


def test_the_seed_draws_what_is_held_out(tmp_path):
    write_tsv(tmp_path)
    drawn = [read_kote(tmp_path, seed=seed).held_out.texts for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_no_comment_of_the_test_trains(tmp_path):
    rows = ROWS | {"val": [*ROWS["val"], ("좋아요 ", [2])]}
    comments = read_kote(write_tsv(tmp_path, rows=rows), held_out=0.3)
    assert len(comments.train) + len(comments.held_out) == 10


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7\t글", r"must be an id, a text and labels, but .*val\.tsv, line 2 has 2 columns"),
        ("7\t글\t44", r"numbers from 0 to 43, but .*val\.tsv, line 2 has \['44'\]"),
        ("7\t글\t1,x", r"val\.tsv, line 2 has \['1', 'x'\]"),
        ("7\t글\t", r"val\.tsv, line 2 has \[''\]"),
        ("7\t \t1", r"must have a text, but .*val\.tsv, line 2"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    write_tsv(tmp_path)
    (tmp_path / "val.tsv").write_text(f"1\t글\t0\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_kote(tmp_path)


def test_bytes_that_are_no_text_are_named(tmp_path):
    write_tsv(tmp_path)
    (tmp_path / "val.tsv").write_bytes("1\t글\t0\n".encode() + "2\t글\t0\n".encode("cp949"))
    with pytest.raises(DataError, match=r"val\.tsv, line .* must be tab-separated UTF-8"):
        read_kote(tmp_path)


def test_a_wrong_row_of_parquet_is_named(tmp_path):
    write_parquet(tmp_path, rows=ROWS | {"test": [("좋아요", [1]), ("글", [])]})
    with pytest.raises(DataError, match=r"test\.parquet, row 1 has \[\]"):
        read_kote(tmp_path)


def test_missing_columns_and_torn_files_are_named(tmp_path):
    write_parquet(tmp_path)
    pq.write_table(pa.table({"text": ["글"]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"test\.parquet must have the columns .* lacks id, labels; it has text"):
        read_kote(tmp_path)
    (tmp_path / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"test\.parquet must be a whole parquet file"):
        read_kote(tmp_path)


def test_missing_and_empty_files_are_named(tmp_path):
    write_tsv(tmp_path, ("val",))
    with pytest.raises(DataError, match=r"test\.tsv or test\.parquet, but .* holds val\.tsv"):
        read_kote(tmp_path)
    with pytest.raises(DataError, match="must be the folder that holds val and test"):
        read_kote(tmp_path / "val.tsv")
    (tmp_path / "test.tsv").touch()
    with pytest.raises(DataError, match=r"test\.tsv must hold comments"):
        read_kote(tmp_path)


def test_labels_in_another_order_are_refused(tmp_path):
    write_tsv(tmp_path)
    names = [*LABELS[:3], LABELS[4], LABELS[3], *LABELS[5:]]
    (tmp_path / "labels.txt").write_text("\n".join(names), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 4 of .*labels\.txt is '고마움', not '지긋지긋'"):
        read_kote(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs KOTE's files")
def test_the_real_files():
    comments = read_kote(REAL)
    assert (len(comments.train), len(comments.held_out), len(comments.test)) == (4000, 1000, 5000)
    every = np.concatenate([part.labels for part in comments[:2]])
    assert (every[:, LABELS.index("죄책감")].sum(), comments.test.labels[:, LABELS.index("죄책감")].sum()) == (89, 84)
