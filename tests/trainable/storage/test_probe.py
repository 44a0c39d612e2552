from collections.abc import Callable
from typing import Any

import pytest

from trainable.errors import StorageError
from trainable.storage.probe import probe
from trainable.storage.storage import NoConnectionError, NoPermissionError

MakeFlaky = Callable[..., Any]


def test_a_storage_that_works_is_left_as_it_was(make_flaky: MakeFlaky) -> None:
    storage = make_flaky()
    probe(storage)

    assert storage.sizes() == {}
    assert [verb for verb, _ in storage.calls][:5] == ["put", "get", "sizes", "delete", "sizes"]


@pytest.mark.parametrize(
    ("verb", "words"), [("put", "written to"), ("get", "read"), ("sizes", "listed"), ("delete", "deleted from")]
)
def test_the_verb_that_fails_is_named_and_its_reason_kept(
    make_flaky: MakeFlaky, monkeypatch: pytest.MonkeyPatch, verb: str, words: str
) -> None:
    def refuse(*_: Any) -> None:
        raise NoPermissionError("not you")

    storage = make_flaky()
    monkeypatch.setattr(storage, verb, refuse)
    with pytest.raises(NoPermissionError, match=f"cannot be {words}: not you"):
        probe(storage)


def test_nobody_who_answers_is_no_wrong_permission(make_flaky: MakeFlaky) -> None:
    storage = make_flaky()
    storage.down.set()
    with pytest.raises(NoConnectionError):
        probe(storage)


def test_a_storage_that_shows_old_contents_is_refused(make_flaky: MakeFlaky, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make_flaky()
    monkeypatch.setattr(storage, "sizes", lambda prefix: {})
    with pytest.raises(StorageError, match="give back at once"):
        probe(storage)
