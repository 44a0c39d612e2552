import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from trainable.data import preparation
from trainable.data.preparation import dataset_names, prepare_store
from trainable.data.source import BrokenRecord, PrepareOptions, Record, Source
from trainable.data.store import Store, stores_folder
from trainable.data_flags import DATASET_HELP
from trainable.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GLANCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def image(seed, size=48):
    return np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)


def flat(level, size=48):
    return np.full((size, size), level, np.uint8)


def save(root, tree):
    """Write `<root>/<split>/<class>/<number>.png` from lists of arrays."""
    for folder, images in tree.items():
        (root / folder).mkdir(parents=True)
        for number, pixels in enumerate(images):
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


@pytest.fixture
def tree(tmp_path):
    names = [f"{split}/{kind}" for split in ("train", "validation", "test") for kind in ("cross", "glad")]
    content = {name: [image((turn, number)) for number in range(4)] for turn, name in enumerate(names)}
    return save(tmp_path / "faces", content)


@pytest.fixture
def reader(monkeypatch):
    """Put a reader of given records into the table, under the name "given"; it says how often it was read."""

    def install(records):
        reads = []

        def iterate():
            reads.append(1)
            yield from records

        def read(path, options):
            return Source(
                dataset="given",
                classes=("cross", "glad"),
                unseen_classes=(),
                image_size=options.image_size,
                channels=options.channels,
                records=iterate(),
                source={"path": "there"},
            )

        monkeypatch.setitem(preparation.DATASETS, "given", read)
        return reads

    return install


def records(extra=(), splits=("train", "validation", "test")):
    whole = [
        Record(split=split, label=label, image=image((turn, label)), origin=f"row {turn}{label}")
        for turn, split in enumerate(splits)
        for label in (0, 1)
    ]
    return [*whole, *extra]


def one(pixels, split="train", label=0):
    return Record(split=split, label=label, image=pixels, origin="extra")


def broken(count):
    return [BrokenRecord(origin=f"a.csv, line {number}", reason="it has no image") for number in range(count)]


def prepare(dataset="given", path=None, **options):
    return Store.open(prepare_store(dataset, path, options=PrepareOptions(**options), progress=False))


def test_a_folder_becomes_a_store(tree):
    store = prepare("folder", tree)
    assert store.manifest.counts == {name: {"cross": 4, "glad": 4} for name in ("train", "validation", "test")}
    assert store.manifest.source["path"] == str(tree)
    expected = {image((turn, number)).tobytes() for turn in (0, 1) for number in range(4)}
    assert {pixels.tobytes() for pixels in store.split("train").images} == expected
    store.verify()


def test_size_and_channels_are_those_asked_for(tree):
    store = prepare("folder", tree, image_size=24, channels=3)
    assert store.split("test").images.shape == (8, 24, 24, 3)


def test_synthetic_faces_have_the_sizes_asked_for():
    store = prepare("synthetic", synthetic_sizes=(21, 14, 7), channels=3, image_size=32)
    assert [len(store.split(name)) for name in ("train", "validation", "test")] == [21, 14, 7]
    assert store.manifest.dataset == "synthetic"
    assert len(store.split("test", store.manifest.unseen_classes)) > 0
    assert store.split("train").images.shape == (21, 32, 32, 3)


def test_the_seed_draws_other_faces():
    hashes = {prepare("synthetic", synthetic_sizes=(7, 7, 7), seed=seed).manifest.content_hash for seed in (0, 1)}
    assert len(hashes) == 2


def test_data_set_names():
    assert dataset_names() == ("synthetic", "fer2013", "ferplus", "affectnet", "folder")
    assert re.findall(r"\b(?!or\b)\w+", DATASET_HELP.replace("(built in)", "")) == [*dataset_names()]


class TestDropping:
    EXTRA = (
        one(image((1, 0))),  # equals a validation image
        one(image((2, 1))),  # equals a test image, of another class
        one(image((2, 1))),
        one(image((0, 0))),  # equals a training image only
        one(flat(9)),
        one(flat(200)),  # flat, and equal to a test image
        one(flat(200), "test"),
        one(flat(3), "validation"),
        one(image((2, 0)), "validation"),  # equals a test image, but is no training image
    )

    def test_each_reason_is_counted_once(self, reader):
        reader(records(self.EXTRA))
        manifest = prepare().manifest
        assert manifest.dropped == {"duplicate_of_evaluation": 3, "flat": 2, "broken": 0}
        assert manifest.counts["train"] == {"cross": 2, "glad": 1}
        assert manifest.counts["validation"] == {"cross": 3, "glad": 1}
        assert manifest.counts["test"] == {"cross": 2, "glad": 1}

    def test_what_is_kept_keeps_its_order_and_label(self, reader):
        reader(records([*self.EXTRA, one(image(99), label=1)]))
        split = prepare().split("train")
        np.testing.assert_array_equal(split.images, [image((0, 0)), image((0, 1)), image((0, 0)), image(99)])
        assert split.labels.tolist() == [0, 1, 0, 1]

    def test_everything_is_kept_when_asked(self, reader):
        reader(records(self.EXTRA))
        manifest = prepare(keep_duplicates=True).manifest
        assert manifest.dropped == {"duplicate_of_evaluation": 0, "flat": 0, "broken": 0}
        assert sum(manifest.counts["train"].values()) == 8

    def test_more_images_than_one_block_are_moved(self, reader, monkeypatch):
        monkeypatch.setattr("trainable.data.spool._BLOCK_ROWS", 3)
        kept = [image((9, number)) for number in range(20)]
        reader(records([one(pixels) for pair in zip(kept, [flat(1)] * 20, strict=True) for pixels in pair]))
        np.testing.assert_array_equal(prepare().split("train").images[2:], kept)

    def test_a_class_that_loses_all_its_training_images_is_named(self, reader):
        copies = [one(image(50), label=1), one(image(50), "test", label=1), one(image(51), "validation", label=1)]
        others = [one(image(0)), one(image(1), "validation"), one(image(2), "test")]
        reader([*others, *copies])
        with pytest.raises(DataError, match=r"but glad has none left.*--keep-duplicates"):
            prepare()

    def test_nothing_left_to_train_on(self, reader):
        reader([one(flat(1)), one(image(0), "validation"), one(image(0), "test")])
        with pytest.raises(DataError, match="every class must have training images, but cross, glad has none left"):
            prepare()


class TestBroken:
    def test_up_to_the_limit_they_are_skipped_counted_and_named(self, reader, capsys):
        reader(records(broken(4)))
        store = prepare(max_broken=4)
        assert store.manifest.dropped["broken"] == 4
        assert capsys.readouterr().err == (
            "warning: skipped 4 unreadable of there: a.csv, line 0: it has no image; a.csv, line 1: it has no image; "
            "a.csv, line 2: it has no image; and 1 more\n"
        )

    def test_past_the_limit_they_are_an_error_that_names_them(self, reader, cache):
        reader(records(broken(5)))
        with pytest.raises(
            DataError,
            match=r"at most 4 unreadable .* has more: a.csv, line 0: .*and 2 more.*`glance-prepare --max-broken`",
        ):
            prepare(max_broken=4)
        assert list((cache / "stores").iterdir()) == []

    def test_a_damaged_file_is_named(self, tree, capsys):
        (tree / "train" / "glad" / "2.png").write_bytes(b"not a picture")
        store = prepare("folder", tree)
        assert "train/glad/2.png: not an image that Pillow can read" in capsys.readouterr().err
        assert store.manifest.counts["train"]["glad"] == 3

    def test_a_dangling_link_is_named_and_skipped(self, tree, capsys):
        (tree / "train" / "glad" / "2.png").unlink()
        (tree / "train" / "glad" / "2.png").symlink_to(tree / "gone.png")
        store = prepare("folder", tree)
        assert "train/glad/2.png: " in capsys.readouterr().err
        assert store.manifest.counts["train"]["glad"] == 3

    def test_no_warning_where_nothing_is_broken(self, tree, capsys):
        prepare("folder", tree)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
def test_an_empty_split_is_named_with_the_others_counts(reader, empty):
    reader(records(splits=[name for name in ("train", "validation", "test") if name != empty]))
    with pytest.raises(DataError, match=rf"the {empty} split of there is empty \(.*{empty}: 0.*\)") as caught:
        prepare()
    assert str(caught.value).count(": 2") == 2


class TestCache:
    def test_a_prepared_set_is_not_decoded_again(self, reader):
        reads = reader(records())
        assert prepare().path == prepare().path
        assert len(reads) == 1

    def test_out_is_used_again_as_well(self, reader, tmp_path):
        reads = reader(records())
        for _ in range(2):
            assert prepare_store("given", out=tmp_path / "mine", progress=False) == tmp_path / "mine"
        assert len(reads) == 1

    def test_out_is_written_again_for_other_options(self, reader, tmp_path):
        for size in (48, 24):
            reader(records())
            prepare_store("given", out=tmp_path / "mine", options=PrepareOptions(image_size=size), progress=False)
        assert Store.open(tmp_path / "mine").manifest.image_size == 24

    @pytest.mark.parametrize(
        "options", [{"image_size": 24}, {"channels": 3}, {"seed": 1}, {"keep_duplicates": True}, {"max_broken": 1}]
    )
    def test_every_option_makes_another_store(self, tree, options):
        assert prepare("folder", tree).path != prepare("folder", tree, **options).path

    @pytest.mark.parametrize("change", ["new", "touched", "gone"])
    def test_a_changed_file_makes_another_store(self, tree, change):
        before = prepare("folder", tree).path
        if change == "new":
            Image.fromarray(image(77)).save(tree / "train" / "glad" / "new.png")
        elif change == "touched":
            os.utime(tree / "train" / "glad" / "1.png", ns=(1, 1))
        else:
            (tree / "train" / "glad" / "1.png").unlink()
        assert prepare("folder", tree).path != before

    def test_a_torn_store_is_prepared_again(self, reader):
        reads = reader(records())
        torn = prepare().path
        (torn / "train.arrow").write_bytes(b"")
        reader(records())
        assert prepare().path == torn
        assert len(reads) == 1
        Store.open(torn).verify()

    def test_the_folder_comes_from_the_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GLANCE_CACHE", str(tmp_path / "a"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
        assert stores_folder() == tmp_path / "a" / "stores"
        monkeypatch.delenv("GLANCE_CACHE")
        assert stores_folder() == tmp_path / "b" / "glance" / "stores"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert stores_folder() == tmp_path / ".cache" / "glance" / "stores"

    def test_leftovers_of_a_day_ago_are_removed(self, tree, cache):
        stores = cache / "stores"
        for name, age_seconds in ((".old-one.tmp", 2 * 86400), (".young-one.tmp", 60), (".other", 2 * 86400)):
            (stores / name).mkdir(parents=True)
            os.utime(stores / name, (time.time() - age_seconds,) * 2)
        prepare("folder", tree)
        assert {entry.name for entry in stores.iterdir() if entry.name[0] == "."} == {".young-one.tmp", ".other"}


def test_a_store_is_returned_as_it_is(tree):
    path = prepare("folder", tree).path
    for dataset in ("synthetic", "fer2013", "anything"):
        assert prepare_store(dataset, path) == path


def test_a_damaged_store_is_not_returned(tree):
    path = prepare("folder", tree).path
    (path / "test.arrow").unlink()
    with pytest.raises(DataError, match=r"damaged: test\.arrow"):
        prepare_store("folder", path)


def test_nothing_is_left_beside_the_store(tree, cache):
    path = prepare("folder", tree).path
    assert list((cache / "stores").iterdir()) == [path]


class TestErrors:
    def test_an_unknown_data_set(self):
        with pytest.raises(DataError, match=r"no data set is called 'fer213'\. Did you mean 'fer2013'"):
            prepare_store("fer213")

    def test_synthetic_takes_no_path(self, tree):
        with pytest.raises(DataError, match=r"takes no path, but got .*faces.*--dataset"):
            prepare_store("synthetic", tree)

    def test_a_foreign_folder_is_refused_before_decoding(self, reader, tmp_path):
        reads = reader(records())
        (tmp_path / "notes.txt").write_text("")
        with pytest.raises(DataError, match=r"must be a store or not exist yet, but holds"):
            prepare_store("given", out=tmp_path)
        assert not reads

    def test_a_place_that_cannot_be_written(self, tree, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"folder cannot be prepared: .*file"):
            prepare_store("folder", tree, out=tmp_path / "file" / "store")

    def test_workers(self):
        with pytest.raises(DataError, match="workers >= 0"):
            prepare_store("synthetic", workers=-1)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"image_size": 4}, "image_size >= 8 must hold, but got 4"),
            ({"channels": 2}, "channels must be 1 or 3"),
            ({"seed": -1}, "seed >= 0"),
            ({"max_broken": -1}, "max_broken >= 0"),
            ({"synthetic_sizes": (1, 2, 0)}, "three numbers of at least 1"),
        ],
    )
    def test_options_out_of_their_domain(self, options, sentence):
        with pytest.raises(DataError, match=sentence):
            PrepareOptions(**options)


class TestProgress:
    def test_plain_lines_where_stderr_is_no_terminal(self, tree, capsys):
        prepare_store("folder", tree)
        first, last = capsys.readouterr().err.splitlines()
        assert first == "preparing folder: 24 images"
        assert last.startswith("prepared folder: 24 images in ")

    def test_a_bar_on_a_terminal(self, tree, capsys, monkeypatch):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        monkeypatch.setenv("TERM", "xterm")
        prepare_store("folder", tree)
        assert "24/24" in capsys.readouterr().err

    def test_nothing_where_it_is_switched_off(self, tree, capsys):
        prepare_store("folder", tree, progress=False)
        assert capsys.readouterr() == ("", "")
