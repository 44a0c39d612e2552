from pathlib import Path
from typing import Any

import pytest

from search.failures import cause_key, first_failures_alike, group_failures, record_failure

REMOTE = "task failed\nTraceback (most recent call last):\n  File 'a.py', line 3\nValueError: bad value 17\n\n"


def _failure(message: str = "bad value", kind: str = "ValueError", where: str = "trainable/x.py:3") -> dict[str, Any]:
    return {"kind": kind, "message": message, "where": where, "traceback": f"Traceback ...\n{kind}: {message}"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("loss is nan at step 12", "loss is nan at step 3456"),
        ("learning rate 3.1e-03 diverged", "learning rate 1e-2 diverged"),
        ("<object at 0x7f3a00>", "<object at 0x55deadbeef>"),
        ("trial a1b2c3d4_00001 died", "trial 99ffee12_00002 died"),
        ("worker 10.0.0.1:80 lost", "worker 192.168.0.17:6379 lost"),
        ("bad value\nsee line 1", "bad value\nsee the other line"),
        (REMOTE, REMOTE.replace("17", "18").replace("task failed", "task 3 failed")),
    ],
)
def test_numbers_ids_and_addresses_do_not_part_causes(one: str, other: str) -> None:
    assert cause_key(_failure(one)) == cause_key(_failure(other))


@pytest.mark.parametrize(
    "other",
    [
        _failure("worse value"),
        _failure(kind="KeyError"),
        _failure(where="trainable/x.py:4"),
        _failure(REMOTE),
        _failure("facade decade"),
    ],
)
def test_another_message_class_or_place_is_another_cause(other: dict[str, Any]) -> None:
    assert cause_key(_failure()) != cause_key(other)


def test_words_of_hexadecimal_letters_are_no_ids() -> None:
    assert cause_key(_failure("no facade")) != cause_key(_failure("no decade"))


def test_one_full_traceback_a_cause_is_on_file(tmp_path: Path) -> None:
    first = record_failure(tmp_path, _failure("bad value 1"))
    again = record_failure(tmp_path, _failure("bad value 2"))
    other = record_failure(tmp_path, _failure("out of paper"))
    assert first["traceback_file"] == again["traceback_file"] != other["traceback_file"]
    assert (tmp_path / first["traceback_file"]).read_text() == "Traceback ...\nValueError: bad value 1\n"
    assert len(list((tmp_path / "failures").iterdir())) == 2
    assert again == {
        "kind": "ValueError",
        "message": "bad value 2",
        "where": "trainable/x.py:3",
        "traceback_file": first["traceback_file"],
    }


def test_causes_are_grouped_the_most_frequent_first(make_trial) -> None:
    rare, frequent = _failure("rare"), _failure(REMOTE)
    frequent["traceback_file"] = "failures/f.txt"
    trials = [
        make_trial(0, "FAILED", failure=rare),
        make_trial(1, "FAILED", failure=frequent),
        make_trial(2, "FINISHED", [0.1]),
        make_trial(3, "FAILED", failure=frequent),
    ]
    first, second = group_failures(trials)
    assert [trial.number for trial in first.trials] == [1, 3]
    assert (first.summary, first.where) == ("ValueError: bad value 17", "trainable/x.py:3")
    assert second.summary == "ValueError: rare"
    assert (first.traceback_file, second.traceback_file) == ("failures/f.txt", None)
    assert [trial.number for trial in second.trials] == [0]


def test_the_first_trials_that_all_fail_alike_are_found(make_trial) -> None:
    trials = [make_trial(n, "FAILED", failure=_failure(f"bad value {n}")) for n in range(3)]
    trials += [make_trial(3, "RUNNING"), make_trial(4, "PENDING")]
    cause = first_failures_alike(trials, 3)
    assert cause is not None
    assert len(cause.trials) == 3
    assert first_failures_alike(trials, 4) is None


@pytest.mark.parametrize("good", ["FINISHED", "STOPPED"])
def test_one_trial_that_did_not_fail_is_enough_to_go_on(make_trial, good: str) -> None:
    failed = [make_trial(n, "FAILED", failure=_failure()) for n in range(5)]
    assert first_failures_alike([*failed, make_trial(9, good, [0.1], ended_time=201.5)], 3) is None
    assert first_failures_alike([*failed, make_trial(9, good, [0.1], ended_time=999.0)], 3) is not None


def test_different_causes_are_no_reason_to_stop(make_trial) -> None:
    trials = [make_trial(n, "FAILED", failure=_failure("abc"[n])) for n in range(3)]
    assert first_failures_alike(trials, 3) is None


@pytest.mark.parametrize("kind", ["DivergedError", "OutOfMemoryError"])
def test_a_failure_that_depends_on_the_config_needs_four_times_as_many(make_trial, kind: str) -> None:
    trials = [make_trial(n, "FAILED", failure=_failure("loss is nan", kind)) for n in range(12)]
    assert first_failures_alike(trials[:11], 3) is None
    assert first_failures_alike(trials, 3) is not None
    assert first_failures_alike([*trials[:11], make_trial(11, "STOPPED", [0.1])], 3) is None
