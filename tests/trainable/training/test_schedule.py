import math

import pytest

from trainable.training.schedule import learning_rate


def rates(total: int, warmup: int) -> list[float]:
    return [learning_rate(step, total, peak=2.0, warmup_steps=warmup) for step in range(total + 2)]


def test_rises_linearly_then_falls_along_half_a_cosine_to_zero() -> None:
    assert rates(8, 3) == pytest.approx(
        [0.5, 1.0, 1.5, *(1 + math.cos(math.pi * k / 5) for k in range(5)), 0.0, 0.0], abs=1e-12
    )


def test_starts_at_the_peak_without_warm_up_and_moves_at_the_first_step_with_it() -> None:
    assert rates(4, 0)[0] == 2.0
    assert rates(4, 2)[0] > 0


def test_a_warm_up_as_long_as_the_run_never_divides_by_zero() -> None:
    assert rates(2, 2)[2] == 0.0
