"""Orders and answers, in one event loop without Ray."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from trainable.slot import mailbox
from trainable.slot.failure import Failure
from trainable.slot.mailbox import Answer, Mailbox

FAILURE = Failure(kind="ValueError", message="no", where="here", traceback="there")


def answer(value: Any = None, failure: Failure | None = None) -> Answer:
    return Answer(value=value, failure=failure, user_error=False, device_broken=False, exchanges=0)


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test as a plain function."""

    @functools.wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        asyncio.run(test(*arguments, **fixtures))

    return run


async def serve(box: Mailbox, rank: int, *answers: Answer) -> list[tuple[str, tuple[Any, ...]]]:
    """A worker that gives these answers, and what it was told."""
    told = []
    for given in answers:
        told.append(tuple(await box.next_order(rank)))
        await box.answer(rank, given)
    return told


@in_a_loop
async def test_every_rank_gets_each_order_in_turn_and_all_answers_come_back() -> None:
    box = Mailbox(2)
    workers = asyncio.gather(*(serve(box, rank, answer(rank), answer(rank + 10)) for rank in (0, 1)))
    first = await box.call("start", {"seed": 1}, "folder")
    second = await box.call("run_epoch")

    assert [{rank: got["value"] for rank, got in outcome.answers.items()} for outcome in (first, second)] == [
        {0: 0, 1: 1},
        {0: 10, 1: 11},
    ]
    assert first.lost is None
    assert await workers == [[("start", ({"seed": 1}, "folder")), ("run_epoch", ())]] * 2


@in_a_loop
async def test_a_failure_does_not_wait_for_ever_for_ranks_that_wait_for_the_one_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mailbox, "STRAGGLER_SECONDS", 0.01)
    box = Mailbox(2)
    worker = asyncio.create_task(serve(box, 1, answer(failure=FAILURE)))
    outcome = await box.call("run_epoch")

    assert {rank: got["failure"] for rank, got in outcome.answers.items()} == {1: FAILURE}
    assert outcome.lost is None
    await worker


@in_a_loop
async def test_lost_workers_end_an_order_that_waits_and_every_one_after_it() -> None:
    box = Mailbox(2)
    waiting = asyncio.create_task(box.call("run_epoch"))
    await box.next_order(0)
    await box.report_loss("worker 1 was killed")

    assert (await waiting).lost == "worker 1 was killed"
    assert (await box.call("run_epoch")).lost == "worker 1 was killed"


@in_a_loop
async def test_knows_the_workers_that_joined() -> None:
    box = Mailbox(2)
    await box.join(1, "handle of 1")
    await box.join(0, "handle of 0")

    assert sorted(await box.members()) == ["handle of 0", "handle of 1"]
