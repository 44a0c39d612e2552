import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search.ledger import LedgerWriter, fold_trials, read_ledger, read_trials, search_state
from search.ledger_file import parse_line
from search.trials import Inherited, searched
from trainable.errors import ExperimentError


def _write_two_trials(path: Path) -> None:
    times = iter(range(1000))
    with LedgerWriter(path, clock=lambda: float(next(times))) as ledger:
        ledger.search_started()  # time 0
        ledger.created("a", 0, {"learning_rate": 1e-3, "weight_init": "kaiming"})
        ledger.created("b", 1, {"learning_rate": 1e-2, "weight_init": "xavier"})
        ledger.started("a", attempt=1, node="host", pid=7)  # time 3
        ledger.report("a", {"epoch": 1, "val_accuracy": 0.25})
        ledger.report("a", {"epoch": 2, "val_accuracy": 0.5})
        ledger.started("b", attempt=1, node="host", pid=8)
        ledger.ended("a", "FINISHED")  # time 7
        ledger.ended("b", "FAILED", {"kind": "DivergedError", "message": "m", "where": "w:1", "traceback_file": "f"})


def test_trials_are_read_back_as_written(tmp_path: Path) -> None:
    _write_two_trials(tmp_path / "ledger.jsonl")
    a, b = read_trials(tmp_path)
    assert (a.trial_id, a.number, a.state, a.attempts, a.epochs) == ("a", 0, "FINISHED", 1, 2)
    assert a.config == {"learning_rate": 1e-3, "weight_init": "kaiming"}
    assert (a.created_time, a.started_time, a.ended_time) == (1.0, 3.0, 7.0)
    assert [report["val_accuracy"] for report in a.reports] == [0.25, 0.5]
    assert a.reports[0] == {"epoch": 1, "val_accuracy": 0.25, "time": 4.0}
    assert (b.state, b.reports) == ("FAILED", [])
    assert b.failure is not None
    assert b.failure["kind"] == "DivergedError"


def test_writer_and_reader_fold_alike(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    _write_two_trials(path)
    with LedgerWriter(path) as ledger:
        ledger.created("c", 2, {"numpy": np.float32(0.5)})
        ledger.started("c", attempt=1, node="host", pid=9)
        ledger.report("c", {"epoch": np.int64(1), "val_loss": np.float32("nan"), "val_accuracy": 0.75})
        assert list(ledger.trials.values()) == read_trials(tmp_path)


def test_a_trial_that_inherits_keeps_what_was_drawn_and_knows_what_trained_each_epoch(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    _write_two_trials(path)
    with LedgerWriter(path) as ledger:
        ledger.inherited("b", Inherited(source="a", epoch=2, config={"learning_rate": 2e-3}))
        ledger.inherited("b", Inherited(source="a", epoch=4, config={"learning_rate": 4e-3}))
        assert list(ledger.trials.values()) == read_trials(tmp_path)
    a, b = read_trials(tmp_path)

    assert b.config == {"learning_rate": 1e-2, "weight_init": "xavier"}
    assert [b.config_at(epoch).get("learning_rate") for epoch in range(7)] == [1e-2] * 3 + [2e-3] * 2 + [4e-3] * 2
    assert b.current_config == {"learning_rate": 4e-3}
    assert b.inheritances[-1].origin == {"trial_id": "a", "epoch": 4}
    assert (a.current_config, a.config_at(9), a.inheritances) == (a.config, a.config, [])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
def test_a_number_that_is_not_finite_is_written_as_null(tmp_path: Path, value: float) -> None:
    with LedgerWriter(tmp_path / "ledger.jsonl") as ledger:
        ledger.created("a", 0, {"nested": [value]})
        ledger.report("a", {"epoch": 1, "val_loss": value})
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    created, report = (json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} there")) for line in lines)
    assert (created["config"]["nested"], report["val_loss"]) == ([None], None)


def test_every_line_has_event_trial_and_time_and_reports_are_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with LedgerWriter(path, clock=lambda: 12.5) as ledger:
        ledger.search_started()
        ledger.created("a", 0, {})
        ledger.report("a", {"epoch": 1})
        events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(event["event"], event["trial_id"], event["time"]) for event in events] == [
        ("search_started", None, 12.5),
        ("created", "a", 12.5),
        ("report", "a", 12.5),
    ]


def test_a_ledger_torn_at_any_byte_is_read_and_mended_without_losing_a_valid_event(tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "ledger.jsonl"
    _write_two_trials(whole)
    content, events = whole.read_bytes(), read_ledger(whole)
    for length in (0, 1, *range(len(content) - 300, len(content))):
        path = tmp_path / str(length) / "ledger.jsonl"
        path.parent.mkdir()
        path.write_bytes(content[:length])
        valid = events[: content[: length + 1].count(b"\n")]  # a line that lacks only its newline is valid
        assert read_ledger(path) == valid
        with LedgerWriter(path) as ledger:
            ledger.search_started()
        assert read_ledger(path)[:-1] == valid
        aside = path.with_name("ledger.torn")
        torn = aside.read_bytes().rstrip(b"\n") if aside.exists() else b""
        kept = b"".join(path.read_bytes().splitlines(keepends=True)[:-1])
        assert (kept + torn).rstrip(b"\n") == content[:length].rstrip(b"\n")


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b'{"event": "rep\n', b"\xff\xfe\n", b"[1, 2]\n", b"\n\n"])
def test_rubbish_after_the_last_event_is_passed_over_and_put_aside(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    _write_two_trials(path)
    events = read_ledger(path)
    with path.open("ab") as file:
        file.write(tail)
    assert read_ledger(path) == events
    with LedgerWriter(path) as ledger:
        ledger.search_ended("COMPLETED")
    assert [event["event"] for event in read_ledger(path)] == [event["event"] for event in events] + ["search_ended"]
    assert not tail.strip() or tail.strip() in path.with_name("ledger.torn").read_bytes()


def test_a_torn_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    _write_two_trials(path)
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:10]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ExperimentError, match="line 3"):
        read_ledger(path)


def test_a_line_that_is_finished_while_it_is_read_is_no_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"event": "a"}\n{"event": ')

    def parse_and_go_on(line: bytes) -> object:
        if not line.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b'"b"}\n{"event": "c"}\n')
        return parse_line(line)

    monkeypatch.setattr("search.ledger.parse_line", parse_and_go_on)
    assert [event["event"] for event in read_ledger(path)] == ["a"]
    monkeypatch.undo()
    assert [event["event"] for event in read_ledger(path)] == ["a", "b", "c"]


def test_a_missing_ledger_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="results/demo"):
        read_trials(tmp_path)


def test_a_second_writer_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with LedgerWriter(path), pytest.raises(ExperimentError, match="only one search"):
        LedgerWriter(path)
    LedgerWriter(path).close()


def test_an_epoch_that_is_reported_again_replaces_itself_and_what_came_after(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger.jsonl") as ledger:
        ledger.created("a", 0, {})
        ledger.started("a", attempt=1, node="host", pid=1)
        for epoch, accuracy in [(1, 0.1), (2, 0.2), (3, 0.3)]:
            ledger.report("a", {"epoch": epoch, "val_accuracy": accuracy})
        ledger.started("a", attempt=2, node="host", pid=2)
        ledger.report("a", {"epoch": 2, "val_accuracy": 0.25})
    (trial,) = read_trials(tmp_path)
    assert [(report["epoch"], report["val_accuracy"]) for report in trial.reports] == [(1, 0.1), (2, 0.25)]
    assert (trial.attempts, trial.pid, trial.state) == (2, 2, "RUNNING")


def test_a_failed_trial_that_is_started_again_runs_and_has_not_failed(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger.jsonl") as ledger:
        ledger.created("a", 0, {})
        ledger.started("a", attempt=1, node="host", pid=1)
        ledger.ended("a", "FAILED", {"kind": "ValueError"})
        ledger.started("a", attempt=2, node="host", pid=2)
    (trial,) = read_trials(tmp_path)
    assert (trial.state, trial.failure, trial.ended_time, trial.ended) == ("RUNNING", None, None, False)


def test_an_event_of_an_unknown_trial_is_refused_and_not_written(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger.jsonl") as ledger, pytest.raises(ExperimentError, match="'x'"):
        ledger.report("x", {"epoch": 1})
    assert read_ledger(tmp_path / "ledger.jsonl") == []


def test_events_of_later_versions_are_passed_over() -> None:
    events = [
        {"event": "created", "trial_id": "a", "number": 0, "config": {}, "time": 1.0},
        {"event": "praised", "trial_id": "a", "time": 2.0},
    ]
    assert [trial.state for trial in fold_trials(events)] == ["PENDING"]


@pytest.mark.parametrize(
    "event",
    [
        {"event": "report"},
        {"event": "report", "trial_id": "a", "time": 1.0},
        {"event": "report", "trial_id": "a", "time": 1.0, "epoch": "x"},
        {"event": "report", "trial_id": "a", "time": 1.0, "epoch": 1, "val_accuracy": "0.5"},
        {"event": "report", "trial_id": "a", "time": 1.0, "epoch": 1, "val_accuracy": [0.5]},
        {"event": "report", "trial_id": "a", "time": 1.0, "epoch": 1, "val_accuracy": {"of": 0.5}},
    ],
)
def test_an_event_of_another_shape_is_named(event: dict[str, object]) -> None:
    created = {"event": "created", "trial_id": "a", "time": 0.0, "number": 0, "config": {}}

    with pytest.raises(ExperimentError, match="event 2 is not"):
        fold_trials([created, event])


def test_search_state_follows_the_last_start_and_end() -> None:
    started, ended = {"event": "search_started"}, {"event": "search_ended", "state": "INTERRUPTED"}
    assert search_state([]) == "PENDING"
    assert search_state([started]) == "RUNNING"
    assert search_state([started, ended]) == "INTERRUPTED"
    assert search_state([started, ended, started]) == "RUNNING"


def test_an_unknown_state_is_refused(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger.jsonl") as ledger:
        ledger.created("a", 0, {})
        with pytest.raises(ValueError, match="RUNNING"):
            ledger.ended("a", "RUNNING")
        with pytest.raises(ValueError, match="DONE"):
            ledger.search_ended("DONE")


def test_reading_a_ledger_loads_neither_torch_nor_ray() -> None:
    code = "import sys, search.ledger; print(sorted({'torch', 'ray', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_trial_that_confirms_another_says_which_and_any_other_says_nothing(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger.jsonl") as ledger:
        ledger.created("a", 0, {})
        ledger.created("b", 1, {"seed": 1}, confirms="a")
    events = read_ledger(tmp_path / "ledger.jsonl")

    assert ["confirms" in event for event in events] == [False, True]
    assert [trial.confirms for trial in fold_trials(events)] == [None, "a"]
    assert [trial.trial_id for trial in searched(fold_trials(events))] == ["a"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b'{"event": "a"},{"event": "b"}',
        b"[1]",
        b'{"n": 1}',
        b'{"event": [1',
        b"2]}",
        b"\xff",
        b'{"event": NaN}',
    ],
)
def test_a_line_that_is_no_event_is_none(line):
    assert parse_line(line) is None
    assert parse_line(b'{"event": "a", "n": 1}') == {"event": "a", "n": 1}
