import torch

from trainable.training.pace import LOOK_SECONDS, Pace
from trainable.training.ranks import ONE_RANK


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_rank_looks_after_each_step_and_stops_before_the_limit_is_over() -> None:
    clock = Clock()
    pace = Pace(ONE_RANK, torch.device("cpu"), limit_seconds=10.0, clock=clock)
    for now, over in ((100.0, False), (108.9, False), (110.0 - LOOK_SECONDS, True)):
        clock.now = now
        assert pace.is_over() is over


def test_what_cannot_be_cut_counts_beforehand() -> None:
    pace = Pace(ONE_RANK, torch.device("cpu"), limit_seconds=10.0, clock=Clock())

    assert not pace.is_over(8.0)
    assert pace.is_over(9.0)


def test_without_a_limit_only_a_wish_cuts() -> None:
    wishes = iter([False, True])
    clock = Clock()
    pace = Pace(ONE_RANK, torch.device("cpu"), wanted=lambda: next(wishes), clock=clock)
    clock.now = 1e9

    assert [pace.is_over(), pace.is_over()] == [False, True]
