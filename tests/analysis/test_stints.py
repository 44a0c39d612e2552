import numpy as np
import pytest

from analysis.frames import Clock
from analysis.stints import busy_share, slot_names, stints


def event(time, kind, trial_id=None, **values):
    return {"event": kind, "trial_id": trial_id, "time": time, **values}


def started(time, trial_id, *, attempt=1, node="a", pid=1):
    return event(time, "started", trial_id, attempt=attempt, node=node, pid=pid)


def found(*events):
    return stints(events, Clock(events).elapsed_of)


CREATED = (
    event(100, "search_started"),
    event(100, "created", "x", number=0),
    event(100, "created", "y", number=1),
    event(100, "created", "z", number=2),
)


def test_a_stay_lasts_from_start_to_end():
    frame = found(*CREATED, started(101, "x"), event(104, "ended", "x", state="STOPPED"))
    assert frame.drop(columns="pid").to_dict("records") == [
        {
            "trial_id": "x",
            "number": 0,
            "attempt": 1,
            "node": "a",
            "slot": 0,
            "fate": "STOPPED",
            "began": 1.0,
            "ended": 4.0,
        }
    ]


def test_each_start_is_a_stay_of_its_own():
    frame = found(
        *CREATED,
        started(101, "x"),
        event(103, "paused", "x"),
        started(105, "x"),
        event(106, "retried", "x"),
        started(107, "x", attempt=2),
        event(109, "search_ended"),
        started(110, "y"),
        event(112, "report", "y"),
    )
    assert list(zip(frame["fate"], frame["began"], frame["ended"], strict=True)) == [
        ("PAUSED", 1, 3),
        ("LOST", 5, 6),
        ("LOST", 7, 9),
        ("RUNNING", 10, 12),
    ]


def test_a_driver_that_died_ends_its_stays_with_its_last_event():
    frame = found(
        *CREATED, started(101, "x"), event(104, "report", "x"), event(900, "search_started"), started(901, "x")
    )
    assert list(zip(frame["fate"], frame["began"], frame["ended"], strict=True)) == [("LOST", 1, 4), ("RUNNING", 5, 5)]


def test_stays_take_the_free_slot_of_their_process():
    frame = found(
        *CREATED,
        started(101, "x", pid=1),
        started(102, "y", pid=2),
        event(103, "ended", "x", state="FINISHED"),
        event(104, "ended", "y", state="FINISHED"),
        started(105, "z", pid=2),
    )
    assert frame["slot"].tolist() == [0, 1, 1]
    assert slot_names(frame) == {("a", 0): "slot 1", ("a", 1): "slot 2"}


def test_slots_of_several_nodes_have_their_names():
    frame = found(*CREATED, started(101, "x", node="b"), started(102, "y", node="a"))
    assert slot_names(frame) == {("a", 0): "a · 1", ("b", 0): "b · 1"}


def test_the_share_of_time_that_slots_were_taken():
    frame = found(
        *CREATED,
        started(100, "x", pid=1),
        started(105, "y", pid=2),
        event(110, "ended", "x", state="FINISHED"),
        event(110, "ended", "y", state="FINISHED"),
    )
    assert busy_share(frame, 20.0, 4) == pytest.approx(np.array([[1, 1, 0, 0], [0, 1, 0, 0]]))


def test_no_event_no_stay():
    assert found().empty
    assert "slot" in found()
