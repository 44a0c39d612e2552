"""Files of a data set that are wrong: the search says which, before there is a cluster."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search.run import main
from tests.trainable.data.test_affectnet import annotate, write_tables
from tests.trainable.data.test_affectnet import write_folders as write_affectnet
from tests.trainable.data.test_ferplus import write_csv as write_ferplus
from tests.trainable.test_data_sets import write_kote


def without_annotations(root: Path) -> None:
    for file in (write_affectnet(root) / "val_set" / "annotations").iterdir():
        file.unlink()


def out_of_range(root: Path) -> None:
    annotate(write_affectnet(root) / "train_set", 7, "11")


def broken_pictures(root: Path) -> None:
    for file in (write_affectnet(root) / "val_set" / "images").iterdir():
        file.write_bytes(file.read_bytes()[:200])


def other_tables(root: Path) -> None:
    (write_tables(root) / "validation.csv").write_text("image,label\n")


def other_pictures(root: Path) -> None:
    (write_ferplus(root) / "fer2013.csv").write_text("image,label\n")


def other_votes(root: Path) -> None:
    (write_ferplus(root) / "fer2013new.csv").write_text("Usage,happy\n")


def broken_kote(root: Path) -> None:
    for file in (write_kote(root)).glob("*/0.png"):
        file.write_bytes(b"")


@pytest.mark.parametrize(
    ("dataset", "write", "words"),
    [
        ("affectnet", without_annotations, "{root} has more: val_set/images/0.jpg: it has no annotations/0_exp.npy"),
        ("affectnet", out_of_range, "but {root}/train_set/annotations/7_exp.npy has 11"),
        ("affectnet", broken_pictures, ".jpg: Truncated File Read; "),
        ("affectnet", other_tables, "{root}/validation.csv must have the columns subDirectory_filePath, "),
        ("ferplus", other_pictures, "{root}/fer2013.csv must have the columns emotion, pixels, usage, but lacks"),
        ("ferplus", other_votes, "{root}/fer2013new.csv must have the columns Usage, neutral, happiness, "),
        ("folder", broken_kote, "/0.png: not an image that Pillow can read; "),
    ],
)
def test_files_that_are_wrong_are_named_before_there_is_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, write: Callable[[Path], None], words: str
) -> None:
    root = tmp_path / "data"
    write(root)
    where = ["--dataset", dataset, "--data-path", str(root), "--storage", str(tmp_path / "results"), "--name", "x"]
    assert main(where) == 2
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert str(root) in error
    assert words.format(root=root) in error
    assert not (tmp_path / "results" / "x").exists()
