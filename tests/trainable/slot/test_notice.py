"""A notice, with SIGTERM sent to processes of their own."""

import signal
import subprocess
import sys

import pytest

from trainable.slot.notice import Notice

PROGRAM = """
import os, signal, sys
from trainable.slot.notice import NOTICE, catch_sigterm
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("ended as before"))
catch_sigterm()
catch_sigterm()
if "waits" in sys.argv:
    os.kill(os.getpid(), signal.SIGTERM)
with NOTICE.awaited():
    os.kill(os.getpid(), signal.SIGTERM)
    print(NOTICE.reason, flush=True)
    if "twice" in sys.argv:
        os.kill(os.getpid(), signal.SIGTERM)
print("saved")
"""


def ended(*how: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *how], capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr.strip()


def test_sigterm_within_a_trial_is_a_notice() -> None:
    assert ended() == ("its process got SIGTERM\nsaved\n", "")


def test_sigterm_between_trials_and_the_second_one_end_the_process() -> None:
    assert ended("waits") == ("", "ended as before")
    assert ended("twice") == ("its process got SIGTERM\n", "ended as before")


def test_sigterm_ends_a_process_that_had_no_handler() -> None:
    program = "import os, signal; from trainable.slot.notice import catch_sigterm as c; c(); os.kill(os.getpid(), 15)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == -signal.SIGTERM


def test_the_first_reason_stays() -> None:
    notice = Notice()
    assert notice.reason is None
    notice.give("AWS")
    notice.give("Ray")
    assert notice.reason == "AWS"


def test_signals_are_caught_in_the_main_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.current_thread", object)
    with pytest.raises(RuntimeError, match="main thread"):
        Notice().catch_sigterm()
