"""Asynchronous successive halving: ASHA in its stopping and its promoting form, and Hyperband over its brackets.

ASHA (Li et al., arXiv 1810.05934): a trial may go on beyond a rung where its metric there is among the best 1/η of the
trials that reached it. Ray's `AsyncHyperBandScheduler` stops trials by the same idea but loses NaN, skipped rungs, its
seed and a restart; `tests/search/test_ray_holes.py` shows each beside what is done here.
"""

import bisect
import heapq
import zlib
from collections.abc import Sequence

import numpy as np

from search.schedulers import Decision, SchedulerOptions, is_number

WORST = float("-inf")
"""What a metric that is not finite counts as."""


def rung_epochs(grace_epochs: int, max_epochs: int, reduction_factor: int) -> list[int]:
    """The epochs at which trials are compared: grace · ηᵏ below `max_epochs`, lowest first."""
    epochs, epoch = [], grace_epochs
    while epoch < max_epochs:
        epochs.append(epoch)
        epoch *= reduction_factor
    return epochs


class Rung:
    """The trials that reached an epoch, with what they had reached there; more is better."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.values: dict[str, float] = {}
        self._ascending: list[float] = []

    def record(self, trial_id: str, value: float) -> None:
        """A trial reached the rung."""
        self.values[trial_id] = value
        bisect.insort(self._ascending, value)

    def is_among_best(self, trial_id: str, count: int) -> bool:
        """Whether fewer than `count` trials are better; equal ones all are among the best."""
        own = self.values[trial_id]
        return own > WORST and (count >= len(self._ascending) or own >= self._ascending[-count])


class Queue:
    """Paused trials, the best first, of equal ones the first that came."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []
        self._waiting: set[str] = set()
        self._arrivals = 0

    def add(self, trial_id: str, value: float) -> None:
        """A trial begins to wait."""
        self._arrivals += 1
        self._waiting.add(trial_id)
        heapq.heappush(self._heap, (-value, self._arrivals, trial_id))

    def remove(self, trial_id: str) -> None:
        """A trial waits no longer, if it did."""
        self._waiting.discard(trial_id)

    def first(self) -> str | None:
        """The best of those that wait; None where none does."""
        while self._heap and self._heap[0][2] not in self._waiting:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None


class StoppingAsha:
    """ASHA that stops what is not among the best 1/η of its rung when it gets there (section 3.3, as in Optuna)."""

    def __init__(self, options: SchedulerOptions, grace_epochs: int | None = None) -> None:
        grace = options.grace_epochs if grace_epochs is None else grace_epochs
        self.rungs = [Rung(epoch) for epoch in rung_epochs(grace, options.max_epochs, options.reduction_factor)]
        self._reduction_factor = options.reduction_factor
        self._sign = 1.0 if options.mode == "max" else -1.0
        self._decided: dict[str, tuple[int, Decision]] = {}

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """Record the value at each rung that the trial has passed since its last report, and compare it there."""
        known = self._decided.get(trial_id)
        if known is not None and epoch <= known[0]:
            return known[1]
        decision = self._decide(trial_id, epoch, value)
        self._decided[trial_id] = (epoch, decision)
        return decision

    def on_end(self, trial_id: str) -> None:
        """What it reached stays in the rungs."""

    def promotable(self) -> str | None:
        """No trial is ever paused."""
        return None

    def on_promote(self, trial_id: str) -> None:
        """No trial is ever paused."""

    def _decide(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        if not is_number(value):
            _record_divergence(self.rungs, trial_id)
            return Decision.STOP
        assert value is not None
        passed = _record(self.rungs, trial_id, epoch, self._sign * value)
        among = all(rung.is_among_best(trial_id, max(1, len(rung.values) // self._reduction_factor)) for rung in passed)
        return Decision.CONTINUE if among else Decision.STOP


class PromotingAsha:
    """ASHA as its paper has it (algorithm 2): a trial pauses at each rung until it is among the best 1/η there.

    Ray has no such scheduler (ray#32634, ray#44256). A trial that is the next to be promoted at the moment of its
    report goes on in its slot.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        epochs = rung_epochs(options.grace_epochs, options.max_epochs, options.reduction_factor)
        self.rungs = [Rung(epoch) for epoch in epochs]
        self._queues = [Queue() for _ in epochs]
        self._reduction_factor = options.reduction_factor
        self._sign = 1.0 if options.mode == "max" else -1.0
        self._decided: dict[str, tuple[int, Decision]] = {}

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """Pause at a rung, unless the trial is the next to be promoted."""
        known = self._decided.get(trial_id)
        if known is not None and epoch <= known[0]:
            return known[1]
        decision = self._decide(trial_id, epoch, value)
        self._decided[trial_id] = (epoch, decision)
        return decision

    def on_end(self, trial_id: str) -> None:
        """What it reached stays in the rungs."""
        self._leave_queues(trial_id)

    def promotable(self) -> str | None:
        """The best trial that waits at the highest rung where one may go on."""
        for rung, queue in zip(reversed(self.rungs), reversed(self._queues), strict=True):
            first = queue.first()
            room = len(rung.values) // self._reduction_factor
            if first is not None and room > 0 and rung.is_among_best(first, room):
                return first
        return None

    def on_promote(self, trial_id: str) -> None:
        """It waits no longer."""
        self._leave_queues(trial_id)
        epoch, _ = self._decided[trial_id]
        self._decided[trial_id] = (epoch, Decision.CONTINUE)

    def _decide(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        self._leave_queues(trial_id)
        if not is_number(value):
            _record_divergence(self.rungs, trial_id)
            return Decision.STOP
        assert value is not None
        passed = _record(self.rungs, trial_id, epoch, self._sign * value)
        if not passed:
            return Decision.CONTINUE
        self._queues[self.rungs.index(passed[-1])].add(trial_id, self._sign * value)
        if self.promotable() != trial_id:
            return Decision.PAUSE
        self._leave_queues(trial_id)
        return Decision.CONTINUE

    def _leave_queues(self, trial_id: str) -> None:
        for queue in self._queues:
            queue.remove(trial_id)


class Hyperband:
    """Hyperband (Li et al., JMLR 18, 2018) with asynchronous brackets (arXiv 1810.05934, section 3.2).

    Bracket s is an ASHA whose first rung is grace · ηˢ. A trial's bracket is drawn by the seed and its id, a bracket as
    often as Hyperband gives it trials.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        first_rungs = rung_epochs(options.grace_epochs, options.max_epochs, options.reduction_factor)
        self.brackets = [StoppingAsha(options, grace) for grace in first_rungs] or [StoppingAsha(options)]
        self._seed = options.seed
        self._shares = bracket_shares(len(self.brackets), options.reduction_factor)

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """Ask the trial's bracket."""
        return self.bracket_of(trial_id).on_report(trial_id, epoch, value)

    def on_end(self, trial_id: str) -> None:
        """What it reached stays in its bracket."""

    def promotable(self) -> str | None:
        """No trial is ever paused."""
        return None

    def on_promote(self, trial_id: str) -> None:
        """No trial is ever paused."""

    def bracket_of(self, trial_id: str) -> StoppingAsha:
        """The bracket of a trial, the same whenever it is asked for."""
        rng = np.random.default_rng((self._seed, zlib.crc32(trial_id.encode())))
        return self.brackets[int(rng.choice(len(self.brackets), p=self._shares))]


def bracket_shares(brackets: int, reduction_factor: int) -> Sequence[float]:
    """The share of all trials that Hyperband gives each bracket, the one with the lowest first rung first.

    A bracket that halves k times begins with (K + 1) / (k + 1) · ηᵏ trials of K + 1 brackets (algorithm 1, line 2).
    """
    halvings = np.arange(brackets, 0, -1)
    trials = reduction_factor**halvings / (halvings + 1.0)
    shares: Sequence[float] = (trials / trials.sum()).tolist()
    return shares


def _record(rungs: Sequence[Rung], trial_id: str, epoch: int, value: float) -> list[Rung]:
    """Record a value at every rung up to `epoch` where the trial has none; returns these rungs, lowest first."""
    passed = [rung for rung in rungs if rung.epoch <= epoch and trial_id not in rung.values]
    for rung in passed:
        rung.record(trial_id, value)
    return passed


def _record_divergence(rungs: Sequence[Rung], trial_id: str) -> None:
    """Let a trial count as the worst at the next rung, which it would have been compared at."""
    following = next((rung for rung in rungs if trial_id not in rung.values), None)
    if following is not None:
        following.record(trial_id, WORST)
