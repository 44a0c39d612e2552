from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainable.data.folder import LabelledFile, read_folder, stratify
from trainable.data.source import PrepareOptions
from trainable.errors import DataError

OPTIONS = PrepareOptions()


def pictures(root, tree, suffix=".png"):
    """Write that many small pictures into each folder of `tree`."""
    for folder, count in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(np.full((4, 4), number, np.uint8)).save(root / folder / f"{number:03}{suffix}")
    return root


def counts(source):
    return Counter((record.split, source.classes[record.label]) for record in source.records)


def test_splits_and_classes_are_the_folders(tmp_path):
    tree = {"train/glad": 5, "train/cross": 6, "validation/glad": 2, "validation/cross": 1, "test/cross": 4}
    source = read_folder(pictures(tmp_path, tree), OPTIONS)
    assert source.classes == ("cross", "glad")
    assert counts(source) == {tuple(folder.split("/")): count for folder, count in tree.items()}
    assert source.source["drawn_splits"] == []
    assert source.total == len(source.files) == 18


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "testing")])
def test_other_names_of_the_splits(tmp_path, names):
    source = read_folder(pictures(tmp_path, {f"{name}/{kind}": 2 for name in names for kind in "ab"}), OPTIONS)
    assert {split for split, _ in counts(source)} == {"train", "validation", "test"}


def test_records_name_their_class_and_file(tmp_path):
    pictures(tmp_path, {f"{split}/{kind}": 3 for split in ("train", "val", "test") for kind in "ab"})
    for record in read_folder(tmp_path, OPTIONS).records:
        assert record.image == tmp_path / record.origin
        assert "ab"[record.label] == record.image.parent.name


def test_without_splits_a_tenth_of_each_class_is_drawn(tmp_path):
    source = read_folder(pictures(tmp_path, {"glad": 40, "cross": 20}), OPTIONS)
    assert counts(source) == {
        ("train", "glad"): 32,
        ("validation", "glad"): 4,
        ("test", "glad"): 4,
        ("train", "cross"): 16,
        ("validation", "cross"): 2,
        ("test", "cross"): 2,
    }
    assert source.source["drawn_splits"] == ["validation", "test"]


@pytest.mark.parametrize(("there", "missing"), [("test", "validation"), ("val", "test")])
def test_one_missing_split_is_drawn_from_training(tmp_path, there, missing):
    tree = {"train/a": 30, "train/b": 10, f"{there}/a": 7, f"{there}/b": 8}
    found = counts(read_folder(pictures(tmp_path, tree), OPTIONS))
    kept = "test" if missing == "validation" else "validation"
    assert found["train", "a"] == 27
    assert found["train", "b"] == 9
    assert (found[missing, "a"], found[missing, "b"]) == (3, 1)
    assert (found[kept, "a"], found[kept, "b"]) == (7, 8)


def drawn_files(root, seed):
    return {record.origin: record.split for record in read_folder(root, PrepareOptions(seed=seed)).records}


def test_the_draw_is_seeded_and_loses_no_file(tmp_path):
    pictures(tmp_path, {"a": 30, "b": 30})
    assert drawn_files(tmp_path, 1) == drawn_files(tmp_path, 1)
    assert drawn_files(tmp_path, 1) != drawn_files(tmp_path, 2)
    assert len(drawn_files(tmp_path, 1)) == 60


def test_the_first_images_of_a_split_show_all_classes(tmp_path):
    source = read_folder(pictures(tmp_path, {"a": 40, "b": 40, "c": 40}), OPTIONS)
    assert {record.label for record in list(source.records)[:20]} == {0, 1, 2}


def test_pictures_of_every_kind_and_nothing_else(tmp_path):
    for suffix in (".png", ".JPG", ".jpeg", ".bmp", ".webp"):
        pictures(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1, "test/a": 1}, suffix)
    (tmp_path / "train" / "a" / "Thumbs.db").write_text("x")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    source = read_folder(tmp_path, OPTIONS)
    assert counts(source)["train", "a"] == 5
    assert source.classes == ("a", "b")


def files(count, label=0):
    return [LabelledFile(Path(f"class{label}/{number}.png"), label) for number in range(count)]


@pytest.mark.parametrize("count", [3, 4, 9, 10, 11, 25])
def test_stratify_gives_each_split_its_share_of_each_class(count):
    drawn = stratify(files(count) + files(2 * count, 1), {"validation": 0.1, "test": 0.2}, rest="train", seed=0)
    for label, size in ((0, count), (1, 2 * count)):
        found = {split: sum(file.label == label for file in some) for split, some in drawn.items()}
        assert found["validation"] == max(1, round(0.1 * size))
        assert found["test"] == max(1, round(0.2 * size))
        assert sum(found.values()) == size
    everything = [file for some in drawn.values() for file in some]
    assert len(set(everything)) == 3 * count


class TestErrors:
    def test_no_path(self):
        with pytest.raises(DataError, match=r"folder must be given a path, but got none.*--data-path"):
            read_folder(None, OPTIONS)

    def test_a_path_that_is_not_there(self, tmp_path):
        with pytest.raises(DataError, match=r"must exist, but .*nowhere does not"):
            read_folder(tmp_path / "nowhere", OPTIONS)

    def test_a_file(self, tmp_path):
        (tmp_path / "x.png").write_text("")
        with pytest.raises(DataError, match=r"must be a folder of class folders, but .*x.png is a file"):
            read_folder(tmp_path / "x.png", OPTIONS)

    def test_no_training_folder(self, tmp_path):
        with pytest.raises(DataError, match="must hold a folder train beside test, validation, but has none"):
            read_folder(pictures(tmp_path, {"test/a": 1, "val/a": 1}), OPTIONS)

    def test_a_class_that_training_does_not_have(self, tmp_path):
        pictures(tmp_path, {"train/angry": 2, "train/happy": 2, "val/angry": 1, "test/Angry": 1})
        with pytest.raises(DataError, match=r"test must be one of the classes angry, happy, but got 'Angry'"):
            read_folder(tmp_path, OPTIONS)

    def test_a_class_without_pictures(self, tmp_path):
        with pytest.raises(
            DataError, match=r"every class folder must hold pictures .*\.webp\), but .*train/b has none"
        ):
            read_folder(pictures(tmp_path, {"train/a": 2, "train/b": 0}), OPTIONS)

    @pytest.mark.parametrize(("tree", "got"), [({}, "none"), ({"a": 3}, "only a")])
    def test_fewer_than_two_classes(self, tmp_path, tree, got):
        with pytest.raises(DataError, match=f"for each of two classes or more, but has {got}"):
            read_folder(pictures(tmp_path, tree), OPTIONS)

    def test_two_folders_of_one_split(self, tmp_path):
        with pytest.raises(DataError, match=r"one folder of the validation split, but has both val and valid"):
            read_folder(pictures(tmp_path, {"train/a": 1, "val/a": 1, "valid/a": 1}), OPTIONS)

    def test_too_few_pictures_to_draw_splits(self, tmp_path):
        with pytest.raises(DataError, match=r"splits validation, test, train to be drawn, but .*b has 2"):
            read_folder(pictures(tmp_path, {"a": 3, "b": 2}), OPTIONS)
