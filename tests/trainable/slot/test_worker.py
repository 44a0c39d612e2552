"""What one worker makes of an order; no other rank is there."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainable.errors import ConfigError
from trainable.slot import worker
from trainable.slot.mailbox import Order
from trainable.slot.worker import carry_out


@pytest.fixture
def runner(make_runner: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(worker.Ranks, "current", lambda: SimpleNamespace(exchanges=7))
    return make_runner()


def test_an_order_is_a_verb_of_the_runner(runner: Any, tmp_path: Path) -> None:
    started = carry_out(runner, Order("start", ({"curve": [0.5]}, tmp_path)))
    trained = carry_out(runner, Order("run_epoch"))

    assert (started["value"], started["failure"], started["exchanges"]) == (0, None, 7)
    assert trained["value"] == {"epoch": 1, "val_accuracy": 0.5}


@pytest.mark.parametrize(
    ("error", "user_error", "device_broken"),
    [
        (ConfigError("no such tower"), True, False),
        (MemoryError("9 GiB"), False, False),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
    ],
)
def test_an_exception_becomes_a_failure_that_says_what_is_left_of_the_worker(
    runner: Any, tmp_path: Path, error: Exception, user_error: bool, device_broken: bool
) -> None:
    told = carry_out(runner, Order("start", ({"start_error": error}, tmp_path)))

    assert told["failure"] is not None
    assert told["failure"]["message"] == str(error)
    assert (told["user_error"], told["device_broken"]) == (user_error, device_broken)
