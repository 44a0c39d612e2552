import contextlib
import gc
import multiprocessing
import os
import signal
import struct
import subprocess
import sys

import pandas as pd
import pytest

from analysis import loading
from analysis.frames import load_experiment
from trainable.errors import ExperimentError


def test_a_fork_reads_what_this_process_would_have_read(demo):
    beside, here = loading.load_beside(demo), load_experiment(demo)
    for name in ("reports", "trials", "confirming", "stints"):
        pd.testing.assert_frame_equal(getattr(beside, name), getattr(here, name))
    pd.testing.assert_frame_equal(beside.with_configs(beside.reports), here.with_configs(here.reports))
    assert (beside.manifest, beside.state) == (here.manifest, here.state)
    assert repr(beside.hyperparameters) == repr(here.hyperparameters)
    assert beside.path == demo


def test_an_error_of_the_fork_is_raised_here(tmp_path):
    with pytest.raises(ExperimentError, match=r"must hold experiment\.json"):
        loading.load_beside(tmp_path)


def test_what_a_killed_fork_did_not_read_is_read_here(demo, monkeypatch):
    monkeypatch.setattr(loading, "_send", lambda *arguments: os._exit(9))
    assert len(loading.load_beside(demo).trials) == len(load_experiment(demo).trials)


def test_the_work_of_a_fork_that_dies_is_done_here():
    pid = os.getpid()
    assert loading.beside(lambda: 1, lambda: 2 if os.getpid() == pid else os._exit(9)) == (1, 2)


KILLED = """
import os, signal
from analysis.loading import beside
beside(lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: bytes(10_000_000))
"""


def test_a_fork_whose_command_was_killed_ends_without_a_word():
    assert all_ended(KILLED) == (-signal.SIGKILL, b"")


FAILED = """
import os, time
from analysis.loading import beside
ready, begun = os.pipe()
def fail():
    os.read(ready, 1)
    raise SystemExit(3)
def begin():
    os.write(begun, b".")
    time.sleep(600)
beside(fail, lambda: beside(lambda: time.sleep(600), begin))
"""


def test_no_fork_of_a_fork_stays_where_the_command_fails():
    assert all_ended(FAILED) == (3, b"")


def all_ended(script):
    """Exit status and standard error, once no process holds that any more."""
    command = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, start_new_session=True)
    try:
        return command.wait(), command.communicate(timeout=60)[1]
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(command.pid, signal.SIGKILL)


def test_what_a_fork_that_dies_while_it_sends_is_done_here(monkeypatch):
    def send_a_part(receiver, sender, there):
        os.write(sender.fileno(), struct.pack("!i", 10_000) + b"part of that")
        os._exit(9)

    monkeypatch.setattr(loading, "_send", send_a_part)
    assert loading.beside(lambda: 1, lambda: 2) == (1, 2)


def test_an_error_of_the_fork_is_raised_here_and_told_once(capfd):
    with pytest.raises(KeyError, match="odd"):
        loading.beside(lambda: 1, lambda: {}["odd"])
    assert capfd.readouterr().err == ""


def test_a_sentence_of_the_fork_is_told_here():
    def refuse():
        raise ExperimentError("no such file")

    with pytest.raises(ExperimentError, match="no such file"):
        loading.beside(lambda: 1, refuse)
    assert not multiprocessing.active_children()


def test_no_fork_stays_where_an_import_fails(demo, monkeypatch):
    monkeypatch.setattr(loading, "_DRAWING", ("analysis.nothing",))
    with pytest.raises(ModuleNotFoundError):
        loading.load_beside(demo)
    assert not multiprocessing.active_children()


def test_cycles_are_collected_again_afterwards():
    with loading.no_collection():
        assert not gc.isenabled()
        with loading.no_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
