from pathlib import Path
from typing import Any

import pytest

from trainable.data.fetched import upload_store
from trainable.data.progress import unwatched
from trainable.data.store import Store
from trainable.data.unseen import UnseenClasses
from trainable.errors import ConfigError
from trainable.provenance import describe_data, recorded_unseen, reopen_data


def test_a_block_leads_back_to_its_store(faces: Path) -> None:
    block = describe_data(Store.open(faces), None, UnseenClasses())

    assert reopen_data(block).path == faces


@pytest.mark.parametrize("change", [{"store": None}, {"name": ["a"]}, {"path": 5}, {"content_hash": None}])
def test_a_block_with_an_odd_entry_is_refused_with_its_name(faces: Path, change: dict[str, Any]) -> None:
    block = describe_data(Store.open(faces), None, UnseenClasses()) | change

    with pytest.raises(ConfigError, match=f"must be a string.* but {next(iter(change))} is "):
        reopen_data(block)


@pytest.mark.parametrize("block", [None, 5, [], {"name": "synthetic"}])
def test_what_is_no_block_is_refused(block: Any) -> None:
    with pytest.raises(ConfigError, match="name, path, store and content_hash"):
        reopen_data(block)


def test_a_block_says_which_classes_are_not_trained_and_counts_the_images_that_are_used(faces: Path) -> None:
    unseen = UnseenClasses(validation=("fear", "sad"), test=("awed",))
    block = describe_data(Store.open(faces), None, unseen)

    assert recorded_unseen(block) == unseen
    assert {name for name, images in block["counts"]["train"].items() if images} == {
        *("angry", "disgust", "happy", "surprise", "neutral")
    }
    assert (block["counts"]["validation"]["fear"], block["counts"]["validation"]["awed"]) == (10, 0)
    assert (block["counts"]["test"]["fear"], block["counts"]["test"]["awed"]) == (0, 40)


def test_a_block_of_before_there_were_unseen_classes_has_none_and_an_odd_one_is_refused(faces: Path) -> None:
    assert recorded_unseen({"name": "synthetic"}) == UnseenClasses()
    for odd in (["fear"], {"train": ["fear"]}, 5):
        with pytest.raises(ConfigError, match="unseen classes of a dataset block"):
            recorded_unseen({"unseen": odd})


def test_a_store_that_came_from_a_bucket_is_fetched_again_where_it_is_gone(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLANCE_NODE_CACHE", str(tmp_path / "node"))
    address = (tmp_path / "bucket").as_uri()
    upload_store(Store.open(faces), address, watch=unwatched)
    block = describe_data(Store.open(faces), address, UnseenClasses()) | {"store": str(tmp_path / "gone")}

    assert reopen_data(block).path.parent == tmp_path / "node" / "stores"
