import numpy as np
import pytest
from PIL import Image

from trainable.data.fetched import fetch_store
from trainable.data.store import Store
from trainable.prepare import main
from trainable.storage.storage import open_storage


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind, count in (("cross", 3), ("glad", 2)):
            folder = tmp_path / "faces" / split / kind
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (60, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "faces" / "train" / "glad" / "black.png")
    return tmp_path / "faces"


def test_prints_the_place_the_counts_and_what_was_dropped(tree, tmp_path, capsys):
    out = tmp_path / "store"
    assert main(["--dataset", "folder", "--data-path", str(tree), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"store    {out}",
        "data     folder, 48x48 gray",
        f"hash     {Store.open(out).manifest.content_hash}",
        "",
        "class       train  validation        test",
        "cross           3           3           3",
        "glad            2           2           2",
        "all             5           5           5",
        "",
        "dropped  0 duplicate of evaluation, 1 flat, 0 broken",
    ]


def test_every_flag_reaches_the_store(tree, tmp_path):
    (tree / "test" / "glad" / "0.png").write_bytes(b"")
    flags = "--image-size 24 --channels 3 --seed 5 --keep-duplicates --max-broken 1 --workers 1 --synthetic-sizes 7,7,7"
    command = ["--dataset", "folder", "--data-path", str(tree), "--out", str(tmp_path / "store"), *flags.split()]
    assert main(command) == 0
    manifest = Store.open(tmp_path / "store").manifest
    assert (manifest.image_size, manifest.channels) == (24, 3)
    assert manifest.dropped == {"duplicate_of_evaluation": 0, "flat": 0, "broken": 1}
    assert manifest.source["options"] == {
        "image_size": 24,
        "channels": 3,
        "seed": 5,
        "keep_duplicates": True,
        "max_broken": 1,
        "min_vote_share": 0.5,
        "synthetic_sizes": [7, 7, 7],
    }


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--dataset", "fer2013"], "error: the data set fer2013 must be given a path, but got none."),
        (["--dataset", "fer"], "error: no data set is called 'fer'."),
        (["--synthetic-sizes", "1,2"], "error: --synthetic-sizes must be three numbers"),
        (["--image-size", "0"], "error: image_size >= 8 must hold"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_status_2(flags, sentence, capsys):
    assert main(flags) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(sentence)
    assert printed.count("\n") == 1


def test_a_store_goes_to_a_bucket(tree, s3, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GLANCE_NODE_CACHE", str(tmp_path / "node"))
    command = ["--dataset", "folder", "--data-path", str(tree), "--out", "s3://glance/faces"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    store = fetch_store("s3://glance/faces")
    assert lines[0] == "store    s3://glance/faces"
    assert lines[2] == f"hash     {store.manifest.content_hash}"
    assert store.manifest.counts["train"] == {"cross": 3, "glad": 2}


def test_a_place_in_a_bucket_that_cannot_be_used_is_told_before_anything_is_prepared(s3, monkeypatch, capsys):
    monkeypatch.setattr("trainable.data.preparation.prepare_store", None)
    open_storage("s3://glance/results").put("notes.txt", b"")
    assert main(["--out", "s3://glance/results"]) == 2
    assert "must be a store or empty, but holds notes.txt" in capsys.readouterr().err
    assert main(["--out", "s3://nosuchbucket/faces"]) == 2
    assert "there is no 'nosuchbucket'" in capsys.readouterr().err
