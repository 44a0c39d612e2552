import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from trainable.errors import StorageError
from trainable.storage.lease import Lease

KEY = "demo/lease.json"

MakeFlaky = Callable[..., Any]


def owner(**values: Any) -> bytes:
    return json.dumps({"id": "other", "host": "elsewhere", "pid": 1, **values}).encode()


@pytest.fixture
def lost() -> list[str]:
    return []


def test_one_search_holds_it_until_it_lets_go(make_flaky: MakeFlaky, lost: list[str]) -> None:
    storage = make_flaky()
    first = Lease(storage, KEY, lost.append)
    with pytest.raises(StorageError, match=rf"only one search.*{platform.node()} \(process {os.getpid()}\)"):
        Lease(storage, KEY, lost.append)
    first.renew()
    first.release()

    Lease(storage, KEY, lost.append).release()
    assert storage.sizes() == {}
    assert lost == []


def test_one_of_another_machine_is_taken_over_once_it_is_silent(
    make_flaky: MakeFlaky, lost: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = make_flaky()
    storage.put(KEY, owner())
    with pytest.raises(StorageError, match="elsewhere"):
        Lease(storage, KEY, lost.append)
    monkeypatch.setattr("trainable.storage.lease.STALE_SECONDS", 0.0)

    lease = Lease(storage, KEY, lost.append)
    assert b"other" not in storage.get(KEY)
    lease.release()


def test_one_of_a_dead_process_here_is_taken_over_at_once(make_flaky: MakeFlaky, lost: list[str]) -> None:
    storage = make_flaky()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    storage.put(KEY, owner(host=platform.node(), pid=dead.pid))

    Lease(storage, KEY, lost.append).release()


def test_who_was_taken_over_is_told_and_lets_the_other_keep_it(make_flaky: MakeFlaky, lost: list[str]) -> None:
    storage = make_flaky()
    lease = Lease(storage, KEY, lost.append)
    storage.put(KEY, owner())
    lease.renew()

    assert not lease.held
    assert "another search has taken" in lost[0]
    lease.release()
    assert storage.get(KEY) == owner()


def test_calls_that_fail_lose_nothing(make_flaky: MakeFlaky, lost: list[str]) -> None:
    storage = make_flaky(0.3)
    lease = Lease(storage, KEY, lost.append)
    for _ in range(50):
        try:
            lease.renew()
        except StorageError:
            continue

    assert lease.held
    assert lost == []
    storage.share = 0.0
    lease.release()


def test_it_is_let_go_though_calls_fail(make_flaky: MakeFlaky, lost: list[str]) -> None:
    storage = make_flaky(0.5)
    for _ in range(20):
        Lease(storage, KEY, lost.append).release()

    storage.share = 0.0
    assert storage.sizes() == {}
