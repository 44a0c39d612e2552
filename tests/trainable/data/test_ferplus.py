import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trainable.data.ferplus import CLASSES, VOTED, read_ferplus
from trainable.data.preparation import prepare_store
from trainable.data.source import BrokenRecord, LeftOut, PrepareOptions, Record
from trainable.data.store import Store
from trainable.errors import DataError

OPTIONS = PrepareOptions()
USAGES = ("Training", "PublicTest", "PrivateTest")
REAL = Path(__file__).parents[3].parent / "shared" / "data" / "fer2013"
EMOTIONS = VOTED[:8]


def votes(**given):
    return [given.get(name, 0) for name in VOTED]


SEVEN_OF_TEN = [votes(**{name: 7, EMOTIONS[i - 1]: 2, "unknown": 1}) for i, name in enumerate(EMOTIONS)]
"""For each emotion a picture: seven votes for it, two for the one before it, one for unknown."""


def face(seed):
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


def write_csv(folder, voted=SEVEN_OF_TEN, usages=USAGES, votes_folder="."):
    pictures, lines = ["emotion,pixels,Usage"], ["Usage,Image name," + ",".join(VOTED)]
    for usage in usages:
        for number, row in enumerate(voted):
            pixels = " ".join(map(str, face((USAGES.index(usage), number)).reshape(-1)))
            pictures.append(f"0,{pixels},{usage}")
            lines.append(f"{usage},fer{number:07}.png," + ",".join(map(str, row)))
    (folder / votes_folder).mkdir(parents=True, exist_ok=True)
    (folder / "fer2013.csv").write_text("\n".join(pictures) + "\n")
    (folder / votes_folder / "fer2013new.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_parquet(folder, voted=SEVEN_OF_TEN, usages=USAGES):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(row, usage, (USAGES.index(usage), number)) for usage in usages for number, row in enumerate(voted)]
    images = []
    for *_, seed in rows:
        sink = io.BytesIO()
        Image.fromarray(face(seed)).save(sink, "PNG")
        images.append(sink.getvalue())
    columns = {
        "image": images,
        "emotion": pa.array([0] * len(rows), pa.int8()),
        "usage": [usage for _, usage, _ in rows],
        "ferplus_votes": pa.array([row for row, *_ in rows], pa.list_(pa.int8())),
    }
    pq.write_table(pa.table(columns), folder / "all.parquet")
    return folder


def read(folder, **options):
    return list(read_ferplus(folder, PrepareOptions(**options)).records)


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_the_label_is_the_emotion_with_most_votes_and_shares_are_those_of_emotions(tmp_path, write):
    store = Store.open(prepare_store("ferplus", write(tmp_path / "data"), progress=False))
    assert store.manifest.classes == CLASSES
    names = {"happiness": "happy", "sadness": "sad", "anger": "angry"}
    for split, usage in zip(("train", "validation", "test"), USAGES, strict=True):
        stored = store.split(split)
        for number, emotion in enumerate(EMOTIONS):
            (row,) = np.flatnonzero((stored.images == face((USAGES.index(usage), number))).all(axis=(1, 2)))
            label, before = (CLASSES.index(names.get(name, name)) for name in (emotion, EMOTIONS[number - 1]))
            assert stored.labels[row] == label
            expected = np.zeros(8)
            expected[label], expected[before] = 7 / 9, 2 / 9
            np.testing.assert_allclose(stored.shares[row], expected, rtol=1e-6)


def test_the_votes_may_lie_in_a_folder_beside_the_pictures(tmp_path):
    source = read_ferplus(write_csv(tmp_path, votes_folder="FERPlus"), OPTIONS)
    assert source.total == 24
    assert all(isinstance(record, Record) for record in source.records)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (votes(NF=6, happiness=4), "not_a_face"),
        (votes(unknown=6, fear=4), "unknown"),
        (votes(fear=5, surprise=5), "without_majority"),
        (votes(fear=4, surprise=3, sadness=3), "below_vote_share"),
        (votes(), "without_votes"),
    ],
)
def test_a_picture_that_people_do_not_agree_on_is_left_out_with_the_reason(tmp_path, row, reason):
    (found,) = read(write_csv(tmp_path, [row], ("Training",)))
    assert found == LeftOut(reason=reason)


def test_the_share_is_of_all_votes_and_its_minimum_is_chosen(tmp_path):
    write_parquet(tmp_path, [votes(fear=6, surprise=2, NF=2)], ("Training",))
    (kept,), (dropped,) = read(tmp_path, min_vote_share=0.6), read(tmp_path, min_vote_share=0.61)
    assert kept.shares == pytest.approx([0, 0, 0, 0.25, 0.75, 0, 0, 0])
    assert dropped == LeftOut(reason="below_vote_share")


def test_a_picture_that_nobody_was_asked_of_is_counted(tmp_path):
    folder = write_parquet(tmp_path / "data", [*SEVEN_OF_TEN, None])
    assert Store.open(prepare_store("ferplus", folder, progress=False)).manifest.dropped["without_votes"] == 3


def test_a_minimum_share_of_votes_for_data_without_votes_is_refused(tmp_path):
    with pytest.raises(DataError, match="--min-vote-share must go with the data set ferplus"):
        prepare_store("folder", tmp_path, options=PrepareOptions(min_vote_share=0.7))


class TestWrongFiles:
    def test_another_folder(self, tmp_path):
        with pytest.raises(DataError, match=rf"no edition of FERPlus was found at {tmp_path}.*ferplus_votes"):
            read_ferplus(tmp_path, OPTIONS)

    def test_fer2013_without_votes(self, tmp_path):
        (write_csv(tmp_path) / "fer2013new.csv").unlink()
        with pytest.raises(DataError, match=r"votes of FERPlus must lie beside .*fer2013\.csv.*microsoft/FERPlus"):
            read_ferplus(tmp_path, OPTIONS)

    def test_parquet_without_votes(self, tmp_path):
        file = write_parquet(tmp_path) / "all.parquet"
        pq.write_table(pq.read_table(file).drop_columns("ferplus_votes"), file)
        with pytest.raises(DataError, match=r"all\.parquet must have the columns .*, but lacks ferplus_votes"):
            read_ferplus(tmp_path, OPTIONS)

    def test_votes_of_other_rows(self, tmp_path):
        file = write_csv(tmp_path) / "fer2013new.csv"
        lines = file.read_text().splitlines()
        file.write_text("\n".join(lines[:-1]))
        with pytest.raises(DataError, match=r"fer2013new\.csv must have a row for each row of .*row 23 is not there"):
            read(tmp_path)
        file.write_text("\n".join([lines[0], lines[-1], *lines[2:]]))
        with pytest.raises(DataError, match=r"row 0 is PrivateTest in the one and Training in the other"):
            read(tmp_path)

    def test_votes_that_are_no_numbers(self, tmp_path):
        file = write_csv(tmp_path, usages=("Training",)) / "fer2013new.csv"
        file.write_text(file.read_text().replace(",7,", ",many,", 1))
        broken = [record for record in read(tmp_path) if isinstance(record, BrokenRecord)]
        assert [(record.origin, "'many'" in record.reason) for record in broken] == [("fer2013.csv, line 2", True)]


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real FER-2013 beside the repository")
def test_the_real_votes_give_the_published_majorities():
    found = Counter(
        record.reason if isinstance(record, LeftOut) else CLASSES[record.label]
        for record in read_ferplus(REAL, PrepareOptions(min_vote_share=0.0)).records
    )
    assert found.total() == 35_887
    assert found["without_votes"] == 177
    assert found["happy"] > found["surprise"] > found["angry"] > found["fear"] > found["contempt"] > 100
