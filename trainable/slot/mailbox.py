"""Orders to the ranks of a worker group, and their answers."""

import asyncio
from typing import Any, NamedTuple, TypedDict

from trainable.slot.failure import Failure

STRAGGLER_SECONDS = 30.0
"""How long the other ranks may take to answer once one has failed: they may wait for it in an exchange."""


class Order(NamedTuple):
    """A verb of `trainable.slot.runner.Runner` with its arguments; `close` ends the worker."""

    verb: str
    arguments: tuple[Any, ...] = ()


class Answer(TypedDict):
    """What became of an order on one rank."""

    value: Any
    failure: Failure | None
    user_error: bool
    """Whether the failure is a `GlanceError`."""
    device_broken: bool
    """Whether the failure leaves this rank's device unusable."""
    exchanges: int
    """How many exchanges this rank has begun with the others since the group was connected."""


class Outcome(NamedTuple):
    """What became of an order on all ranks."""

    answers: dict[int, Answer]
    """By rank, in the order in which they came."""
    lost: str | None
    """Why workers were lost; None where all live."""


class Mailbox:
    """An asyncio actor between a slot and its workers: one queue per rank, and one for the answers.

    `call` returns only after each rank has answered or was given up, so no order overtakes another.
    """

    def __init__(self, workers: int) -> None:
        self._orders: list[asyncio.Queue[Order]] = [asyncio.Queue() for _ in range(workers)]
        self._answers: asyncio.Queue[tuple[int, Answer] | None] = asyncio.Queue()
        self._members: dict[int, Any] = {}
        self._lost: str | None = None

    async def join(self, rank: int, worker: Any) -> None:
        """A worker (its actor handle) waits for orders from now on."""
        self._members[rank] = worker

    async def members(self) -> list[Any]:
        """The workers that joined."""
        return list(self._members.values())

    async def next_order(self, rank: int) -> Order:
        """The next order for a rank; waits until there is one."""
        return await self._orders[rank].get()

    async def answer(self, rank: int, answer: Answer) -> None:
        """A rank has carried out its order."""
        self._answers.put_nowait((rank, answer))

    async def report_loss(self, reason: str) -> None:
        """No rank will answer any more."""
        self._lost = reason
        self._answers.put_nowait(None)

    async def call(self, verb: str, *arguments: Any) -> Outcome:
        """Give all ranks an order and wait for their answers, after a failure for `STRAGGLER_SECONDS` at most."""
        for queue in self._orders:
            queue.put_nowait(Order(verb, arguments))
        answers: dict[int, Answer] = {}
        patience: float | None = None
        while len(answers) < len(self._orders) and self._lost is None:
            try:
                arrived = await asyncio.wait_for(self._answers.get(), patience)
            except TimeoutError:
                break
            if arrived is None:
                break
            rank, answer = arrived
            answers[rank] = answer
            if answer["failure"] is not None:
                patience = STRAGGLER_SECONDS
        return Outcome(answers, self._lost)
