"""A search in virtual time: what happens when, and how it goes on after it was cut off anywhere."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.curves import Curves, RecordedCurve
from search.ledger import LEDGER_NAME, LedgerWriter, read_ledger
from search.pbt import ranges_of
from search.schedulers import RunAll, SchedulerOptions, build_scheduler
from search.searchers import RandomSearcher
from search.simulate import Curve, CurveOf, LivesOf, Plan, SimulatedSearch, VirtualClock, simulate
from search.spaces import SPACES
from search.synthetic_curves import SYNTHETIC_SPACE, SyntheticCurve, SyntheticCurves
from search.trials import Report, TrialRecord
from trainable.errors import ConfigError

PLAN = Plan(metric="val_accuracy", mode="max", trials=9, slots=3, max_epochs=9)
TWO_EPOCHS = replace(PLAN, trials=2, slots=1, max_epochs=2)
POPULATION = SyntheticCurves(epochs=9, seed=7, failing_share=0.2, nan_share=0.1)
"""On these, trials go on from others that had gone on from others themselves."""
MIXED = SyntheticCurves(epochs=9, seed=3, failing_share=0.3, nan_share=0.2)


@dataclass(frozen=True)
class Scripted:
    """One list of accuracies per trial; epochs last `seconds`."""

    accuracies: list[list[float]]
    seconds: list[float] = field(default_factory=lambda: [10.0])
    failure: str | None = None

    def __call__(self, config: Mapping[str, Any], number: int) -> Curve:
        return SyntheticCurve([self._report(*pair) for pair in enumerate(self.accuracies[number])], self.failure)

    def _report(self, place: int, accuracy: float) -> dict[str, float]:
        seconds = self.seconds[place % len(self.seconds)]
        return {"epoch": place + 1, "epoch_seconds": seconds, "val_accuracy": accuracy}


def run(
    folder: Path,
    curve_of: CurveOf = MIXED,
    plan: Plan = PLAN,
    scheduler: str = "asha",
    until: Callable[[TrialRecord, Report], bool] | None = None,
    lives_of: LivesOf = lambda trial: math.inf,
) -> SimulatedSearch:
    options = SchedulerOptions(
        metric=plan.metric,
        mode=plan.mode,
        max_epochs=plan.max_epochs,
        grace_epochs=1,
        reduction_factor=3,
        ranges=ranges_of(SYNTHETIC_SPACE),
        trials=plan.trials,
    )
    clock = VirtualClock()
    with LedgerWriter(folder / LEDGER_NAME, clock=clock) as ledger:
        searcher = RandomSearcher(SYNTHETIC_SPACE, seed=1)
        scheduling = build_scheduler(scheduler, options)
        return simulate(plan, ledger, searcher, scheduling, curve_of, clock=clock, until=until, lives_of=lives_of)


def events(folder: Path, *kinds: str) -> list[tuple[Any, ...]]:
    """Time, kind, trial number and epoch of the events of some kinds."""
    found = [event for event in read_ledger(folder / LEDGER_NAME) if event["event"] in kinds]
    return [(e["time"], e["event"], int(e["trial_id"][-4:]), e.get("epoch")) for e in found]


def without_starts(folder: Path) -> list[bytes]:
    """The ledger's lines, but for those which say that the search began or went on."""
    return [line for line in (folder / LEDGER_NAME).read_bytes().splitlines() if b'"search_started"' not in line]


def cut(folder: Path, whole: Path, lines: int, torn: int = 0) -> Path:
    """A folder with the first lines of a ledger, and so many bytes of the next one."""
    kept = (whole / LEDGER_NAME).read_bytes().splitlines(keepends=True)
    folder.mkdir()
    (folder / LEDGER_NAME).write_bytes(b"".join(kept[:lines]) + b"".join(kept[lines : lines + 1])[:torn])
    return folder


def test_a_slot_runs_trial_after_trial_and_starts_each(tmp_path: Path) -> None:
    result = run(tmp_path, Scripted([[0.1, 0.2], [0.3, 0.4]], seconds=[10.0, 5.0]), TWO_EPOCHS, "none")
    assert events(tmp_path, "created", "started", "report", "ended") == [
        (0.0, "created", 0, None),
        (0.0, "started", 0, None),
        (pytest.approx(10.2), "report", 0, 1),
        (pytest.approx(15.2), "report", 0, 2),
        (pytest.approx(15.2), "ended", 0, None),
        (pytest.approx(15.2), "created", 1, None),
        (pytest.approx(15.2), "started", 1, None),
        (pytest.approx(25.4), "report", 1, 1),
        (pytest.approx(30.4), "report", 1, 2),
        (pytest.approx(30.4), "ended", 1, None),
    ]
    assert (result.seconds, result.epochs) == (pytest.approx(30.4), 4)


def test_slots_run_side_by_side_and_a_tie_goes_to_the_epoch_that_began_first(tmp_path: Path) -> None:
    plan = replace(PLAN, trials=3, slots=2, max_epochs=1, start_seconds=0.0)
    result = run(tmp_path, Scripted([[0.1], [0.2], [0.3]]), plan, "none")
    assert events(tmp_path, "started", "report") == [
        (0.0, "started", 0, None),
        (0.0, "started", 1, None),
        (10.0, "report", 0, 1),
        (10.0, "started", 2, None),
        (10.0, "report", 1, 1),
        (20.0, "report", 2, 1),
    ]
    assert result.seconds == 20.0


def test_more_slots_than_trials_change_nothing(tmp_path: Path) -> None:
    few = run(tmp_path / "few", plan=replace(PLAN, slots=9))
    many = run(tmp_path / "many", plan=replace(PLAN, slots=50))
    assert few == many


def test_the_best_value_is_told_with_its_time_and_epochs(tmp_path: Path) -> None:
    result = run(tmp_path, Scripted([[0.1, 0.3], [0.2, 0.4]]), TWO_EPOCHS, "none")
    found = [(round(step.seconds, 6), step.epochs, step.value) for step in result.best]
    assert found == [(10.2, 1, 0.1), (20.2, 2, 0.3), (40.4, 4, 0.4)]
    lowest = run(tmp_path / "low", Scripted([[0.3, 0.2], [0.9, 0.1]]), replace(TWO_EPOCHS, mode="min"), "none")
    assert [step.value for step in lowest.best] == [0.3, 0.2, 0.1]


def test_an_epoch_that_fails_costs_its_time_and_counts(tmp_path: Path) -> None:
    result = run(tmp_path, Scripted([[0.1], [0.2]], failure="boom"), TWO_EPOCHS, "none")
    assert events(tmp_path, "report", "ended") == [
        (pytest.approx(10.2), "report", 0, 1),
        (pytest.approx(20.2), "ended", 0, None),
        (pytest.approx(30.4), "report", 1, 1),
        (pytest.approx(40.4), "ended", 1, None),
    ]
    assert result.epochs == 4
    assert {(trial.state, (trial.failure or {})["message"]) for trial in result.trials.values()} == {("FAILED", "boom")}


def test_a_trial_whose_metric_is_not_finite_ends_at_once(tmp_path: Path) -> None:
    result = run(tmp_path, Scripted([[0.1, 0.2], [float("nan"), 0.2]]), TWO_EPOCHS, "none")
    assert [(trial.state, trial.epochs) for trial in result.trials.values()] == [("FINISHED", 2), ("STOPPED", 1)]


def test_a_search_whose_first_trials_all_fail_alike_is_aborted(tmp_path: Path) -> None:
    result = run(tmp_path, Scripted([[]] * 50, failure="boom"), replace(PLAN, trials=50), "none")
    assert 12 <= len(result.trials) < 20
    assert read_ledger(tmp_path / LEDGER_NAME)[-1]["state"] == "ABORTED"


def test_a_promoted_trial_goes_on_at_its_next_epoch(tmp_path: Path) -> None:
    plan = replace(PLAN, trials=3, slots=1, max_epochs=3)
    run(tmp_path, Scripted([[0.3, 0.31, 0.32], [0.2] * 3, [0.1] * 3]), plan, "asha-promote")
    told = [event[1:] for event in events(tmp_path, "started", "report", "paused", "promoted", "ended")]
    assert told == [
        *[("started", 0, None), ("report", 0, 1), ("paused", 0, None)],
        *[("started", 1, None), ("report", 1, 1), ("paused", 1, None)],
        *[("started", 2, None), ("report", 2, 1), ("paused", 2, None)],
        *[("promoted", 0, None), ("started", 0, None), ("report", 0, 2), ("report", 0, 3), ("ended", 0, None)],
        *[("ended", 1, None), ("ended", 2, None)],
    ]
    assert events(tmp_path, "report")[-2][0] == pytest.approx(30.6 + 0.2 + 10.0)


def test_until_ends_a_search_at_a_report_and_a_later_one_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    result = run(tmp_path / "parts", until=lambda trial, report: report["epoch"] == 3)
    assert max(trial.epochs for trial in result.trials.values()) == 3
    assert read_ledger(tmp_path / "parts" / LEDGER_NAME)[-1]["event"] == "report"
    run(tmp_path / "parts")
    assert without_starts(tmp_path / "parts") == without_starts(tmp_path / "whole")


@pytest.mark.parametrize("scheduler", ["asha", "asha-promote", "hyperband", "pbt", "none"])
def test_the_same_inputs_give_the_same_ledger_and_every_trial_ends(tmp_path: Path, scheduler: str) -> None:
    result = run(tmp_path / "one", scheduler=scheduler)
    run(tmp_path / "two", scheduler=scheduler)
    assert (tmp_path / "one" / LEDGER_NAME).read_bytes() == (tmp_path / "two" / LEDGER_NAME).read_bytes()
    assert len(result.trials) == PLAN.trials
    assert all(trial.ended for trial in result.trials.values())
    assert read_ledger(tmp_path / "one" / LEDGER_NAME)[-1]["state"] == "COMPLETED"


def in_step(config: Mapping[str, Any], number: int) -> Curve:
    """Trials whose epochs are all over together."""
    curve = SyntheticCurves(epochs=9)(config, number)
    return replace(curve, reports=[{**report, "epoch_seconds": 10.0} for report in curve.reports])


@pytest.mark.parametrize(
    ("scheduler", "curve_of"),
    [
        *[("asha", MIXED), ("asha-promote", MIXED), ("asha-promote", in_step), ("hyperband", MIXED), ("none", in_step)],
        ("pbt", POPULATION),
    ],
)
def test_a_search_that_is_cut_off_after_any_event_goes_on_as_if_it_had_not_been(
    tmp_path: Path, scheduler: str, curve_of: CurveOf
) -> None:
    plan = replace(PLAN, trials=8 if scheduler == "pbt" else 7, start_seconds=0.0 if curve_of is in_step else 0.2)
    whole = run(tmp_path / "whole", curve_of, plan, scheduler)
    assert (scheduler == "pbt") == (len(events(tmp_path / "whole", "inherited")) > 5)
    for lines in range(len(without_starts(tmp_path / "whole")) + 1):
        folder = cut(tmp_path / f"{lines}", tmp_path / "whole", lines)
        assert run(folder, curve_of, plan, scheduler) == whole
        assert without_starts(folder) == without_starts(tmp_path / "whole")


def test_a_trial_that_inherits_goes_on_along_the_curve_of_its_new_config(tmp_path: Path) -> None:
    def curve_of(config: Mapping[str, Any], number: int) -> Curve:
        return Scripted([[0.9 - 0.1 * number + config["learning_rate"]] * 3] * 4)(config, number)

    result = run(tmp_path, curve_of, replace(PLAN, trials=4, slots=4, max_epochs=3), "pbt")
    best, _, _, worst = result.trials.values()
    (first, second), name = worst.inheritances, "learning_rate"
    assert (first.source, first.epoch, second.source, second.epoch) == (best.trial_id, 1, best.trial_id, 2)
    for inherited in (first, second):
        assert inherited.config[name] / best.config[name] in (pytest.approx(0.8), pytest.approx(1.2))
        assert inherited.config["embedding_dim"] == best.config["embedding_dim"]
        report = worst.reports[inherited.epoch]
        assert report["val_accuracy"] == pytest.approx(0.6 + inherited.config[name])
    assert [event[1] for event in events(tmp_path, "paused", "promoted", "inherited", "started")][4:] == [
        *["paused", "promoted", "inherited", "started"] * 2
    ]


def test_a_torn_line_is_as_if_it_had_not_been_written(tmp_path: Path) -> None:
    run(tmp_path / "whole", scheduler="asha-promote")
    lengths = [len(line) for line in (tmp_path / "whole" / LEDGER_NAME).read_bytes().splitlines()]
    rng = np.random.default_rng(0)
    for lines in rng.choice(len(lengths), size=10, replace=False).tolist():
        folder = cut(tmp_path / f"{lines}", tmp_path / "whole", lines, torn=int(rng.integers(1, lengths[lines])))
        run(folder, scheduler="asha-promote")
        assert without_starts(folder) == without_starts(tmp_path / "whole")


def test_a_search_that_is_over_goes_on_with_more_trials(tmp_path: Path) -> None:
    before = run(tmp_path, scheduler="none")
    told = without_starts(tmp_path)
    after = run(tmp_path, plan=replace(PLAN, trials=12), scheduler="none")
    assert without_starts(tmp_path)[: len(told)] == told
    assert len(after.trials) == 12
    assert after.epochs > before.epochs
    assert all(trial.attempts == 1 for trial in after.trials.values())


def test_fewer_slots_take_up_the_rest_later(tmp_path: Path) -> None:
    run(tmp_path, scheduler="none", until=lambda trial, report: report["epoch"] == 2)
    result = run(tmp_path, plan=replace(PLAN, slots=1), scheduler="none")
    assert all(trial.ended for trial in result.trials.values())
    assert [trial.attempts for trial in result.trials.values()] == [1, 2, 2, 1, 1, 1, 1, 1, 1]
    reports = [event[2:] for event in events(tmp_path, "report")]
    assert len(reports) == len(set(reports))


def test_a_curve_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="each of 2 epochs"):
        run(tmp_path, Scripted([[0.1], [0.2]]), TWO_EPOCHS, "none")


def test_recorded_curves_are_replayed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    configs = [SPACES["scratch"].sample(rng) for _ in range(2)]
    rows = [[{"epoch": 1, "epoch_seconds": 4.0, "val_accuracy": 0.1 * n, "train_loss": 1.0}] for n in range(1, 3)]
    curves = Curves(SPACES["scratch"], [RecordedCurve(*pair) for pair in zip(configs, rows, strict=True)], {})
    clock, plan = VirtualClock(), replace(PLAN, trials=3, max_epochs=1)
    with LedgerWriter(tmp_path / LEDGER_NAME, clock=clock) as ledger:
        searcher = RandomSearcher(SPACES["scratch"], seed=0)
        result = simulate(plan, ledger, searcher, RunAll(), lambda config, number: curves.nearest(config), clock=clock)
    for trial in result.trials.values():
        assert trial.reports[0]["val_accuracy"] == curves.nearest(trial.config).reports[0]["val_accuracy"]


ONE_LONG = replace(PLAN, trials=1, slots=1, max_epochs=2, start_seconds=1.0)


def test_a_lost_slot_costs_what_no_checkpoint_holds(tmp_path: Path) -> None:
    lives = iter([26.0, math.inf])
    plan = replace(ONE_LONG, max_lost_seconds=4.0)
    searched = run(tmp_path, Scripted([[0.1, 0.2]], seconds=[20.0]), plan, "none", lives_of=lambda trial: next(lives))

    (trial,) = searched.trials.values()
    saves = [5.0, 9.0, 13.0, 17.0]
    assert [time for time, *_ in events(tmp_path, "saved", "report", "retried", "started")] == pytest.approx(
        [0.0, *saves, 21.0, 25.0, 26.0, 26.0, 31.0, 35.0, 39.0, 43.0]
    )
    assert (trial.state, trial.attempts) == ("FINISHED", 2)
    assert trial.slot_time.lost["CPU"] == pytest.approx(1.0)
    assert trial.slot_time.spent["CPU"] == pytest.approx(43.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_search_over_nodes_that_are_lost_again_and_again_ends_with_what_one_without_losses_finds(
    tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    plan = replace(PLAN, max_lost_seconds=2.0, max_failures=2)
    lost = run(tmp_path / "lost", MIXED, plan, "none", lives_of=lambda trial: float(rng.uniform(2.5, 9.0)))
    calm = run(tmp_path / "calm", MIXED, PLAN, "none")

    retried = events(tmp_path / "lost", "retried")
    assert len(retried) > 3 * PLAN.trials
    assert [trial.state for trial in lost.trials.values()] == [trial.state for trial in calm.trials.values()]
    assert [trial.epochs for trial in lost.trials.values()] == [trial.epochs for trial in calm.trials.values()]


def test_a_trial_that_is_lost_without_progress_ends_and_the_ledger_counts(tmp_path: Path) -> None:
    lives = iter([15.0, 8.0, 15.0, 8.0, 8.0, 8.0])
    plan = replace(ONE_LONG, max_epochs=4, max_failures=2)
    searched = run(tmp_path, Scripted([[0.1] * 4], seconds=[10.0]), plan, "none", lives_of=lambda trial: next(lives))

    (trial,) = searched.trials.values()
    retried = [event for event in read_ledger(tmp_path / LEDGER_NAME) if event["event"] == "retried"]
    assert [event["without_progress"] for event in retried] == [0, 1, 0, 1, 2]
    assert (trial.state, trial.epochs, trial.attempts) == ("FAILED", 2, 6)
    assert trial.failure is not None
    assert trial.failure["kind"] == "SlotDied"


def test_a_search_that_loses_nodes_goes_on_after_its_driver_died(tmp_path: Path) -> None:
    def lives_of(trial: TrialRecord) -> float:
        return 3.0 + trial.number + trial.attempts

    plan = replace(PLAN, max_lost_seconds=2.0)
    run(tmp_path / "whole", MIXED, plan, lives_of=lives_of)
    lines = len((tmp_path / "whole" / LEDGER_NAME).read_bytes().splitlines())
    assert events(tmp_path / "whole", "retried")
    for at in range(5, lines, 11):
        folder = cut(tmp_path / f"cut {at}", tmp_path / "whole", at)
        searched = run(folder, MIXED, plan, lives_of=lives_of)
        assert all(trial.ended for trial in searched.trials.values())
