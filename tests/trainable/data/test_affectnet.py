from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainable.data import affectnet
from trainable.data.affectnet import CLASSES, read_affectnet
from trainable.data.preparation import prepare_store
from trainable.data.source import BrokenRecord, LeftOut, PrepareOptions, Record
from trainable.data.store import Store
from trainable.errors import DataError

OPTIONS = PrepareOptions(image_size=16, channels=3)
PER_CLASS = {"train_set": 6, "val_set": 2}


def picture(number, size=(24, 24)):
    return np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)


def write_folders(root):
    """The published layout: in each folder, images 0.jpg, 1.jpg, … whose expressions go round the classes."""
    for number, (name, count) in enumerate(PER_CLASS.items()):
        (root / name / "images").mkdir(parents=True)
        (root / name / "annotations").mkdir()
        for row in range(count * len(CLASSES)):
            Image.fromarray(picture((number, row))).save(root / name / "images" / f"{row}.jpg", quality=95)
            annotate(root / name, row, str(row % len(CLASSES)))
    return root


def annotate(folder, row, value):
    np.save(folder / "annotations" / f"{row}_exp.npy", value)


def write_tables(root, expressions=tuple(range(8)), pictures="Manually_Annotated/Manually_Annotated_Images"):
    """The CSV edition: pictures of 40 x 30 whose face is a box of one shade per expression."""
    for table, count in (("training.csv", 6), ("validation.csv", 2)):
        lines = ["subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence"]
        for turn in range(count):
            for expression in expressions:
                path = Path(str(turn)) / f"{table}_{expression}.png"
                box = "10,5,20,20" if expression < 8 else "NULL,NULL,NULL,NULL"
                lines.append(f"{path},{box},1;2;3,{expression},0.5")
                pixels = picture((count, turn, expression), (30, 40))
                pixels[5:25, 10:30] = 20 * expression + pixels[5:25, 10:30] // 13
                (root / pictures / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / pictures / path)
        (root / table).write_text("\n".join(lines) + "\n")
    return root


def splits_of(source):
    return Counter((record.split, record.label) for record in source.records if isinstance(record, Record))


@pytest.mark.parametrize("write", [write_folders, write_tables])
def test_validation_is_drawn_from_training_and_the_published_one_is_the_test(tmp_path, write):
    source = read_affectnet(write(tmp_path), OPTIONS)

    assert source.classes == CLASSES
    assert source.total == 8 * 8
    expected = {"train": 5, "validation": 1, "test": 2}
    assert splits_of(source) == {(split, label): n for split, n in expected.items() for label in range(8)}


def test_at_most_as_many_images_of_a_class_are_drawn_as_the_published_split_has(tmp_path, monkeypatch):
    monkeypatch.setattr(affectnet, "VALIDATION_PER_CLASS", 2)
    monkeypatch.setattr(affectnet, "DRAWN_SHARE", 0.5)
    counts = splits_of(read_affectnet(write_folders(tmp_path), OPTIONS))
    assert counts["validation", 0] == 2
    assert counts["train", 0] == 4


def test_the_seed_draws_validation(tmp_path):
    write_folders(tmp_path)

    def drawn(seed):
        records = read_affectnet(tmp_path, PrepareOptions(seed=seed)).records
        return {record.origin for record in records if record.split == "validation"}

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_each_picture_has_the_expression_of_its_annotation(tmp_path):
    for record in read_affectnet(write_folders(tmp_path), OPTIONS).records:
        assert record.label == int(record.image.stem) % len(CLASSES)
        assert record.image.is_file()


def test_an_expression_may_be_a_number_or_text(tmp_path):
    write_folders(tmp_path)
    annotate(tmp_path / "train_set", 0, 5)
    annotate(tmp_path / "train_set", 1, np.array("6"))
    labels = {record.origin: record.label for record in read_affectnet(tmp_path, OPTIONS).records}
    assert (labels["train_set/images/0.jpg"], labels["train_set/images/1.jpg"]) == (5, 6)


def test_a_store_has_the_size_and_colours_asked_for(tmp_path):
    store = Store.open(prepare_store("affectnet", write_folders(tmp_path / "data"), options=OPTIONS, progress=False))
    assert (store.manifest.image_size, store.manifest.channels) == (16, 3)
    assert store.manifest.counts["train"] == dict.fromkeys(CLASSES, 5)
    assert store.manifest.dataset == "affectnet"


def test_of_the_csv_edition_the_face_box_is_stored(tmp_path):
    store = Store.open(prepare_store("affectnet", write_tables(tmp_path / "data"), options=OPTIONS, progress=False))
    split = store.split("test")
    for pixels, label in zip(split.images, split.labels, strict=True):
        assert abs(float(np.median(pixels)) - (20 * label + 9.5)) <= 2


@pytest.mark.parametrize("pictures", [".", "Manually_Annotated_Images", "a/b"])
def test_the_folder_of_pictures_is_found(tmp_path, pictures):
    source = read_affectnet(write_tables(tmp_path, pictures=pictures), OPTIONS)
    assert all(record.image.is_file() for record in source.records)


def test_faces_without_an_expression_are_left_out_and_counted(tmp_path):
    root = write_tables(tmp_path / "data", expressions=range(11))
    store = Store.open(prepare_store("affectnet", root, options=OPTIONS, progress=False))
    dropped = store.manifest.dropped
    assert {name: dropped[name] for name in affectnet.NO_EXPRESSION.values()} == {
        "no_expression": 8,
        "uncertain": 8,
        "no_face": 8,
    }
    assert sum(store.manifest.counts["train"].values()) == 5 * 8


def test_a_number_above_contempt_in_an_annotation_is_left_out(tmp_path):
    write_folders(tmp_path)
    annotate(tmp_path / "train_set", 0, "9")
    assert LeftOut(reason="uncertain") in list(read_affectnet(tmp_path, OPTIONS).records)


class TestWrongFiles:
    def test_another_folder(self, tmp_path):
        with pytest.raises(
            DataError, match=rf"no edition of AffectNet was found at {tmp_path}.*train_set.*training\.csv"
        ):
            read_affectnet(tmp_path, OPTIONS)

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda file: file.unlink(), "it has no annotations/3_exp.npy"),
            (lambda file: file.write_bytes(b""), "annotations/3_exp.npy must hold one number, but: "),
            (lambda file: np.save(file, "happy"), "annotations/3_exp.npy must hold one number, but: invalid literal"),
            (lambda file: np.save(file, [1, 2]), "annotations/3_exp.npy must hold one number, but: can only convert"),
        ],
    )
    def test_a_picture_whose_annotation_is_no_number(self, tmp_path, spoil, reason):
        write_folders(tmp_path)
        spoil(tmp_path / "train_set" / "annotations" / "3_exp.npy")
        (broken,) = (r for r in read_affectnet(tmp_path, OPTIONS).records if isinstance(r, BrokenRecord))
        assert broken.origin == "train_set/images/3.jpg"
        assert broken.reason.startswith(reason)

    def test_too_many_of_them_end_preparation_and_are_named(self, tmp_path):
        write_folders(tmp_path)
        (tmp_path / "val_set" / "annotations" / "5_exp.npy").unlink()
        with pytest.raises(DataError, match=r"has more: val_set/images/5\.jpg: it has no annotations/5_exp\.npy"):
            prepare_store("affectnet", tmp_path, options=PrepareOptions(max_broken=0), progress=False)

    def test_a_number_that_is_no_expression(self, tmp_path):
        write_folders(tmp_path)
        annotate(tmp_path / "val_set", 4, "11")
        with pytest.raises(
            DataError, match=r"expression must be 0 to 7 .*, but .*val_set/annotations/4_exp\.npy has 11"
        ):
            list(read_affectnet(tmp_path, OPTIONS).records)

    def test_a_table_without_its_columns(self, tmp_path):
        write_tables(tmp_path)
        (tmp_path / "validation.csv").write_text("image,label\n")
        with pytest.raises(
            DataError, match=r"validation\.csv must have the columns .*, but lacks subDirectory_filePath"
        ):
            read_affectnet(tmp_path, OPTIONS)

    def test_a_table_without_its_pictures(self, tmp_path):
        write_tables(tmp_path, pictures="deep/down/below")
        with pytest.raises(
            DataError, match=r"the pictures of .*training\.csv must lie in .*, but 0/training\.csv_0\.png"
        ):
            read_affectnet(tmp_path, OPTIONS)

    def test_a_row_whose_box_or_expression_is_no_number(self, tmp_path):
        table = write_tables(tmp_path) / "training.csv"
        lines = table.read_text().splitlines()
        lines[1] = lines[1].replace("10,5,20,20", "10,5,,20")
        lines[2] = lines[2].replace(",1,0.5", ",glad,0.5")
        table.write_text("\n".join(lines))
        broken = [r for r in read_affectnet(tmp_path, OPTIONS).records if isinstance(r, BrokenRecord)]
        assert [record.origin for record in broken] == [f"{table}, line 2", f"{table}, line 3"]
        assert "face_width" in broken[0].reason
        assert "'glad'" in broken[1].reason
