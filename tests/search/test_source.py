from pathlib import Path
from typing import Any

import pytest

from search.dimensions import Choice, LogUniform
from search.ledger import LedgerWriter, read_ledger
from search.recorder import Recorder
from search.schedulers import Decision, Inheritance, RunAll
from search.searchers import RandomSearcher
from search.source import Nothing, TrialSource
from search.spaces import Space
from search.trials import Inherited, Report, TrialRecord
from trainable.config import TrialConfig

FAILURE = {"kind": "ValueError", "message": "no", "where": "a.py:1", "traceback": "Traceback\nno"}
SPACE = Space({"learning_rate": LogUniform(1e-4, 1e-2)})


class Spy(RandomSearcher):
    """Keeps what it is told."""

    def __init__(self, space: Space) -> None:
        super().__init__(space, 0)
        self.told: list[Any] = []

    def on_report(self, trial: TrialRecord, report: Report) -> None:
        self.told.append((trial.trial_id, report["epoch"]))

    def on_end(self, trial: TrialRecord) -> None:
        self.told.append((trial.trial_id, trial.state))


class Pausing(RunAll):
    """Pauses every trial, and promotes those that it is told to."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.ended: list[str] = []

    def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
        return Decision.PAUSE

    def promotable(self) -> str | None:
        return self.waiting[0] if self.waiting else None

    def on_promote(self, trial_id: str) -> None:
        self.waiting.remove(trial_id)

    def on_end(self, trial_id: str) -> None:
        self.ended.append(trial_id)

    inheritance: Inheritance | None = None

    def inherits(self, trial_id: str) -> Inheritance | None:
        return self.inheritance if self.inheritance and self.inheritance.source != trial_id else None

    def inheritable(self) -> list[tuple[str, int]]:
        return [("kept", 1)]


class Bench:
    def __init__(self, folder: Path, trials: int = 2, space: Space = SPACE) -> None:
        self.ledger = folder / "ledger.jsonl"
        self.writer = LedgerWriter(self.ledger)
        self.recorder = Recorder(self.writer, [], retained=lambda trial: None, trials=trials)
        self.spy, self.scheduler = Spy(space), Pausing()
        defaults = TrialConfig(max_epochs=2)
        self.retained: list[tuple[str, Any]] = []
        self.source = TrialSource(
            self.spy,
            self.scheduler,
            self.recorder,
            defaults,
            metric="val_accuracy",
            trials=trials,
            retain=lambda trial, inheritable: self.retained.append((trial.trial_id, inheritable)),
        )

    def next_id(self) -> str:
        trial = self.source.next()
        assert isinstance(trial, TrialRecord)
        return trial.trial_id

    def events(self) -> list[str]:
        return [event["event"] for event in read_ledger(self.ledger)]


def report(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "val_accuracy": 0.1 * epoch}


def test_new_trials_are_drawn_recorded_and_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    assert [bench.next_id(), bench.next_id()] == ["trial_0000", "trial_0001"]
    assert bench.source.next() is Nothing.NOW
    assert bench.events() == ["created", "created"]
    assert bench.recorder.trials["trial_0001"].config["max_epochs"] == 2


def test_a_slot_is_idle_from_when_it_got_nothing_until_another_is_free(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first, second = bench.next_id(), bench.next_id()
    assert not bench.source.idle

    bench.source.completed(first)
    assert not bench.source.idle  # nobody has asked yet
    bench.source.next()
    assert bench.source.idle

    bench.source.paused(second)
    assert not bench.source.idle


def test_there_is_nothing_more_once_every_trial_has_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for trial_id in (bench.next_id(), bench.next_id()):
        bench.source.completed(trial_id)

    assert bench.source.next() is Nothing.EVER


def test_a_space_with_nothing_left_to_draw_ends_the_search(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=9, space=Space({"embedding_dim": Choice((8, 16))}))
    ids = [bench.next_id(), bench.next_id()]

    assert bench.source.next() is Nothing.NOW
    for trial_id in ids:
        bench.source.completed(trial_id)
    assert bench.source.next() is Nothing.EVER


def test_reports_and_ends_reach_ledger_scheduler_and_searcher(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first, second = bench.next_id(), bench.next_id()
    for epoch in (1, 2, 2):  # a trial that goes on sends its last report again
        bench.source.reported(first, report(epoch))
    bench.source.completed(first)
    bench.source.failed(second, FAILURE)

    assert bench.spy.told == [(first, 1), (first, 2), (first, "FINISHED"), (second, "FAILED")]
    assert bench.scheduler.ended == [first, second]
    assert bench.events() == ["created", "created", "report", "report", "ended", "ended"]


def test_a_promoted_trial_comes_before_a_new_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.next_id()
    bench.source.paused(first)
    bench.scheduler.waiting = [first]

    assert bench.next_id() == first
    assert bench.next_id() == "trial_0001"
    assert bench.events() == ["created", "paused", "promoted", "created"]


def test_a_trial_inherits_the_config_that_its_source_had_but_for_what_is_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    source, heir = bench.next_id(), bench.next_id()
    for trial_id, seed in ((source, 1), (heir, 2)):
        bench.recorder.trials[trial_id].config |= {"seed": seed, "embedding_dim": seed}
    before = bench.recorder.trials[source]
    had = {**before.config, "learning_rate": 0.5}
    bench.recorder.inherited(source, Inherited(source=heir, epoch=1, config=had))
    bench.recorder.inherited(source, Inherited(source=heir, epoch=2, config={**had, "learning_rate": 0.7}))
    bench.source.paused(heir)
    bench.scheduler.waiting = [heir]
    bench.scheduler.inheritance = Inheritance(
        source=source, epoch=2, factors={"learning_rate": 1.2}, ranges={"learning_rate": (0.0, 1.0)}
    )
    assert bench.next_id() == heir
    trial = bench.recorder.trials[heir]

    assert bench.events()[-2:] == ["promoted", "inherited"]
    assert trial.inheritances[0].origin == {"trial_id": source, "epoch": 2}
    assert trial.current_config == had | {"seed": 2, "learning_rate": pytest.approx(0.6)}
    assert trial.config["embedding_dim"] == 2


@pytest.mark.parametrize("written", [True, False])
def test_an_inheritance_is_written_once_whenever_the_driver_died(tmp_path: Path, written: bool) -> None:
    benches = [Bench(tmp_path, trials=2)]
    source, heir = benches[0].next_id(), benches[0].next_id()
    inheritance = Inheritance(source=source, epoch=1, factors={}, ranges={})
    benches[0].source.paused(heir)
    benches[0].scheduler.waiting = [heir]
    benches[0].scheduler.inheritance = inheritance if written else None
    assert benches[0].next_id() == heir
    benches[0].writer.close()
    after = Bench(tmp_path, trials=2)
    after.scheduler.inheritance = inheritance

    assert {after.next_id(), after.next_id()} == {source, heir}
    assert after.events().count("inherited") == 1


def test_after_each_report_and_end_what_may_be_inherited_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.next_id()
    for epoch in (1, 1):
        bench.source.reported(first, report(epoch))
    bench.source.completed(first)

    assert bench.retained == [(first, [("kept", 1)])] * 2


def test_a_trial_that_waits_keeps_no_slot_waiting_and_is_stopped_at_the_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=1)
    first = bench.next_id()
    bench.source.reported(first, report(1))
    bench.source.paused(first)

    assert bench.source.next() is Nothing.EVER
    bench.source.end_paused()
    assert bench.recorder.trials[first].state == "STOPPED"


def test_trials_that_were_cut_off_come_first(tmp_path: Path) -> None:
    before = Bench(tmp_path, trials=4)
    ids = [before.next_id() for _ in range(3)]
    before.source.completed(ids[0])
    before.source.paused(ids[1])
    before.writer.close()
    after = Bench(tmp_path, trials=4)

    assert [after.next_id(), after.next_id()] == [ids[2], "trial_0003"]


@pytest.mark.parametrize("end", ["completed", "paused"])
def test_a_trial_that_is_settled_does_not_come_again(tmp_path: Path, end: str) -> None:
    before = Bench(tmp_path, trials=1)
    first = before.next_id()
    before.writer.close()
    after = Bench(tmp_path, trials=1)
    getattr(after.source, end)(first)

    assert after.source.next() is Nothing.EVER


def test_the_finalist_goes_on_once_nothing_else_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    first, second = bench.next_id(), bench.next_id()
    monkeypatch.setattr(bench.scheduler, "finalist", lambda: first)
    monkeypatch.setattr(bench.scheduler, "on_promote", lambda trial_id: None)
    bench.source.paused(first)

    assert bench.source.next() is Nothing.NOW
    bench.source.completed(second)
    assert bench.next_id() == first
