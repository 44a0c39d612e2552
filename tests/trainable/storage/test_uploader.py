import random
import threading
from collections.abc import Callable, Iterator

import pytest

from trainable.storage.retry import LONGEST_SECONDS, delay_after, persist
from trainable.storage.storage import MissingObjectError, NoConnectionError
from trainable.storage.uploader import Uploader

LIMIT = 30.0


class Remote:
    """What was delivered, by key; `fails` says before each attempt whether it does."""

    def __init__(self) -> None:
        self.versions: dict[str, list[int]] = {}
        self.fails: Callable[[], bool] = lambda: False
        self.attempts = 0
        self.discarded: list[tuple[str, int]] = []
        self.at_once: dict[str, int] = {}
        self.most_at_once = 0
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()


class Version:
    def __init__(self, remote: Remote, key: str, number: int) -> None:
        self.remote, self.key, self.number = remote, key, number

    def run(self) -> None:
        remote = self.remote
        with remote.lock:
            remote.attempts += 1
            remote.at_once[self.key] = remote.at_once.get(self.key, 0) + 1
            remote.most_at_once = max(remote.most_at_once, sum(remote.at_once.values()))
            assert remote.at_once[self.key] == 1
            fails = remote.fails()
        try:
            assert remote.gate.wait(LIMIT)
            if fails:
                raise NoConnectionError("nobody answers")
            with remote.lock:
                remote.versions.setdefault(self.key, []).append(self.number)
        finally:
            with remote.lock:
                remote.at_once[self.key] -= 1

    def discard(self) -> None:
        self.remote.discarded.append((self.key, self.number))


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def uploader(said: list[str]) -> Iterator[Uploader]:
    uploader = Uploader(threads=3, say=said.append, delay=lambda tries: 0.001)
    yield uploader
    uploader.close()


def test_everything_that_is_submitted_is_delivered_and_let_go(uploader: Uploader, remote: Remote) -> None:
    for number in range(20):
        uploader.submit(f"k{number}", Version(remote, f"k{number}", 1))

    assert uploader.flush(LIMIT) == []
    assert remote.versions == {f"k{number}": [1] for number in range(20)}
    assert len(remote.discarded) == 20
    assert remote.most_at_once <= 3


def test_one_attempt_in_five_failing_loses_nothing_and_ends_with_the_newest_versions(
    uploader: Uploader, remote: Remote
) -> None:
    draws = random.Random(0)
    remote.fails = lambda: draws.random() < 0.2
    for number in range(200):
        uploader.submit(f"k{number % 7}", Version(remote, f"k{number % 7}", number))

    assert uploader.flush(LIMIT) == []
    newest = {f"k{number % 7}": number for number in range(193, 200)}
    assert {key: versions[-1] for key, versions in remote.versions.items()} == newest
    assert all(versions == sorted(versions) for versions in remote.versions.values())
    assert len(remote.discarded) == 200


def test_in_an_outage_one_version_of_each_key_waits_and_is_delivered_after_it(
    uploader: Uploader, remote: Remote, said: list[str]
) -> None:
    remote.fails = lambda: True
    for number in range(1000):
        uploader.submit("k", Version(remote, "k", number))

    assert uploader.flush(0.01) == ["k"]
    assert remote.versions == {}
    assert len(remote.discarded) >= 998  # one waits, one may be tried just now
    assert len([line for line in said if "uploads wait" in line]) == 1

    remote.fails = lambda: False
    assert uploader.flush(LIMIT) == []
    assert remote.versions == {"k": [999]}
    assert "work again" in said[-1]


def test_a_version_that_is_being_uploaded_is_finished_before_the_next(uploader: Uploader, remote: Remote) -> None:
    remote.gate.clear()
    for number in range(3):
        uploader.submit("k", Version(remote, "k", number))
        while number == 0 and not remote.attempts:
            threading.Event().wait(0.001)
    remote.gate.set()

    assert uploader.flush(LIMIT) == []
    assert remote.versions == {"k": [0, 2]}


def test_what_comes_first_is_uploaded_before_all_that_wait(remote: Remote) -> None:
    uploader = Uploader(threads=1, delay=lambda tries: 0.001)
    remote.gate.clear()
    for number in range(5):
        uploader.submit(f"k{number}", Version(remote, f"k{number}", 0))
        while number == 0 and not remote.attempts:
            threading.Event().wait(0.001)
    uploader.submit("ledger", Version(remote, "ledger", 0), first=True)
    remote.gate.set()

    assert uploader.flush(LIMIT) == []
    uploader.close()
    assert list(remote.versions)[:2] == ["k0", "ledger"]


def test_what_is_withdrawn_is_not_uploaded_any_more(uploader: Uploader, remote: Remote) -> None:
    remote.fails = lambda: True
    uploader.submit("k", Version(remote, "k", 0))
    uploader.withdraw("k")
    remote.fails = lambda: False

    assert uploader.flush(LIMIT) == []
    assert remote.versions == {}
    assert remote.discarded == [("k", 0)]


def test_what_is_closed_while_it_is_put_back_is_let_go_once(remote: Remote) -> None:
    closed = threading.Event()

    class RefusedError(Exception):
        def __str__(self) -> str:  # said of a job that waits again, just before its thread goes on
            uploader.close()
            closed.set()
            return "no"

    class Refusing(Version):
        def run(self) -> None:
            raise RefusedError

    uploader = Uploader(threads=1, say=lambda line: told.set(), delay=lambda tries: 0.001)
    told = threading.Event()
    uploader.submit("k", Refusing(remote, "k", 0))
    assert closed.wait(LIMIT)
    assert told.wait(LIMIT)
    assert remote.discarded == [("k", 0)]


def test_pauses_grow_to_a_limit_and_are_drawn_apart() -> None:
    longest = [delay_after(tries, draw=lambda: 1.0) for tries in range(1, 12)]
    assert longest == sorted(longest)
    assert longest[-1] == LONGEST_SECONDS
    assert delay_after(3, draw=lambda: 0.0) == longest[2] / 2
    assert len({delay_after(1) for _ in range(5)}) == 5


def test_what_passes_is_waited_for_and_what_does_not_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainable.storage.retry.FIRST_SECONDS", 0.001)
    answers: list[Exception | str] = [NoConnectionError("x"), NoConnectionError("x"), "done", MissingObjectError("y")]

    def action() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert persist(action, patience=LIMIT) == "done"
    with pytest.raises(MissingObjectError):
        persist(action, patience=LIMIT)
    answers = [NoConnectionError("x")] * 100
    with pytest.raises(NoConnectionError):
        persist(action, patience=0.01)
    assert answers
