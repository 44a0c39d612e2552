from pathlib import Path
from typing import Any

import pytest

from trainable.data.store import Store
from trainable.errors import ConfigError
from trainable.provenance import describe_data, reopen_data


def test_a_block_leads_back_to_its_store(faces: Path) -> None:
    block = describe_data(Store.open(faces), None)

    assert reopen_data(block).path == faces


@pytest.mark.parametrize("change", [{"store": None}, {"name": ["a"]}, {"path": 5}, {"content_hash": None}])
def test_a_block_with_an_odd_entry_is_refused_with_its_name(faces: Path, change: dict[str, Any]) -> None:
    block = describe_data(Store.open(faces), None) | change

    with pytest.raises(ConfigError, match=f"must be a string.* but {next(iter(change))} is "):
        reopen_data(block)


@pytest.mark.parametrize("block", [None, 5, [], {"name": "synthetic"}])
def test_what_is_no_block_is_refused(block: Any) -> None:
    with pytest.raises(ConfigError, match="name, path, store and content_hash"):
        reopen_data(block)
