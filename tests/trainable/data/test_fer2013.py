import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trainable.data.fer2013 import CLASSES, read_fer2013
from trainable.data.preparation import prepare_store
from trainable.data.source import BrokenRecord, PrepareOptions
from trainable.data.store import Store
from trainable.errors import DataError

OPTIONS = PrepareOptions()
USAGES = ("Training", "PublicTest", "PrivateTest")
SPLITS = ("train", "validation", "test")
REAL = Path(__file__).parents[3].parent / "shared" / "data" / "fer2013"


def face(seed):
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


ROWS = [(label, face((turn, label)), usage) for turn, usage in enumerate(USAGES) for label in range(7)]
"""Emotion, pixels, usage: one image of each class in each split."""


def png(pixels):
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def write_csv(file, header="emotion,pixels,Usage", rows=ROWS, order=(0, 1, 2)):
    lines = [header]
    for label, pixels, usage in rows:
        cells = (str(label), " ".join(map(str, pixels.reshape(-1))), usage)
        lines.append(",".join(cells[column] for column in order))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file


def write_parquet(file, rows=ROWS):
    emotion, pixels, usage = zip(*rows, strict=True)
    columns = {"image": [png(one) for one in pixels], "emotion": pa.array(emotion, pa.int8()), "usage": usage}
    pq.write_table(pa.table(columns | {"file": ["x.jpg"] * len(rows)}), file)
    return file


def write_folders(root, names=None, test_folder="test", classes=CLASSES):
    for number, (label, pixels, usage) in enumerate(ROWS):
        folder = root / ("train" if usage == "Training" else test_folder) / classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{names or usage}_{number}.png")
    return root


def write_kaggle(root):
    return write_csv(root / "fer2013.csv").parent


def write_icml(root):
    return write_csv(root / "icml_face_data.csv", "emotion, Usage, pixels", order=(0, 2, 1)).parent


def write_parquets(root):
    root.mkdir()
    for usage in USAGES:
        write_parquet(root / f"{usage.lower()}.parquet", [row for row in ROWS if row[2] == usage])
    return root


def check_holds_rows(store):
    for name, usage in zip(SPLITS, USAGES, strict=True):
        split = store.split(name)
        found = dict(zip(split.labels.tolist(), split.images, strict=True))
        assert len(split) == len(found) == 7
        for label, pixels, _ in (row for row in ROWS if row[2] == usage):
            np.testing.assert_array_equal(found[label], pixels)


@pytest.mark.parametrize(
    ("write", "edition"),
    [(write_kaggle, "csv"), (write_icml, "csv"), (write_parquets, "parquet"), (write_folders, "folders")],
)
@pytest.mark.parametrize("above", [False, True])
def test_every_edition_gives_the_same_pixels(tmp_path, write, edition, above):
    path = tmp_path / "path"
    if above:
        path.mkdir()
    write(path / "data" if above else path)
    store = Store.open(prepare_store("fer2013", path, out=tmp_path / "store", progress=False))
    check_holds_rows(store)
    assert store.manifest.classes == CLASSES
    assert store.manifest.source["edition"] == edition


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_file_may_be_named_itself(tmp_path, write):
    file = write(tmp_path / ("faces.csv" if write is write_csv else "faces.parquet"))
    check_holds_rows(Store.open(prepare_store("fer2013", file, out=tmp_path / "store", progress=False)))


def splits_of(source):
    return Counter(record.split for record in source.records)


def test_file_names_tell_validation_from_test(tmp_path):
    source = read_fer2013(write_folders(tmp_path), OPTIONS)
    assert source.source["evaluation_split"] == "file names"
    for record in source.records:
        assert record.image.name.startswith(dict(zip(SPLITS, USAGES, strict=True))[record.split])


def test_one_evaluation_folder_without_names_is_halved_by_class(tmp_path):
    source = read_fer2013(write_folders(tmp_path, names="im"), PrepareOptions(seed=4))
    assert source.source["evaluation_split"] == "stratified halves, seed 4"
    assert Counter((record.split, record.label) for record in source.records) == {
        (split, label): 1 for split in SPLITS for label in range(7)
    }


def test_three_folders_are_taken_as_they_are(tmp_path):
    write_folders(tmp_path, names="im")
    write_folders(tmp_path, names="im", test_folder="validation")
    source = read_fer2013(tmp_path, OPTIONS)
    assert splits_of(source) == {"train": 7, "validation": 14, "test": 14}
    assert source.source["evaluation_split"] == "folders"


def test_other_words_for_the_classes_are_known(tmp_path):
    names = ("Anger", "disgusted", "fearful", "happiness", "sadness", "surprised", "neutral")
    source = read_fer2013(write_folders(tmp_path, classes=names), OPTIONS)
    assert {(names[record.label], record.image.parent.name) for record in source.records} == {(n, n) for n in names}


def broken_of(source):
    return {record.origin: record.reason for record in source.records if isinstance(record, BrokenRecord)}


def test_broken_rows_of_a_csv_are_named_by_line(tmp_path):
    file = write_csv(tmp_path / "fer2013.csv")
    lines = file.read_text().splitlines()
    lines[2] = lines[2].replace("1,", "x,", 1)
    lines[4] = lines[4].replace("Training", "Trainig")
    lines[5] = lines[5].split(",")[0]
    lines[6] = "5,,Training"
    file.write_text("\n".join(lines))
    assert broken_of(read_fer2013(file, OPTIONS)) == {
        "fer2013.csv, line 3": "its emotion must be a number, but is 'x'",
        "fer2013.csv, line 5": "its usage must be one of Training, PublicTest, PrivateTest, but is 'Trainig'",
        "fer2013.csv, line 6": "the row must have 3 columns, but has 1",
        "fer2013.csv, line 7": "it has no image",
    }


def test_broken_rows_of_parquet_are_named_by_row(tmp_path):
    file = tmp_path / "faces.parquet"
    columns = {
        "image": [png(face(0)), None, png(face(2))],
        "emotion": pa.array([None, 1, 2], pa.int8()),
        "usage": ["Training", "Training", None],
    }
    pq.write_table(pa.table(columns), file)
    assert broken_of(read_fer2013(file, OPTIONS)) == {
        "faces.parquet, row 0": "its emotion must be a number, but is None",
        "faces.parquet, row 1": "it has no image",
        "faces.parquet, row 2": "its usage must be one of Training, PublicTest, PrivateTest, but is None",
    }


class TestErrors:
    def test_nothing_found_names_what_was_looked_for(self, tmp_path):
        (tmp_path / "notes.txt").write_text("")
        with pytest.raises(
            DataError, match=r"must be, or hold, fer2013.csv or icml_face_data.csv, \*.parquet, or.*train/"
        ):
            read_fer2013(tmp_path, OPTIONS)

    def test_another_file(self, tmp_path):
        (tmp_path / "fer2013.zip").write_text("")
        with pytest.raises(DataError, match=r"no edition of FER-2013 was found at .*fer2013.zip"):
            read_fer2013(tmp_path / "fer2013.zip", OPTIONS)

    @pytest.mark.parametrize("write", [write_csv, write_parquet])
    def test_unknown_emotion(self, tmp_path, write):
        file = write(tmp_path / f"faces.{write.__name__[6:]}", rows=[*ROWS, (7, face(9), "Training")])
        where = "line 23" if write is write_csv else "row 21"
        with pytest.raises(DataError, match=rf"emotion must be 0 to 6 \(angry, .*neutral\), but faces.*{where} has 7"):
            list(read_fer2013(file, OPTIONS).records)

    def test_unknown_class_folder(self, tmp_path):
        (write_folders(tmp_path) / "train" / "contempt").mkdir()
        with pytest.raises(DataError, match=r"one of the classes angry, .*, but got 'contempt'"):
            read_fer2013(tmp_path, OPTIONS)

    def test_missing_columns_of_csv(self, tmp_path):
        file = write_csv(tmp_path / "train.csv", "emotion,pixels", order=(0, 1))
        with pytest.raises(DataError, match=r"emotion, pixels, usage, but lacks usage; it has emotion, pixels"):
            list(read_fer2013(file, OPTIONS).records)

    def test_missing_columns_of_parquet(self, tmp_path):
        pq.write_table(pa.table({"label": [1], "image": [b"x"]}), tmp_path / "x.parquet")
        with pytest.raises(DataError, match="image, emotion, usage, but lacks emotion, usage; it has label, image"):
            read_fer2013(tmp_path, OPTIONS)

    def test_cut_off_parquet(self, tmp_path):
        file = write_parquet(tmp_path / "x.parquet")
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(DataError, match=r"x.parquet must be a whole parquet file, but"):
            read_fer2013(file, OPTIONS)

    def test_no_path(self):
        with pytest.raises(DataError, match="fer2013 must be given a path"):
            read_fer2013(None, OPTIONS)


PUBLISHED = {
    "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "validation": (467, 56, 496, 895, 653, 415, 607),
    "test": (491, 55, 528, 879, 594, 416, 626),
}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return Store.open(prepare_store("fer2013", REAL, out=tmp_path_factory.mktemp("fer") / "store", progress=False))


def noted_duplicates():
    """Training rows that carry the same `dup_group` as an evaluation row, by the data set's own notes."""
    columns = [pq.read_table(file, columns=["usage", "dup_group"]) for file in sorted(REAL.glob("*.parquet"))]
    table = pa.concat_tables(columns).to_pandas()
    copied = set(table.dup_group[(table.usage != "Training") & (table.dup_group >= 0)])
    return int(((table.usage == "Training") & table.dup_group.isin(copied)).sum())


@pytest.mark.e2e
@pytest.mark.skipif(not REAL.is_dir(), reason="the real FER-2013 is not beside the repository")
class TestReal:
    def test_evaluation_splits_are_whole(self, real):
        for name in ("validation", "test"):
            assert tuple(real.manifest.counts[name].values()) == PUBLISHED[name]

    def test_training_is_the_published_split_less_what_was_dropped(self, real):
        kept = real.manifest.counts["train"]
        assert sum(kept.values()) == 28_709 - sum(real.manifest.dropped.values())
        for kept_images, published in zip(kept.values(), PUBLISHED["train"], strict=True):
            assert kept_images < published

    def test_dropped_are_the_noted_duplicates_and_the_flat_ones(self, real):
        assert real.manifest.dropped["flat"] == 12
        exactly_flat = 11  # all copies of one flat PublicTest image; the twelfth has levels that differ by 3
        assert real.manifest.dropped["duplicate_of_evaluation"] == noted_duplicates() - exactly_flat == 692
        assert real.manifest.dropped["broken"] == 0

    def test_pixels_look_as_noted(self, real):
        pixels = real.split("train").images
        assert abs(pixels.mean() / 255 - 0.508) < 0.003
        assert abs(pixels[:5000].std() / 255 - 0.255) < 0.005
        real.verify()

    def test_everything_is_kept_when_asked(self, tmp_path):
        options = PrepareOptions(keep_duplicates=True)
        store = Store.open(prepare_store("fer2013", REAL, out=tmp_path / "store", options=options, progress=False))
        assert tuple(store.manifest.counts["train"].values()) == PUBLISHED["train"]
        assert store.manifest.dropped == {"duplicate_of_evaluation": 0, "flat": 0, "broken": 0}
