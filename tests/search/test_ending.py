"""Searches that an error ends: the whole command, with Ray and training left out."""

import contextlib
import errno
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.error import TuneError
from safetensors.numpy import save_file

from search import ending
from search.cluster import Growth
from search.driver import Search
from search.ledger import read_ledger, read_trials, search_state
from search.recorder import Recorder
from search.run import main
from search.source import TrialSource
from trainable.slot.cluster import Node
from trainable.training.predictor import saved_epoch


def wrapped(error: Exception) -> None:
    """Raise an error as Tune hands it on."""
    try:
        raise error
    except Exception:
        raise TuneError("Traceback ...")  # noqa: B904


def raise_now(error: BaseException) -> None:
    raise error


FULL = OSError(errno.ENOSPC, "No space left on device", "ledger.jsonl")


@pytest.fixture
def run(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], int]:
    """Runs a search whose only trial reports one epoch and saves another; then `end` is called."""

    @contextlib.contextmanager
    def connected(say: object, **options: object) -> Iterator[list[Node]]:
        yield [Node(cpus=2, gpus=0)]

    def search(end: Callable[[], None]) -> int:
        def run_trials(search: Search, source: TrialSource, recorder: Recorder, tick: object) -> None:
            recorder.created("a", 0, dict.fromkeys(search.space.dimensions, 1))
            recorder.started("a", node="here", pid=1)
            recorder.reported("a", {"epoch": 1, "val_accuracy": 0.25})
            folder = search.experiment.checkpoints / "a"
            (folder / "best").mkdir(parents=True)
            save_file({"weight": np.zeros(1)}, folder / "best" / "model.safetensors", {"epoch": "2"})
            (folder / "report.json").write_text(json.dumps({"epoch": 2, "val_accuracy": 0.5}))
            end()

        monkeypatch.setattr("search.driver.run_trials", run_trials)
        return main(["--data-path", str(faces), "--storage", str(tmp_path), "--name", "x"])

    monkeypatch.setattr("trainable.slot.cluster.connected", connected)
    monkeypatch.setattr("trainable.slot.cluster.current_nodes", lambda: [Node(cpus=2, gpus=0)])
    monkeypatch.setattr("search.growth.find_growth", lambda nodes, say: Growth())
    monkeypatch.setattr("search.preflight.preflight", lambda *arguments, **options: None)
    monkeypatch.setattr("search.finish.measure_on_test", lambda search: pytest.fail("tested"))
    return search


def state(experiment: Path) -> str:
    return search_state(read_ledger(experiment / "ledger.jsonl"))


CASES: list[tuple[Callable[[], None], str, int, str]] = [
    (lambda: raise_now(FULL), "FAILED", 2, "but got ledger.jsonl: No space left on device. What ran is kept."),
    (lambda: wrapped(FULL), "FAILED", 2, "but got ledger.jsonl: No space left on device. What ran is kept."),
    (lambda: wrapped(KeyError("gone")), "FAILED", 1, "the search broke off by KeyError: 'gone'. See "),
    (lambda: raise_now(RuntimeError("no\nmore")), "FAILED", 1, "the search broke off by RuntimeError: no. See "),
    (lambda: raise_now(SystemExit(1)), "FAILED", 1, "the search broke off by SystemExit: 1. See "),
    (lambda: raise_now(KeyboardInterrupt()), "INTERRUPTED", 130, "interrupted"),
]


@pytest.mark.parametrize(("end", "end_state", "status", "sentence"), CASES)
def test_whatever_ends_the_trials_what_ran_is_kept(
    run: Callable[[Callable[[], None]], int],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    end: Callable[[], None],
    end_state: str,
    status: int,
    sentence: str,
) -> None:
    assert run(end) == status
    experiment = tmp_path / "x"
    (trial,) = read_trials(experiment)

    assert [report["val_accuracy"] for report in trial.reports] == [0.25, 0.5]
    assert json.loads((experiment / "best.json").read_text())["epoch"] == 2
    assert saved_epoch(experiment / "best") == 2
    assert state(experiment) == end_state
    captured = capfd.readouterr()
    assert sentence in captured.err
    assert "Traceback" not in captured.out + captured.err
    assert ("Traceback" in (experiment / "log" / "ray.log").read_text()) == (end_state == "FAILED")


def test_the_search_is_closed_in_the_ledger_also_where_keeping_the_best_fails(
    run: Callable[[Callable[[], None]], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise FULL

    monkeypatch.setattr(shutil, "copytree", full)
    assert run(lambda: None) == 2
    assert state(tmp_path / "x") == "FAILED"
    assert "No space left on device" in capfd.readouterr().err


def test_a_disk_error_before_the_trials_is_a_sentence(
    run: Callable[[Callable[[], None]], int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.preflight.preflight", lambda *arguments, **options: raise_now(FULL))
    assert run(lambda: None) == 2
    assert "error: a search must be able to read and write its files, but got ledger" in capfd.readouterr().err


def test_an_error_keeps_the_sentence_of_ours_that_caused_it(tmp_path: Path) -> None:
    error = RuntimeError("outer")
    error.__cause__ = ending.ExperimentError("a ledger must be whole.")
    assert ending.explain(error, tmp_path) == ending.Broken("a ledger must be whole.", 2)


def test_sigterm_interrupts_like_ctrl_c_and_the_handler_of_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ending.terminable():
        signal.raise_signal(signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("code", "raised"), [(signal.SIGTERM, KeyboardInterrupt), (1, SystemExit)])
def test_sigterm_interrupts_also_where_ray_made_it_exit(
    run: Callable[[Callable[[], None]], int],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    raised: type[BaseException],
) -> None:
    def connected(say: object, **options: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: raise_now(SystemExit(code)))  # as ray.init does first
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("trainable.slot.cluster.connected", connected)
    if raised is SystemExit:
        with pytest.raises(SystemExit):
            run(lambda: None)
    else:
        assert run(lambda: None) == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_store_whose_pixels_were_changed_is_refused(
    run: Callable[[Callable[[], None]], int], faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(faces, damaged)
    content = bytearray((damaged / "train.arrow").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "train.arrow").write_bytes(content)

    assert main(["--data-path", str(damaged), "--storage", str(tmp_path), "--name", "y"]) == 2
    assert "not those that its manifest was written for" in capsys.readouterr().err
