import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.dimensions import LogUniform
from search.ledger import LedgerWriter, read_ledger
from search.recorder import Recorder
from search.resume import rebuild, settle
from search.schedulers import Decision, Scheduler, SchedulerOptions, build_scheduler
from search.searchers import RandomSearcher
from search.source import TrialSource
from search.spaces import Space
from trainable.config import TrialConfig

METRIC = "val_accuracy"
SPACE = Space({"learning_rate": LogUniform(1e-4, 1e-2)})
OPTIONS = SchedulerOptions(metric=METRIC, mode="max", max_epochs=9, grace_epochs=1, reduction_factor=3)


class Search:
    """A search by hand on a ledger, of the named scheduler."""

    def __init__(self, ledger: Path, name: str) -> None:
        self.scheduler, self.searcher = build_scheduler(name, OPTIONS), RandomSearcher(SPACE, 0)
        events = read_ledger(ledger) if ledger.exists() else []
        self.trials = rebuild(events, self.scheduler, self.searcher, metric=METRIC)
        self.writer = LedgerWriter(ledger)
        self.recorder = Recorder(self.writer, [], retained=lambda trial: None, trials=30)
        defaults = TrialConfig(max_epochs=9)
        self.source = TrialSource(self.searcher, self.scheduler, self.recorder, defaults, metric=METRIC, trials=30)

    def run(self, trials: int) -> Iterator[tuple[str, Decision]]:
        """Train so many trials, promoted ones among them, until each ends or pauses; yields what was decided."""
        for _ in range(trials):
            trial = self.source.next()
            assert not isinstance(trial, type(None))
            decision = Decision.CONTINUE
            while decision is Decision.CONTINUE and trial.epochs < 9:  # type: ignore[union-attr]
                trial_id, epoch = trial.trial_id, trial.epochs + 1  # type: ignore[union-attr]
                value = random.Random(f"{trial_id} {epoch}").random()
                decision = self.source.decide(trial_id, {"epoch": epoch, METRIC: value})
                self.source.reported(trial_id, {"epoch": epoch, METRIC: value})
                yield trial_id, decision
            if decision is Decision.PAUSE:
                self.source.paused(trial_id)
            else:
                self.source.completed(trial_id)


def rungs(scheduler: Scheduler) -> list[dict[str, float]]:
    return [rung.values for rung in scheduler.rungs]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["asha", "asha-promote"])
def test_a_ledger_gives_the_same_rungs_and_the_same_further_decisions(tmp_path: Path, name: str) -> None:
    whole = Search(tmp_path / "whole.jsonl", name)
    expected = list(whole.run(24))
    first = Search(tmp_path / "ledger.jsonl", name)
    begun = list(first.run(11))
    first.writer.close()
    second = Search(tmp_path / "ledger.jsonl", name)

    assert rungs(second.scheduler) == rungs(first.scheduler)
    assert begun + list(second.run(13)) == expected


def test_the_searcher_goes_on_with_the_draws_that_come_next(tmp_path: Path) -> None:
    first = Search(tmp_path / "ledger.jsonl", "none")
    list(first.run(2))
    first.writer.close()
    second = Search(tmp_path / "ledger.jsonl", "none")
    list(second.run(1))

    expected = [RandomSearcher(SPACE, 0)]
    draws = [expected[0].suggest(str(n)) for n in range(3)]
    rates = [trial.config["learning_rate"] for trial in second.recorder.trials.values()]
    assert rates == [draw["learning_rate"] for draw in draws if draw is not None]


@pytest.mark.parametrize(
    ("name", "epoch", "state"),
    [("asha", 1, "STOPPED"), ("asha-promote", 1, "PAUSED"), ("none", 9, "FINISHED"), ("none", 1, "RUNNING")],
)
def test_what_was_decided_and_not_written_is_written(tmp_path: Path, name: str, epoch: int, state: str) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with LedgerWriter(ledger) as writer:
        for number, value in enumerate([0.9, 0.1]):  # the second is not among the best of its rung
            writer.created(f"t{number}", number, {"max_epochs": 9, "learning_rate": 1e-3 * (number + 1)})
            writer.started(f"t{number}", attempt=1, node="here", pid=1)
            writer.report(f"t{number}", {"epoch": epoch, METRIC: value})
        writer.ended("t0", "FINISHED")
    search = Search(ledger, name)
    settle(search.source, search.trials)

    assert search.recorder.trials["t1"].state == state
    assert search.recorder.trials["t0"].state == "FINISHED"


def test_trials_without_a_report_are_left_to_begin(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with LedgerWriter(ledger) as writer:
        writer.created("t0", 0, {"max_epochs": 9, "learning_rate": 1e-3})
    search = Search(ledger, "asha")
    settle(search.source, search.trials)
    trial: Any = search.source.next()

    assert trial.trial_id == "t0"


@pytest.mark.parametrize("name", ["asha", "asha-promote"])
def test_a_trial_that_diverged_counts_as_the_worst_of_its_rung_before_and_after(tmp_path: Path, name: str) -> None:
    ledger = tmp_path / "ledger.jsonl"
    first = Search(ledger, name)
    trial: Any = first.source.next()
    first.source.failed(trial.trial_id, {"kind": "DivergedError", "message": "", "where": "", "traceback": ""})
    first.writer.close()

    assert rungs(first.scheduler)[0] == {trial.trial_id: float("-inf")}
    assert rungs(Search(ledger, name).scheduler) == rungs(first.scheduler)
