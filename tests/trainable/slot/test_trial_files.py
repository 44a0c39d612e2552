"""A slot whose trials lie in a storage, without Ray: the node's agent is called directly."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from trainable.errors import StorageError
from trainable.slot.slot import Slot, SlotOptions
from trainable.slot.storage_actors import answer_of
from trainable.slot.trial_files import GroupFiles, StoredFiles
from trainable.storage.keeper import Keeper
from trainable.storage.storage import NoConnectionError, open_storage
from trainable.storage.trial_objects import Snapshot
from trainable.storage.uploader import Uploader

LIMIT = 30.0


class Node:
    """A machine with a disk and an agent of its own."""

    def __init__(self, disk: Path, bucket: Path) -> None:
        self.disk = disk
        self.storage = open_storage(bucket.as_uri())
        self.uploader = Uploader(delay=lambda tries: 0.001)
        self.keeper = Keeper(self.storage, self.uploader)

    @property
    def files(self) -> StoredFiles:
        keeper = self.keeper

        class Direct(StoredFiles):
            def _ask(self, verb: str, *arguments: Any) -> Any:
                if verb == "hand_over":
                    return keeper.hand_over(arguments[0], Snapshot(Path(arguments[1]), arguments[2]))
                return keeper.fetch(arguments[0], Path(arguments[1]), arguments[2])

        return Direct("no desk", "demo/checkpoints")

    def slot(self, runner: Any) -> Slot:
        options = SlotOptions(store="unused", checkpoints=str(self.disk), metric="val_accuracy", mode="max")
        return Slot(options, runner, self.files)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    nodes = [Node(tmp_path / f"node {number}", tmp_path / "bucket") for number in range(2)]
    yield nodes
    for node in nodes:
        node.uploader.close()


def steps(slot: Slot, count: int) -> list[Any]:
    return [slot.step().get("report", {}).get("epoch") for _ in range(count)]


CONFIG = {"max_epochs": 4, "curve": [0.1, 0.3, 0.2, 0.4]}


def test_a_trial_goes_on_on_another_node_where_it_stood(nodes: list[Node], make_runner: Callable[[], Any]) -> None:
    first = nodes[0].slot(make_runner())
    first.begin("a", CONFIG)
    assert steps(first, 2) == [1, 2]
    assert nodes[0].keeper.flush(LIMIT) == {}

    second = nodes[1].slot(make_runner())
    second.begin("a", CONFIG, epochs=2)
    assert steps(second, 3) == [2, 3, 4]
    assert (nodes[1].keeper.flush(LIMIT), nodes[1].keeper.objects.state("demo/checkpoints/a").epoch) == ({}, 4)  # type: ignore[union-attr]


def test_a_trial_goes_on_on_another_node_within_an_epoch(nodes: list[Node], make_runner: Callable[[], Any]) -> None:
    runners = [make_runner(), make_runner()]
    for runner in runners:
        runner.parts = 4
    first = nodes[0].slot(runners[0])
    first.begin("a", CONFIG)
    assert [first.step().get("saved") for _ in range(2)] == [0.25, 0.5]
    assert nodes[0].keeper.waiting_epoch("demo/checkpoints/a") in (0, 0.5)
    assert nodes[0].keeper.flush(LIMIT) == {}

    second = nodes[1].slot(runners[1])
    second.begin("a", CONFIG, epochs=0.5)
    assert second.step()["saved"] == 0.75
    assert steps(second, 1) == [1]
    assert runners[1].calls.count("run_epoch") == 2


def test_a_new_trial_asks_nobody_and_ignores_what_an_earlier_one_of_its_id_left(
    nodes: list[Node], make_runner: Callable[[], Any]
) -> None:
    left = nodes[0].disk / "a" / "last" / "epoch"
    left.parent.mkdir(parents=True)
    left.write_text("3")
    slot = nodes[0].slot(make_runner())
    slot.begin("a", CONFIG)

    assert steps(slot, 1) == [1]


def test_a_node_keeps_no_copy_of_a_trial_that_it_has_done_with(
    nodes: list[Node], make_runner: Callable[[], Any]
) -> None:
    slot = nodes[0].slot(make_runner())
    slot.begin("a", CONFIG)
    steps(slot, 4)
    slot.begin("b", CONFIG)
    steps(slot, 1)
    nodes[0].keeper.flush(LIMIT)

    assert sorted(path.name for path in nodes[0].disk.iterdir()) == [".outbox", "b"]
    assert not list((nodes[0].disk / ".outbox").iterdir())


def test_a_trial_that_cannot_be_fetched_fails_by_its_reason(
    nodes: list[Node], make_runner: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: Any, **__: Any) -> int:
        raise NoConnectionError("nobody answers")

    monkeypatch.setattr(nodes[0].keeper, "fetch", nobody)
    slot = nodes[0].slot(make_runner())
    slot.begin("a", CONFIG, epochs=2)
    failure = slot.step()["failure"]

    assert (failure["kind"], failure["message"]) == ("NoConnectionError", "nobody answers")


def test_a_groups_first_rank_keeps_the_slots_documents_with_its_checkpoint(nodes: list[Node], tmp_path: Path) -> None:
    orders: list[tuple[Any, ...]] = []
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "report.json").write_text("{}")
    (tmp_path / "a" / ".unfinished.json").write_text("{")
    files = GroupFiles(nodes[0].files, lambda *order: orders.append(order))
    files.bring("a", tmp_path / "a", 0)
    files.keep("a", tmp_path / "a", 1)

    assert orders == [
        ("bring", "a", tmp_path / "a", 0),
        ("keep", "a", tmp_path / "a", 1, {"report.json": "{}"}),
    ]


def test_an_error_for_the_user_comes_out_of_a_call_as_it_was_and_a_bug_as_ray_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(cause: Exception) -> Any:
        raise ray.exceptions.RayTaskError("fetch", "Traceback ...", cause)

    monkeypatch.setattr(ray, "get", answer)
    gone = StorageError("the bucket is gone.")
    with pytest.raises(StorageError) as raised:
        answer_of(gone)
    assert raised.value is gone
    with pytest.raises(ray.exceptions.RayTaskError):
        answer_of(KeyError("x"))
