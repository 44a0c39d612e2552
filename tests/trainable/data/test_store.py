import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from trainable.data import store as store_module
from trainable.data.store import Store, is_store, write_store
from trainable.errors import DataError

CLASSES = ("angry", "happy", "awed")


def parts(seed=0, size=8, channels=1, count=30):
    """Random images of three classes, the last of them unseen."""
    rng = np.random.default_rng(seed)
    shape = (count, size, size) + ((3,) if channels == 3 else ())
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    labels = np.arange(count) % 3
    return {
        "dataset": "folder",
        "classes": CLASSES,
        "unseen_classes": ("awed",),
        "splits": {
            "train": (images[labels < 2], labels[labels < 2]),
            "validation": (images, labels),
            "test": (images[::-1], labels[::-1]),
        },
        "source": {"path": "somewhere", "seed": seed},
        "dropped": {"flat": 2},
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def of_classes(pair, labels):
    images, own = pair
    rows = np.isin(own, labels)
    return images[rows], own[rows]


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read(path, channels):
    given = parts(channels=channels)
    write_store(path, **given)
    store = Store.open(path)
    for name, pair in given["splits"].items():
        images, labels = of_classes(pair, [0, 1])
        split = store.split(name)
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, labels)
        assert split.labels.dtype == np.int64
    assert (store.manifest.image_size, store.manifest.channels) == (8, channels)
    assert store.manifest.seen_classes == ("angry", "happy")
    assert store.manifest.source == given["source"]
    assert store.manifest.dropped == {"flat": 2}


def test_manifest_counts_each_class_of_each_split(path):
    manifest = write_store(path, **parts()).manifest
    assert manifest.counts["train"] == {"angry": 10, "happy": 10, "awed": 0}
    assert manifest.counts["test"] == {"angry": 10, "happy": 10, "awed": 10}


def test_each_file_is_one_batch_of_the_documented_columns(path):
    write_store(path, **parts())
    with pa.memory_map(str(path / "validation.arrow")) as source:
        reader = pa.ipc.open_file(source)
        assert reader.num_record_batches == 1
        assert reader.schema == pa.schema({"image": pa.binary(64), "label": pa.int16()})


def test_seen_images_are_a_view_of_the_map_that_cannot_be_written(path):
    split = write_store(path, **parts()).split("validation")
    with pytest.raises(ValueError, match="read-only"):
        split.images[0, 0, 0] = 1
    content = (path / "validation.arrow").read_bytes()
    with (path / "validation.arrow").open("r+b") as file:
        file.seek(content.find(split.images[4].tobytes()))
        file.write(bytes(64))
    assert not split.images[4].any()


def test_opening_reads_no_image(path, monkeypatch):
    write_store(path, **parts())
    monkeypatch.setattr(store_module, "_content_hash", lambda *_: pytest.fail("read the images"))
    Store.open(path)


def test_unseen_classes_can_be_asked_for(path):
    given = parts()
    split = write_store(path, **given).split("test", ["awed", "angry"])
    images, labels = of_classes(given["splits"]["test"], [0, 2])
    order = np.argsort(labels == 2, kind="stable")
    np.testing.assert_array_equal(split.images, images[order])
    np.testing.assert_array_equal(split.labels, labels[order])


def test_a_split_without_the_classes_asked_for_is_empty(path):
    assert len(write_store(path, **parts()).split("train", ["awed"])) == 0


def test_unknown_split_and_class_name_the_nearest(path):
    store = write_store(path, **parts())
    with pytest.raises(DataError, match=r"one of train, validation, test, but got 'tests'.*Did you mean 'test'"):
        store.split("tests")
    with pytest.raises(DataError, match=r"has no class 'hapy'.*Did you mean 'happy'"):
        store.split("test", ["hapy"])


def test_verify_finds_one_changed_bit(path):
    store = write_store(path, **parts())
    store.verify()
    file = path / "train.arrow"
    content = bytearray(file.read_bytes())
    at = content.find(store.split("train").images[3].tobytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="damaged: its images are not those that its manifest was written for"):
        Store.open(path).verify()


@pytest.mark.parametrize("change", ["pixel", "label", "class"])
def test_content_hash_covers_images_labels_and_classes(tmp_path, change):
    given = parts()
    first = write_store(tmp_path / "first", **given).manifest.content_hash
    if change == "class":
        given["classes"] = ("angry", "glad", "awed")
    else:
        images, labels = (array.copy() for array in given["splits"]["test"])
        (images[0, 0] if change == "pixel" else labels)[1] ^= 1
        given["splits"]["test"] = (images, labels)
    assert write_store(tmp_path / "second", **given).manifest.content_hash != first


def test_content_hash_does_not_depend_on_the_source(tmp_path):
    given = parts()
    first = write_store(tmp_path / "first", **given)
    second = write_store(tmp_path / "second", **given | {"source": {"path": "elsewhere"}})
    assert first.manifest.content_hash == second.manifest.content_hash


class TestDamagedStores:
    def test_no_folder(self, path):
        with pytest.raises(DataError, match=r"must be a store with a manifest.json, but has none.*glance-prepare"):
            Store.open(path)

    def test_a_file(self, path):
        path.write_text("x")
        with pytest.raises(DataError, match="must be a store"):
            Store.open(path)

    def test_without_manifest(self, path):
        write_store(path, **parts())
        (path / "manifest.json").unlink()
        assert not is_store(path)
        with pytest.raises(DataError, match=r"must be a store with a manifest.json"):
            Store.open(path)

    @pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
    @pytest.mark.parametrize("name", ["train.arrow", "validation.arrow", "test.arrow", "manifest.json"])
    def test_cut_off_file(self, path, name, keep):
        write_store(path, **parts())
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(DataError, match=r"damaged.*Delete the folder and prepare it again"):
            Store.open(path)

    def test_missing_split(self, path):
        write_store(path, **parts())
        (path / "test.arrow").unlink()
        with pytest.raises(DataError, match=r"damaged: test.arrow cannot be read"):
            Store.open(path)

    def test_split_of_another_store(self, path, tmp_path):
        write_store(path, **parts())
        other = write_store(tmp_path / "other", **parts(count=33))
        (other.path / "train.arrow").replace(path / "train.arrow")
        with pytest.raises(DataError, match=r"train.arrow holds another number of images than its manifest says"):
            Store.open(path)

    def test_split_with_images_of_another_size(self, path, tmp_path):
        write_store(path, **parts())
        other = write_store(tmp_path / "other", **parts(size=16))
        (other.path / "train.arrow").replace(path / "train.arrow")
        with pytest.raises(DataError, match="damaged"):
            Store.open(path)

    def test_another_version(self, path):
        write_store(path, **parts())
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))
        with pytest.raises(DataError, match=r"must have version 1, but has 99\. Prepare it again"):
            Store.open(path)

    def test_manifest_without_a_field(self, path):
        write_store(path, **parts())
        manifest = json.loads((path / "manifest.json").read_text())
        del manifest["classes"]
        (path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(DataError, match="lacks or adds a field"):
            Store.open(path)


class TestWriting:
    def test_an_interrupted_writer_leaves_nothing(self, path, monkeypatch):
        monkeypatch.setattr(store_module, "_write_split", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_store(path, **parts())
        assert list(path.parent.iterdir()) == []

    def test_manifest_is_written_last(self, path, monkeypatch):
        written = []
        monkeypatch.setattr(store_module, "_write_split", lambda file, _: written.append(set(file.parent.iterdir())))
        with pytest.raises(DataError, match=r"train\.arrow cannot be read"):
            write_store(path, **parts())
        assert not any(file.name == "manifest.json" for seen in written for file in seen)
        assert len(written) == 3

    def test_the_same_store_is_kept(self, path):
        write_store(path, **parts())
        inode = path.stat().st_ino
        write_store(path, **parts())
        assert path.stat().st_ino == inode

    def test_another_store_is_replaced_and_open_maps_stay(self, path):
        old = write_store(path, **parts()).split("train").images
        write_store(path, **parts(seed=1))
        np.testing.assert_array_equal(old, of_classes(parts()["splits"]["train"], [0, 1])[0])
        assert Store.open(path).manifest.source["seed"] == 1
        assert list(path.parent.iterdir()) == [path]

    def test_a_torn_store_is_replaced(self, path):
        write_store(path, **parts())
        (path / "manifest.json").unlink()
        write_store(path, **parts())
        Store.open(path).verify()

    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_what_is_no_store_is_not_touched(self, path, kind):
        precious = path / "thesis.tex" if kind == "folder" else path
        precious.parent.mkdir(exist_ok=True)
        precious.write_text("years of work")
        with pytest.raises(DataError, match="must be a store or not exist yet, but holds"):
            write_store(path, **parts())
        assert precious.read_text() == "years of work"

    def test_an_empty_folder_is_filled(self, path):
        path.mkdir()
        write_store(path, **parts()).verify()

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="a store must be writable at"):
            write_store(tmp_path / "file" / "store", **parts())


class TestTwoWriters:
    def test_the_slower_one_keeps_the_store_of_the_faster(self, path, monkeypatch):
        rename = Path.rename
        inodes = []

        def overtaken(self, target):
            if not inodes:
                inodes.append(0)
                write_store(path, **parts())
                inodes[0] = path.stat().st_ino
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", overtaken)
        write_store(path, **parts()).verify()
        assert path.stat().st_ino == inodes[0]
        assert list(path.parent.iterdir()) == [path]

    def test_a_store_removed_in_the_middle_is_no_error(self, path, monkeypatch):
        write_store(path, **parts())
        replace = Path.replace
        monkeypatch.setattr(Path, "replace", lambda self, target: (replace(self, target), replace(self, target)))
        write_store(path, **parts(seed=1)).verify()
        assert Store.open(path).manifest.source["seed"] == 1

    def test_a_store_replaced_while_it_is_opened_is_no_mixture(self, path, tmp_path, monkeypatch):
        write_store(path, **parts())
        write_store(tmp_path / "other", **parts(seed=1))
        map_split = store_module._map_split

        def overtaken(file, manifest):
            if file == path / "test.arrow" and manifest.source["seed"] == 0:
                shutil.rmtree(path)
                (tmp_path / "other").rename(path)
            return map_split(file, manifest)

        monkeypatch.setattr(store_module, "_map_split", overtaken)
        store = Store.open(path)
        assert store.manifest.source["seed"] == 1
        store.verify()

    def test_two_processes_leave_one_whole_store(self, path, tmp_path):
        script = (
            "import runpy, sys, time, pathlib\n"
            "parts = runpy.run_path(sys.argv[1])['parts']\n"
            "from trainable.data.store import write_store\n"
            "me, path, gate = int(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])\n"
            "(gate / f'ready{me}').touch()\n"
            "while len(list(gate.iterdir())) < 2: time.sleep(0.001)\n"
            "for turn in range(25): write_store(path, **parts(seed=(turn + me) % 3))\n"
        )
        gate = tmp_path / "gate"
        gate.mkdir()
        command = [sys.executable, "-c", script, __file__]
        writers = [subprocess.Popen([*command, str(me), str(path), str(gate)]) for me in range(2)]
        assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
        Store.open(path).verify()
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["gate", "store"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p: p["splits"].pop("test"), "every split must hold images, but got none for test"),
        (lambda p: p["splits"].update(test=(np.zeros((0, 8, 8), np.uint8), np.zeros(0, int))), "none for test"),
        (lambda p: p.update(unseen_classes=("hapy",)), "unseen classes must be some of the classes"),
        (lambda p: p.update(classes=("angry", "angry", "awed")), "class names must differ"),
        (lambda p: p["splits"].update(train=p["splits"]["test"]), "train split must not show unseen classes"),
        (
            lambda p: p["splits"].update(test=(p["splits"]["test"][0].astype(float), p["splits"]["test"][1])),
            "images of test must be uint8, but got float64",
        ),
        (
            lambda p: p["splits"].update(test=(p["splits"]["test"][0][:, :4], p["splits"]["test"][1])),
            r"images of test must be \(8, 8\) each",
        ),
        (
            lambda p: p["splits"].update(test=(p["splits"]["test"][0], p["splits"]["test"][1] + 1)),
            "labels of test must be 0 to 2, but got 1 to 3",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(path, change, sentence):
    given = parts()
    change(given)
    with pytest.raises(DataError, match=sentence):
        write_store(path, **given)
    assert not path.exists()


class TestShares:
    @staticmethod
    def voted():
        given = parts()
        rng = np.random.default_rng(1)
        return given | {
            "shares": {name: rng.random((len(labels), 3), np.float32) for name, (_, labels) in given["splits"].items()}
        }

    def test_votes_are_read_beside_their_images(self, path):
        given = self.voted()
        split = write_store(path, **given).split("validation", ["awed", "angry"])
        labels = given["splits"]["validation"][1]
        order = [*np.flatnonzero(labels == 0), *np.flatnonzero(labels == 2)]
        np.testing.assert_array_equal(split.shares, given["shares"]["validation"][order])
        np.testing.assert_array_equal(split.images, given["splits"]["validation"][0][order])

    def test_the_column_is_as_documented(self, path):
        write_store(path, **self.voted())
        with pa.memory_map(str(path / "train.arrow")) as source:
            assert pa.ipc.open_file(source).schema.field("shares").type == pa.list_(pa.float32(), 3)

    def test_a_store_without_votes_has_none(self, path):
        assert write_store(path, **parts()).split("train").shares is None

    def test_the_content_hash_covers_them(self, tmp_path):
        given = self.voted()
        first = write_store(tmp_path / "first", **given).manifest.content_hash
        given["shares"]["test"][0, 0] += 0.5
        assert write_store(tmp_path / "second", **given).manifest.content_hash != first
        assert write_store(tmp_path / "third", **parts()).manifest.content_hash != first

    def test_votes_for_some_splits_or_other_classes_are_refused(self, path):
        given = self.voted()
        del given["shares"]["test"]
        with pytest.raises(DataError, match=r"shares of test must be \(30, 3\), as the train split's, but got None"):
            write_store(path, **given)
        given["shares"]["test"] = np.ones((30, 2), np.float32)
        with pytest.raises(DataError, match=r"shares of test must be \(30, 3\)"):
            write_store(path, **given)
