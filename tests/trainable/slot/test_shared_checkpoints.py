"""Trials that go on from each other's checkpoints, on a runner that replays curves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainable.slot import shared_checkpoints
from trainable.slot.slot import Slot, SlotOptions

ORIGIN = {"trial_id": "source", "epoch": 2}
SOURCE = {"max_epochs": 6, "curve": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
HEIR = {"max_epochs": 5, "curve": [None, None, 0.7, 0.8, 0.9]}


@pytest.fixture
def options(tmp_path: Path) -> SlotOptions:
    return SlotOptions(
        store="",
        checkpoints=str(tmp_path / "checkpoints"),
        metric="val_accuracy",
        mode="max",
        population=str(tmp_path / "population"),
        keep_every=2,
    )


@pytest.fixture
def begin(options: SlotOptions, make_runner: Callable[[], Any]) -> Callable[..., Slot]:
    """Begins a trial in a fresh slot, as after a death of the one before."""

    def begin(trial_id: str, config: dict[str, Any], origin: Any = None) -> Slot:
        slot = Slot(options, make_runner())
        slot.begin(trial_id, config, origin)
        return slot

    return begin


@pytest.fixture
def kept(tmp_path: Path, begin: Callable[..., Slot]) -> Path:
    """The folder of what a trial called `source`, trained to its end, has left for others."""
    steps(begin("source", SOURCE), 6)
    return tmp_path / "population" / "source"


def steps(slot: Slot, count: int) -> list[tuple[int, float]]:
    reports = [slot.step()["report"] for _ in range(count)]
    return [(report["epoch"], report["val_accuracy"]) for report in reports]


def test_a_checkpoint_is_kept_at_each_multiple_of_epochs_but_the_last(kept: Path) -> None:
    assert {path.name: (path / "epoch").read_text() for path in kept.iterdir()} == {"2": "2", "4": "4"}


def test_nothing_is_kept_where_it_is_not_asked_for(tmp_path: Path, make_runner: Callable[[], Any]) -> None:
    slot = Slot(SlotOptions(store="", checkpoints=str(tmp_path), metric="val_accuracy", mode="max"), make_runner())
    slot.begin("a", SOURCE)
    steps(slot, 5)

    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_what_is_kept_is_another_name_of_the_last_checkpoints_file(tmp_path: Path, begin: Callable[..., Slot]) -> None:
    steps(begin("source", SOURCE), 2)
    last = tmp_path / "checkpoints" / "source" / "last" / "epoch"

    assert (tmp_path / "population" / "source" / "2" / "epoch").samefile(last)


def test_to_take_a_checkpoint_twice_leaves_nothing_else(tmp_path: Path, kept: Path) -> None:
    for _ in range(2):
        shared_checkpoints.take(kept.parent, ORIGIN, tmp_path / "last")

    assert [path.name for path in (tmp_path / "last").iterdir()] == ["epoch"]


def test_it_is_a_copy_where_a_file_system_has_no_links(
    tmp_path: Path, begin: Callable[..., Slot], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    steps(begin("source", SOURCE), 2)
    last = tmp_path / "checkpoints" / "source" / "last" / "epoch"
    copy = tmp_path / "population" / "source" / "2" / "epoch"

    assert copy.read_text() == "2"
    assert not copy.samefile(last)
    assert steps(begin("heir", HEIR, ORIGIN), 1) == [(3, 0.7)]


def test_what_was_not_kept_before_a_death_is_kept_after_it(tmp_path: Path, begin: Callable[..., Slot]) -> None:
    steps(begin("source", SOURCE), 2)
    kept = tmp_path / "population" / "source" / "2"
    (kept / "epoch").unlink()
    steps(begin("source", SOURCE), 1)

    assert (kept / "epoch").read_text() == "2"


@pytest.mark.usefixtures("kept")
def test_a_trial_goes_on_from_anothers_checkpoint_and_sends_no_report_of_its_own_again(
    begin: Callable[..., Slot],
) -> None:
    steps(begin("heir", SOURCE), 2)

    assert steps(begin("heir", HEIR, ORIGIN), 3) == [(3, 0.7), (4, 0.8), (5, 0.9)]


@pytest.mark.usefixtures("kept")
def test_the_runner_is_told_that_the_checkpoint_is_of_another_config(
    options: SlotOptions, make_runner: Callable[[], Any]
) -> None:
    runner = make_runner()
    slot = Slot(options, runner)
    for origin, start in ((None, "start"), (ORIGIN, "start inherited")):
        slot.begin("heir", HEIR, origin)
        slot.step()
        assert [call for call in runner.calls if call.startswith("start")][-1] == start


@pytest.mark.usefixtures("kept")
def test_a_trial_that_inherited_goes_on_from_what_it_has_trained_since(begin: Callable[..., Slot]) -> None:
    steps(begin("heir", HEIR, ORIGIN), 2)

    assert steps(begin("heir", HEIR, ORIGIN), 2) == [(4, 0.8), (5, 0.9)]


@pytest.mark.usefixtures("kept")
def test_a_death_before_the_first_epoch_after_it_leaves_the_inherited_checkpoint(
    tmp_path: Path, begin: Callable[..., Slot]
) -> None:
    broken = {**HEIR, "curve": [None, None, ValueError("no")]}
    assert begin("heir", broken, ORIGIN).step()["failure"]["message"] == "no"
    marker = tmp_path / "checkpoints" / "heir" / "origin.json"
    assert marker.is_file()

    marker.unlink()  # as if it had died before it could say what it took
    assert steps(begin("heir", HEIR, ORIGIN), 1) == [(3, 0.7)]


@pytest.mark.usefixtures("kept")
def test_a_trial_inherits_again_at_a_later_epoch(begin: Callable[..., Slot]) -> None:
    steps(begin("heir", HEIR, ORIGIN), 2)

    assert steps(begin("heir", HEIR, {"trial_id": "source", "epoch": 4}), 1) == [(5, 0.9)]


def test_the_best_weights_are_those_of_the_best_epoch_before_or_after(
    tmp_path: Path, kept: Path, begin: Callable[..., Slot]
) -> None:
    steps(begin("heir", {**SOURCE, "curve": [0.1, 0.75]}), 2)
    best = tmp_path / "checkpoints" / "heir" / "best" / "value"
    slot = begin("heir", HEIR, ORIGIN)

    assert [(steps(slot, 1)[0][0], best.read_text()) for _ in range(2)] == [(3, "0.75"), (4, "0.8")]
    assert {path.name: (path / "epoch").read_text() for path in (kept.parent / "heir").iterdir()} == {
        "2": "2",
        "4": "4",
    }


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_a_checkpoint_that_is_gone_fails_the_trial_with_a_sentence(
    tmp_path: Path, begin: Callable[..., Slot], left: str
) -> None:
    if left == "an empty folder":
        (tmp_path / "population" / "source" / "2").mkdir(parents=True)
    failure = begin("heir", HEIR, ORIGIN).step()["failure"]

    assert failure["kind"] == "CheckpointError"
    assert "must find its checkpoint of epoch 2" in failure["message"]
