import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainable.errors import ExperimentError
from trainable.storage.mirror import GROWING_SECONDS, LOOK_SHARE, OTHER_SECONDS, Mirror
from trainable.storage.pieces import read_growing
from trainable.storage.trial_objects import visible_files
from trainable.storage.uploader import Uploader
from trainable.storage.working_copy import bring_up_to_date, fetch_to_read

LIMIT = 30.0
WITHOUT = ("checkpoints", "log/tune")

MakeFlaky = Callable[..., Any]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainable.storage.pieces.PIECE_BYTES", 10)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(make_flaky: MakeFlaky) -> Any:
    return make_flaky()


@pytest.fixture
def uploader() -> Iterator[Uploader]:
    uploader = Uploader(delay=lambda tries: 0.001)
    yield uploader
    uploader.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small experiment."""
    folder = tmp_path / "work" / "demo"
    write(folder, "experiment.json", "{}")
    write(folder, "ledger.jsonl", "".join(f'{{"event": "e", "n": {n}}}\n' for n in range(3)))
    write(folder, "best/weights", "best 1")
    write(folder, "best.json", "1")
    write(folder, "failures/x.txt", "trace")
    write(folder, "tensorboard/0007 lr=3.1e-03/events", "e")
    write(folder, "checkpoints/t/last/weights", "large")
    write(folder, "log/ray.log", "said")
    write(folder, "log/tune/state", "Tune's")
    write(folder, ".unfinished.tmp", "half")
    return folder


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def append(folder: Path, text: str) -> None:
    with (folder / "ledger.jsonl").open("a") as file:
        file.write(text)


@pytest.fixture
def mirror(storage: Any, folder: Path, uploader: Uploader, clock: Clock) -> Mirror:
    return Mirror(storage, "demo", folder, uploader, without=WITHOUT, clock=clock)


def content(folder: Path) -> dict[str, str]:
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in visible_files(folder)}
    return {name: text for name, text in files.items() if not name.startswith(WITHOUT)}


def test_an_experiment_goes_to_the_storage_and_to_another_machine(
    mirror: Mirror, storage: Any, folder: Path, tmp_path: Path
) -> None:
    assert mirror.close(LIMIT) == []
    bring_up_to_date(storage, "demo", tmp_path / "other", WITHOUT)

    assert content(tmp_path / "other") == content(folder)
    assert not any("tune" in key or "checkpoints" in key or "unfinished" in key for key in storage.sizes())
    assert not list((folder / ".outbox").iterdir())


def test_only_what_changed_is_sent_and_of_the_ledger_only_its_last_piece(
    mirror: Mirror, storage: Any, uploader: Uploader, folder: Path, clock: Clock
) -> None:
    mirror.look()
    uploader.flush(LIMIT)
    storage.calls.clear()
    append(folder, "line 4\n")
    mirror.look()
    uploader.flush(LIMIT)
    assert storage.calls == []

    clock.now += GROWING_SECONDS
    mirror.look()
    uploader.flush(LIMIT)
    size = (folder / "ledger.jsonl").stat().st_size
    before = size - len("line 4\n")
    assert [key for _, key in storage.calls] == [
        f"demo/ledger.jsonl.{number:05d}" for number in range(before // 10, -(-size // 10))
    ]
    assert read_growing(storage.inner, "demo/ledger.jsonl") == (folder / "ledger.jsonl").read_bytes()


def test_a_file_that_changes_all_the_time_is_sent_now_and_then_and_at_the_end(
    mirror: Mirror, storage: Any, uploader: Uploader, folder: Path, clock: Clock
) -> None:
    mirror.look()
    uploader.flush(LIMIT)
    storage.calls.clear()
    for second in range(int(OTHER_SECONDS)):
        clock.now = second
        write(folder, "log/ray.log", "said" * second)
        mirror.look()
    uploader.flush(LIMIT)
    assert storage.calls == []

    assert mirror.close(LIMIT) == []
    assert storage.inner.get("demo/log/ray.log") == (folder / "log/ray.log").read_bytes()


def test_weights_are_sent_before_the_file_that_says_whose_they_are_and_old_ones_go(
    mirror: Mirror, storage: Any, uploader: Uploader, folder: Path, clock: Clock
) -> None:
    mirror.look()
    uploader.flush(LIMIT)
    storage.calls.clear()
    (folder / "best/weights").unlink()
    write(folder, "best/others", "best 2")
    write(folder, "best.json", "2")
    clock.now += OTHER_SECONDS
    mirror.look()
    uploader.flush(LIMIT)

    sent = [key for verb, key in storage.calls if verb == "put_file"]
    assert sent == ["demo/best/others", "demo/best.json"]
    assert sorted(storage.sizes("demo/best")) == ["demo/best.json", "demo/best/others"]


def test_one_call_in_five_failing_and_an_outage_lose_nothing(
    mirror: Mirror, storage: Any, uploader: Uploader, folder: Path, tmp_path: Path, clock: Clock
) -> None:
    storage.share = 0.2
    for number in range(30):
        clock.now += OTHER_SECONDS
        append(folder, f"{number}\n")
        write(folder, f"tensorboard/{number % 5}", str(number))
        if number == 10:
            storage.down.set()
        if number == 20:
            storage.down.clear()
        mirror.look()
    assert mirror.close(LIMIT) == []
    storage.share = 0.0
    bring_up_to_date(storage, "demo", tmp_path / "other", WITHOUT)

    assert content(tmp_path / "other") == content(folder)


def test_looking_at_many_files_is_spread_but_the_ledger_is_looked_at_each_time(
    storage: Any, uploader: Uploader, folder: Path
) -> None:
    seconds = iter([0.0, 0.0, 1.0, GROWING_SECONDS, *[1 / LOOK_SHARE] * 3])  # the first walk takes a second
    mirror = Mirror(storage, "demo", folder, uploader, clock=lambda: next(seconds))
    mirror.look()
    uploader.flush(LIMIT)
    storage.calls.clear()

    append(folder, "line 4\n")
    write(folder, "report.html", "new")
    mirror.look()
    uploader.flush(LIMIT)
    assert {key.split(".")[0] for _, key in storage.calls} == {"demo/ledger"}

    mirror.look()
    uploader.flush(LIMIT)
    assert "demo/report.html" in {key for _, key in storage.calls}


def test_what_cannot_be_delivered_is_named(mirror: Mirror, storage: Any) -> None:
    storage.down.set()

    assert {"ledger.jsonl", "best", "experiment.json"} <= set(mirror.close(0.05))


def test_what_is_removed_in_the_storage_is_what_was_named(mirror: Mirror, storage: Any, uploader: Uploader) -> None:
    for key in ("demo/checkpoints/a/last/x", "demo/checkpoints/a/best/x", "demo/checkpoints/ab/last/x"):
        storage.put(key, b"")
    mirror.remove("checkpoints/a/last")
    uploader.flush(LIMIT)

    assert sorted(storage.sizes("demo/checkpoints/")) == ["demo/checkpoints/a/best/x", "demo/checkpoints/ab/last/x"]


def test_a_ledger_whose_torn_end_was_mended_is_sent_again_as_it_is(
    storage: Any, folder: Path, uploader: Uploader
) -> None:
    append(folder, '{"event": "e"' + "torn" * 20)
    assert Mirror(storage, "demo", folder, Uploader()).close(LIMIT) == []
    text = (folder / "ledger.jsonl").read_text()
    (folder / "ledger.jsonl").write_text(text[: text.rfind("\n") + 1])
    assert Mirror(storage, "demo", folder, uploader).close(LIMIT) == []

    assert read_growing(storage, "demo/ledger.jsonl") == (folder / "ledger.jsonl").read_bytes()


def test_a_copy_here_that_is_newer_than_the_storage_is_kept(mirror: Mirror, storage: Any, folder: Path) -> None:
    assert mirror.close(LIMIT) == []
    append(folder, '{"event": "later"}\n')
    write(folder, "best.json", "2")
    (folder / "failures/x.txt").unlink()
    bring_up_to_date(storage, "demo", folder, WITHOUT)

    assert (folder / "ledger.jsonl").read_text().endswith('{"event": "later"}\n')
    assert (folder / "best.json").read_text() == "2"
    assert (folder / "failures/x.txt").read_text() == "trace"


def test_a_copy_here_that_is_older_than_the_storage_is_replaced(
    mirror: Mirror, storage: Any, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write(other, "ledger.jsonl", (folder / "ledger.jsonl").read_text().splitlines(keepends=True)[0] + "torn")
    write(other, "best.json", "0")
    assert mirror.close(LIMIT) == []
    bring_up_to_date(storage, "demo", other, WITHOUT)

    assert content(other) == content(folder)


def test_two_copies_that_both_went_on_are_refused(mirror: Mirror, storage: Any, folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", "ledger.jsonl", '{"event": "another"}\n')
    assert mirror.close(LIMIT) == []

    with pytest.raises(ExperimentError, match="two searches wrote to it"):
        bring_up_to_date(storage, "demo", tmp_path / "other", WITHOUT)


def test_a_report_gets_what_it_reads_and_no_weights(mirror: Mirror, storage: Any, folder: Path, tmp_path: Path) -> None:
    write(folder, "best/evaluation.json", "{}")
    assert mirror.close(LIMIT) == []
    fetch_to_read(f"{storage.uri}/demo", tmp_path / "read")

    assert set(content(tmp_path / "read")) == {
        *("experiment.json", "ledger.jsonl", "best.json", "best/evaluation.json", "failures/x.txt"),
    }
    assert json.loads((tmp_path / "read/best.json").read_text()) == 1
    with pytest.raises(ExperimentError, match="has none"):
        fetch_to_read(f"{storage.uri}/nothing", tmp_path / "none")
