"""Asynchronous successive halving: ASHA in its stopping and its promoting form, and Hyperband over its brackets.

ASHA (Li et al., arXiv 1810.05934, algorithm 2): a trial may go on beyond a rung where its metric there is among the
best 1/η of the trials that reached it. All of it is ours. Ray's `AsyncHyperBandScheduler` stops trials by the same idea
but loses NaN, skipped rungs, its seed and a restart; `tests/search/test_ray_holes.py` shows each beside what is done
here. What a report costs grows with the number of rungs, and with that of trials as a search in sorted ones does.
"""

import bisect
import heapq
import zlib
from collections.abc import Sequence

import numpy as np

from search.schedulers import Decision, RunAll, SchedulerOptions

WORST = float("-inf")
"""What a metric that is not finite counts as."""

Place = tuple[float, int]
"""Where a trial stands in a rung: its value with the sign changed, then how many came before; less is better."""


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
        self._places: dict[str, Place] = {}
        self._best_first: list[Place] = []
        self._arrived: list[str] = []

    @property
    def values(self) -> dict[str, float]:
        """What each trial had reached, in the order in which they came."""
        return {trial_id: -negated for trial_id, (negated, _) in self._places.items()}

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def record(self, trial_id: str, value: float) -> None:
        """A trial reached the rung."""
        self._places[trial_id] = (-value, len(self._arrived))
        self._arrived.append(trial_id)
        bisect.insort(self._best_first, self._places[trial_id])

    def remove(self, trial_id: str) -> None:
        """A trial counts no longer, if it did."""
        place = self._places.pop(trial_id, None)
        if place is not None:
            del self._best_first[bisect.bisect_left(self._best_first, place)]

    def at(self, rank: int) -> str:
        """The trial of a rank, 0 for the best."""
        return self._arrived[self._best_first[rank][1]]

    def place_of(self, trial_id: str) -> Place:
        """Where a trial of the rung stands."""
        return self._places[trial_id]

    def better_than(self, trial_id: str) -> int:
        """How many trials are better, equal ones not counted."""
        negated, _ = self._places[trial_id]
        return bisect.bisect_left(self._best_first, (negated, -1))

    def ahead_of(self, trial_id: str) -> int:
        """How many trials are better, or equal and came before."""
        return bisect.bisect_left(self._best_first, self._places[trial_id])


class Queue:
    """Trials that wait at a rung, the best first, of equal ones the first that came."""

    def __init__(self) -> None:
        self._heap: list[tuple[Place, str]] = []
        self._waiting: set[str] = set()

    def add(self, trial_id: str, place: Place) -> None:
        """A trial begins to wait."""
        self._waiting.add(trial_id)
        heapq.heappush(self._heap, (place, trial_id))

    def remove(self, trial_id: str) -> None:
        """A trial waits no longer, if it did."""
        self._waiting.discard(trial_id)

    def first(self) -> str | None:
        """The best of those that wait; None where none does."""
        while self._heap and self._heap[0][1] not in self._waiting:
            heapq.heappop(self._heap)
        return self._heap[0][1] if self._heap else None


class StoppingAsha(RunAll):
    """ASHA that stops what is not among the best 1/η of its rung when it gets there, or the best of fewer than η.

    The rule of Optuna's `SuccessiveHalvingPruner`. Equal trials all go on: were only the first of them to, then
    towers that start to learn late, and are at the level of chance until then, would all be stopped but one.
    """

    def __init__(self, options: SchedulerOptions, grace_epochs: int | None = None) -> None:
        super().__init__()
        grace = options.grace_epochs if grace_epochs is None else grace_epochs
        self.rungs = [Rung(epoch) for epoch in rung_epochs(grace, options.max_epochs, options.reduction_factor)]
        self._reduction_factor = options.reduction_factor
        self._sign = 1.0 if options.mode == "max" else -1.0

    def _decide(self, trial_id: str, epoch: int, value: float) -> Decision:
        """Record the value at each rung that the trial has passed since its last report, and compare it there."""
        passed = _record(self.rungs, trial_id, epoch, self._sign * value)
        return Decision.CONTINUE if all(self._is_among_best(rung, trial_id) for rung in passed) else Decision.STOP

    def _diverged(self, trial_id: str) -> None:
        _record_divergence(self.rungs, trial_id)

    def _is_among_best(self, rung: Rung, trial_id: str) -> bool:
        return rung.better_than(trial_id) < max(1, len(rung) // self._reduction_factor)


class PromotingAsha(RunAll):
    """ASHA as its paper has it (algorithm 2): a trial pauses at each rung until it is among the best 1/η there.

    Ray has no such scheduler (ray#32634, ray#44256). A trial that is the next to be promoted at the moment of its
    report goes on in its slot. Of equal trials those that came first are the better ones. A paused trial that reports a
    later epoch was promoted, whoever let it.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        super().__init__()
        epochs = rung_epochs(options.grace_epochs, options.max_epochs, options.reduction_factor)
        self.rungs = [Rung(epoch) for epoch in epochs]
        self._queues = {epoch: Queue() for epoch in epochs}
        self._reduction_factor = options.reduction_factor
        self._sign = 1.0 if options.mode == "max" else -1.0

    def on_end(self, trial_id: str) -> None:
        """What it reached stays in the rungs."""
        self._leave_queues(trial_id)

    def promotable(self) -> str | None:
        """The best trial that waits at the highest rung where one may go on."""
        for rung in reversed(self.rungs):
            first = self._queues[rung.epoch].first()
            if first is not None and rung.ahead_of(first) < len(rung) // self._reduction_factor:
                return first
        return None

    def finalist(self) -> str | None:
        """The best trial of the highest rung that any reached, so that a small search too trains one to the end."""
        for rung in reversed(self.rungs):
            if len(rung):
                first = self._queues[rung.epoch].first()
                return first if first is not None and rung.ahead_of(first) == 0 else None
        return None

    def on_promote(self, trial_id: str) -> None:
        """It waits no longer, if it did."""
        self._leave_queues(trial_id)
        self._verdicts.resume(trial_id)

    def _decide(self, trial_id: str, epoch: int, value: float) -> Decision:
        """Pause at a rung, unless the trial is the next to be promoted."""
        self._leave_queues(trial_id)
        if not (passed := _record(self.rungs, trial_id, epoch, self._sign * value)):
            return Decision.CONTINUE
        self._queues[passed[-1].epoch].add(trial_id, passed[-1].place_of(trial_id))
        if self.promotable() != trial_id:
            return Decision.PAUSE
        self._leave_queues(trial_id)
        return Decision.CONTINUE

    def _diverged(self, trial_id: str) -> None:
        self._leave_queues(trial_id)
        _record_divergence(self.rungs, trial_id)

    def _leave_queues(self, trial_id: str) -> None:
        for queue in self._queues.values():
            queue.remove(trial_id)


class Hyperband(RunAll):
    """Hyperband (Li et al., JMLR 18, 2018) with an asynchronous bracket for each of its brackets (arXiv 1810.05934).

    Bracket s is a stopping ASHA whose first rung is grace · ηˢ; the last one has no rung, and runs its trials to the
    end. A trial's bracket is drawn by the seed and its id, a bracket as often as Hyperband gives it trials.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        super().__init__()
        first_rungs = rung_epochs(options.grace_epochs, options.max_epochs, options.reduction_factor)
        self.brackets = [StoppingAsha(options, grace) for grace in (*first_rungs, options.max_epochs)]
        self._seed = options.seed
        self._shares = bracket_shares(len(self.brackets), options.reduction_factor)

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        """Ask the trial's bracket."""
        return self.bracket_of(trial_id).on_report(trial_id, epoch, value)

    def bracket_of(self, trial_id: str) -> StoppingAsha:
        """The bracket of a trial, the same whenever it is asked for."""
        rng = np.random.default_rng((self._seed, zlib.crc32(trial_id.encode())))
        return self.brackets[int(rng.choice(len(self.brackets), p=self._shares))]


def bracket_shares(brackets: int, reduction_factor: int) -> Sequence[float]:
    """The share of all trials that Hyperband gives each bracket, the one with the lowest first rung first.

    Of K + 1 brackets the one that halves k times begins with (K + 1) / (k + 1) · ηᵏ trials (algorithm 1, line 2), so
    that all train for about as many epochs.
    """
    halvings = np.arange(brackets - 1, -1, -1)
    trials = reduction_factor**halvings / (halvings + 1.0)
    shares: Sequence[float] = (trials / trials.sum()).tolist()
    return shares


def _record(rungs: Sequence[Rung], trial_id: str, epoch: int, value: float) -> list[Rung]:
    """Record a value at every rung up to `epoch` where the trial has none; returns these rungs, lowest first."""
    passed = [rung for rung in rungs if rung.epoch <= epoch and trial_id not in rung]
    for rung in passed:
        rung.record(trial_id, value)
    return passed


def _record_divergence(rungs: Sequence[Rung], trial_id: str) -> None:
    """Let a trial count as the worst at the next rung, which it would have been compared at."""
    following = next((rung for rung in rungs if trial_id not in rung), None)
    if following is not None:
        following.record(trial_id, WORST)
