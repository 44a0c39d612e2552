import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainable.storage.keeper import Keeper
from trainable.storage.storage import NoConnectionError
from trainable.storage.trial_objects import Snapshot, TrialObjects, marked_epoch, visible_files
from trainable.storage.uploader import Uploader

TRIAL = "demo/checkpoints/t"
LIMIT = 30.0

MakeFlaky = Callable[..., Any]


def train(folder: Path, epoch: int, *, best: bool = False) -> None:
    """What a slot leaves after an epoch: each file written beside its place and renamed."""
    files = {"report.json": json.dumps({"epoch": epoch}), "last/weights": f"last {epoch}"}
    if best:
        files |= {
            "best/weights": f"best {epoch}",
            "best/config.json": "{}",
            "best.json": json.dumps({"epoch": epoch}),
        }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(".unfinished").write_text(text)
        path.with_name(".unfinished").replace(path)


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in visible_files(folder)}


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    return tmp_path / "node" / "t"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tmp_path / "other node" / "t"


@pytest.fixture
def uploader() -> Iterator[Uploader]:
    uploader = Uploader(delay=lambda tries: 0.001)
    yield uploader
    uploader.close()


def test_a_trial_goes_from_one_node_to_another(trial: Path, other: Path, make_flaky: MakeFlaky) -> None:
    storage = make_flaky()
    objects = TrialObjects(storage)
    train(trial, 1, best=True)
    objects.upload(TRIAL, Snapshot.take(trial, 1))
    train(trial, 2)
    objects.upload(TRIAL, Snapshot.take(trial, 2))
    state = TrialObjects(storage).fetch(TRIAL, other)

    assert state is not None
    assert state.epoch == marked_epoch(other) == 2
    assert content(other) == content(trial)
    assert content(other)["last/weights"] == "last 2"


def test_what_did_not_change_is_sent_once_and_what_was_replaced_is_removed(trial: Path, make_flaky: MakeFlaky) -> None:
    storage = make_flaky()
    objects = TrialObjects(storage)
    train(trial, 1, best=True)
    objects.upload(TRIAL, Snapshot.take(trial, 1))
    train(trial, 2)
    storage.calls.clear()
    objects.upload(TRIAL, Snapshot.take(trial, 2))

    sent = [key for verb, key in storage.calls if verb == "put_file"]
    assert len(sent) == 1
    assert "/last/e00002-" in sent[0]
    kept = sorted(key.removeprefix(f"{TRIAL}/").split("/")[0] for key in storage.sizes(f"{TRIAL}/"))
    assert kept == ["best", "last", "state.json"]


@pytest.mark.parametrize("best", [False, True])
def test_an_epoch_takes_two_puts_and_a_delete_and_a_put_more_for_the_best(
    best: bool, trial: Path, make_flaky: MakeFlaky
) -> None:
    storage = make_flaky()
    objects = TrialObjects(storage)
    train(trial, 1, best=True)
    objects.upload(TRIAL, Snapshot.take(trial, 1))
    train(trial, 2, best=best)
    storage.calls.clear()
    objects.upload(TRIAL, Snapshot.take(trial, 2))

    assert [verb for verb, _ in storage.calls] == [*["put_file"] * (1 + best), "put", "delete"]


def test_a_snapshot_stays_what_it_was_while_the_trial_goes_on(trial: Path, other: Path, make_flaky: MakeFlaky) -> None:
    storage = make_flaky()
    train(trial, 1, best=True)
    snapshot = Snapshot.take(trial, 1)
    before = content(trial)
    train(trial, 2, best=True)
    TrialObjects(storage).upload(TRIAL, snapshot)
    TrialObjects(storage).fetch(TRIAL, other)

    assert content(other) == before
    snapshot.remove()
    assert content(trial)["last/weights"] == "last 2"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_call_an_upload_dies_in_the_storage_holds_one_whole_epoch(
    trial: Path, other: Path, make_flaky: MakeFlaky, seed: int
) -> None:
    storage = make_flaky(0.5, seed)
    for epoch in range(1, 6):
        train(trial, epoch, best=epoch % 2 == 0)
        with contextlib.suppress(NoConnectionError):
            TrialObjects(storage).upload(TRIAL, Snapshot.take(trial, epoch))  # a new process each time
        storage.share, share = 0.0, storage.share
        state = TrialObjects(storage).fetch(TRIAL, other)
        storage.share = share
        if state is not None:
            assert json.loads(content(other)["report.json"])["epoch"] == state.epoch
            assert content(other)["last/weights"] == f"last {state.epoch}"
            best = json.loads(content(other).get("best.json", "null"))
            assert best is None or content(other)["best/weights"] == f"best {best['epoch']}"


def test_an_upload_that_is_repeated_ends_as_if_nothing_had_failed(
    trial: Path, other: Path, make_flaky: MakeFlaky
) -> None:
    storage = make_flaky(0.4)
    objects = TrialObjects(storage)
    for epoch in range(1, 10):
        train(trial, epoch, best=epoch % 3 == 1)
        snapshot = Snapshot.take(trial, epoch)
        while True:
            try:
                objects.upload(TRIAL, snapshot)
                break
            except NoConnectionError:
                continue
        snapshot.remove()
    storage.share = 0.0
    objects.fetch(TRIAL, other)

    assert content(other) == content(trial)
    assert len(storage.sizes(f"{TRIAL}/")) == 3


def test_a_fetch_outlives_failures_and_a_version_that_is_replaced_meanwhile(
    trial: Path, other: Path, make_flaky: MakeFlaky
) -> None:
    storage = make_flaky()
    writer = TrialObjects(storage)
    train(trial, 1, best=True)
    writer.upload(TRIAL, Snapshot.take(trial, 1))
    reader, get_file = TrialObjects(make_flaky(0.3)), storage.inner.get_file
    replaced = iter([True])

    def replacing(key: str, path: Path) -> None:
        if next(replaced, False):
            train(trial, 2)
            writer.upload(TRIAL, Snapshot.take(trial, 2))
        get_file(key, path)

    reader.storage.inner.get_file = replacing  # type: ignore[attr-defined]
    state = reader.fetch(TRIAL, other)

    assert state is not None
    assert state.epoch == 2
    assert content(other) == content(trial)


def test_a_part_can_be_fetched_alone(trial: Path, other: Path, make_flaky: MakeFlaky) -> None:
    objects = TrialObjects(make_flaky())
    train(trial, 1, best=True)
    objects.upload(TRIAL, Snapshot.take(trial, 1))
    objects.fetch(TRIAL, other, parts=("best",))

    assert content(other) == {"best/config.json": "{}", "best/weights": "best 1"}
    assert objects.fetch("another", other) is None


def test_a_node_goes_on_from_its_own_files_without_asking(
    trial: Path, make_flaky: MakeFlaky, uploader: Uploader
) -> None:
    storage = make_flaky()
    storage.down.set()
    train(trial, 3)
    Snapshot.take(trial, 3)

    assert Keeper(storage, uploader).fetch(TRIAL, trial, 3) == 3
    assert storage.calls == []


def test_what_waits_on_a_node_is_taken_back_in_an_outage(
    trial: Path, make_flaky: MakeFlaky, uploader: Uploader
) -> None:
    storage = make_flaky()
    storage.down.set()
    keeper = Keeper(storage, uploader)
    train(trial, 3, best=True)
    before = content(trial)
    keeper.hand_over(TRIAL, Snapshot.take(trial, 3))
    for path in visible_files(trial):
        path.unlink()
    (trial / ".kept.json").unlink()

    assert keeper.fetch(TRIAL, trial, 3) == 3
    assert content(trial) == before
    assert keeper.flush(0.01).keys() == {TRIAL}
    storage.down.clear()
    assert keeper.flush(LIMIT) == {}
    assert not list((trial.parent / ".outbox").iterdir())


def test_a_fetch_waits_for_what_another_node_has_still_to_upload(
    trial: Path, other: Path, make_flaky: MakeFlaky, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainable.storage.keeper.LOOK_AGAIN_SECONDS", 0.001)
    storage = make_flaky()
    there, here = Keeper(storage, uploader), Keeper(make_flaky(), uploader)
    train(trial, 1)
    there.objects.upload(TRIAL, Snapshot.take(trial, 1))
    train(trial, 2)
    storage.down.set()
    there.hand_over(TRIAL, Snapshot.take(trial, 2))
    asked = threading.Event()

    def elsewhere(key: str) -> int:
        epoch = there.waiting_epoch(key)
        asked.set()
        return epoch

    fetched: list[int] = []
    fetching = threading.Thread(target=lambda: fetched.append(here.fetch(TRIAL, other, 2, elsewhere)))
    fetching.start()
    assert asked.wait(LIMIT)
    storage.down.clear()
    fetching.join(LIMIT)

    assert fetched == [2]
    assert content(other) == content(trial)


def test_a_trial_whose_newest_files_died_with_their_node_goes_on_from_what_the_storage_has(
    trial: Path, other: Path, make_flaky: MakeFlaky, uploader: Uploader
) -> None:
    keeper = Keeper(make_flaky(), uploader)
    train(trial, 1)
    keeper.objects.upload(TRIAL, Snapshot.take(trial, 1))

    assert keeper.fetch(TRIAL, other, 4) == 1
    assert content(other)["last/weights"] == "last 1"
