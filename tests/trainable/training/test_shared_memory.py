"""The exchange in shared memory, between threads that stand for processes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainable.training import shared_memory
from trainable.training.shared_memory import SLOT_BYTES, SharedMemory, _create

WORLD_SIZE = 3


@pytest.fixture
def memories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[SharedMemory]:
    """One per rank, over the same file."""
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    path = _create(WORLD_SIZE)
    assert path is not None
    return [SharedMemory(path, rank, WORLD_SIZE) for rank in range(WORLD_SIZE)]


def on_all_ranks(memories: list[SharedMemory], work: Callable[[int, SharedMemory], Tensor]) -> list[Tensor]:
    with ThreadPoolExecutor(len(memories)) as pool:
        return list(pool.map(work, range(len(memories)), memories))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4)])
def test_every_rank_gets_the_values_of_all_in_rank_order(
    memories: list[SharedMemory], dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    values = [torch.full(shape, rank, dtype=dtype) for rank in range(WORLD_SIZE)]

    for rows in on_all_ranks(memories, lambda rank, memory: memory.gather(values[rank])):
        assert rows.dtype == dtype
        assert torch.equal(rows, torch.stack(values))


def test_more_than_a_slot_holds_crosses_in_pieces(memories: list[SharedMemory]) -> None:
    count = SLOT_BYTES // 4 * 2 + 7
    values = [torch.arange(count, dtype=torch.float32) * (rank + 1) for rank in range(WORLD_SIZE)]

    for rows in on_all_ranks(memories, lambda rank, memory: memory.gather(values[rank])):
        assert torch.equal(rows, torch.stack(values))
    assert [memory.rounds for memory in memories] == [3, 3, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4), (SLOT_BYTES // 4 * 2 + 7,)])
def test_the_sum_is_that_of_all_ranks(memories: list[SharedMemory], dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    values = [torch.randint(-8, 9, shape, generator=generator).to(dtype) for _ in range(WORLD_SIZE)]
    before = [value.clone() for value in values]

    for total in on_all_ranks(memories, lambda rank, memory: memory.sum(values[rank])):
        assert total.dtype == dtype
        assert torch.equal(total, torch.stack(values).sum(dim=0))
    assert all(torch.equal(value, kept) for value, kept in zip(values, before, strict=True))


def test_rows_that_do_not_lie_side_by_side_keep_their_places(memories: list[SharedMemory]) -> None:
    values = torch.arange(6.0).view(2, 3).T

    for rows in on_all_ranks(memories, lambda rank, memory: memory.gather(values)):
        assert torch.equal(rows, values.expand(WORLD_SIZE, 3, 2))


def test_no_round_reads_what_another_wrote(memories: list[SharedMemory]) -> None:
    rounds = 300

    def work(rank: int, memory: SharedMemory) -> Tensor:
        return torch.stack([memory.gather(torch.tensor(1000 * rank + i)) for i in range(rounds)])

    expected = 1000 * torch.arange(WORLD_SIZE) + torch.arange(rounds)[:, None]
    for rows in on_all_ranks(memories, work):
        assert torch.equal(rows, expected)


def test_a_rank_that_comes_late_is_waited_for(memories: list[SharedMemory], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "WATCH_SECONDS", 0.0)
    others_wait = threading.Event()
    monkeypatch.setattr(shared_memory.time, "sleep", lambda seconds: others_wait.set())

    def work(rank: int, memory: SharedMemory) -> Tensor:
        if rank == 0:
            assert others_wait.wait(30)
        return memory.gather(torch.tensor(rank))

    assert [rows.tolist() for rows in on_all_ranks(memories, work)] == 3 * [[0, 1, 2]]


def test_a_rank_that_never_comes_is_not_waited_for_without_end(
    memories: list[SharedMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr(shared_memory, "WATCH_SECONDS", 0.0)

    with pytest.raises(TimeoutError, match="the other ranks must join an exchange"):
        memories[0].gather(torch.zeros(1))


def test_without_a_place_for_it_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "missing")

    assert _create(2) is None


def test_without_room_for_it_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(shared_memory.os, "posix_fallocate", no_room)

    assert _create(2) is None
    assert list(tmp_path.iterdir()) == []


def test_a_processor_that_may_reorder_stores_takes_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(shared_memory.platform, "machine", lambda: "aarch64")
    path = _create(2)
    assert path is not None

    assert SharedMemory._open(path, 0, 2) is None
