import dataclasses
from math import nan

import numpy as np
import pytest

from search.pbt import PERTURBED, PopulationBased, ranges_of, require_population
from search.schedulers import Decision, Inheritance, RunAll, SchedulerOptions
from search.spaces import SPACES, build_space
from trainable.errors import ConfigError

CONTINUE, PAUSE, STOP = Decision.CONTINUE, Decision.PAUSE, Decision.STOP
RANGES = {"learning_rate": (1e-4, 1e-2), "augmentation": (0.0, 1.0)}


def options(mode: str = "max", interval: int = 2, max_epochs: int = 9, seed: int = 0) -> SchedulerOptions:
    return SchedulerOptions(
        metric="m",
        mode=mode,
        max_epochs=max_epochs,
        grace_epochs=interval,
        reduction_factor=3,
        seed=seed,
        ranges=RANGES,
    )


def population(values: list[float], epoch: int = 2, seed: int = 0) -> tuple[PopulationBased, list[Decision]]:
    """Trials t0, t1, ... that reach an epoch one after another."""
    scheduler = PopulationBased(options(seed=seed))
    return scheduler, [scheduler.on_report(f"t{number}", epoch, value) for number, value in enumerate(values)]


class SlowPopulation:
    """Truncation selection by full sorts; says whether a trial is replaced, and by which it may be."""

    def __init__(self, options: SchedulerOptions) -> None:
        self.options = options
        self.sign = {"max": 1, "min": -1}[options.mode]
        self.at: dict[int, dict[str, float]] = {}

    def on_report(self, trial_id: str, epoch: int, value: float) -> set[str]:
        if epoch % self.options.grace_epochs or epoch >= self.options.max_epochs:
            return set()
        reached = self.at.setdefault(epoch, {})
        reached[trial_id] = self.sign * value
        best_first = sorted(reached, key=lambda name: -reached[name])
        quarter = len(reached) // 4
        lowest = {
            name for name in reached if sum(reached[o] > reached[name] for o in reached) >= len(reached) - quarter
        }
        return set(best_first[:quarter]) if trial_id in lowest else set()

    def leave(self, trial_id: str) -> None:
        for reached in self.at.values():
            reached.pop(trial_id, None)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("seed", range(10))
def test_selection_is_what_full_sorts_say(seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    chosen = options(mode, interval=int(rng.integers(1, 4)), max_epochs=12)
    ours, slow = PopulationBased(chosen), SlowPopulation(chosen)
    epochs = dict.fromkeys((f"t{n}" for n in range(40)), 0)
    replaced = 0
    while epochs:
        trial_id = str(rng.choice(list(epochs)))
        epochs[trial_id] += 1
        if epochs[trial_id] > 12 or rng.random() < 0.01:
            ours.on_end(trial_id)
            if epochs.pop(trial_id) <= 12:
                slow.leave(trial_id)
            continue
        value = float(rng.integers(12))
        decision = ours.on_report(trial_id, epochs[trial_id], value)
        sources = slow.on_report(trial_id, epochs[trial_id], value)
        inheritance = ours.inherits(trial_id)
        assert (decision is PAUSE) == bool(sources) == (inheritance is not None)
        if inheritance is not None:
            replaced += 1
            assert inheritance.source in sources
            ours.on_promote(trial_id)

    assert replaced > 5


def test_the_worst_of_four_goes_on_from_the_best() -> None:
    scheduler, decisions = population([0.4, 0.9, 0.5, 0.1])

    assert decisions == [CONTINUE, CONTINUE, CONTINUE, PAUSE]
    assert scheduler.promotable() == "t3"
    inheritance = scheduler.inherits("t3")
    assert inheritance is not None
    assert (inheritance.source, inheritance.epoch, set(inheritance.factors)) == ("t1", 2, set(RANGES))


def test_fewer_than_four_say_nothing() -> None:
    assert population([0.9, 0.8, 0.1])[1] == [CONTINUE] * 3


def test_a_trial_never_goes_on_from_one_that_is_no_better() -> None:
    assert population([0.143] * 40)[1] == [CONTINUE] * 40


def test_trials_are_compared_at_the_multiples_of_the_interval_before_the_end() -> None:
    scheduler = PopulationBased(options(interval=3, max_epochs=9))
    for number in range(8):
        decisions = [scheduler.on_report(f"t{number}", epoch, 1.0 - number) for epoch in range(1, 10)]
    assert list(scheduler.populations) == [3, 6]
    assert [epoch for epoch, decision in enumerate(decisions, start=1) if decision is PAUSE] == [3, 6]


def test_an_epoch_that_is_skipped_is_an_epoch_without_a_checkpoint() -> None:
    scheduler = PopulationBased(options())
    scheduler.on_report("skipped", 3, 0.9)

    assert "skipped" not in scheduler.populations[2]


def test_sources_and_factors_follow_from_seed_trial_and_epoch() -> None:
    def inheritances(seed: int) -> list[Inheritance | None]:
        scheduler, _ = population([n / 100 for n in range(40, 0, -1)], seed=seed)
        return [scheduler.inherits(f"t{number}") for number in range(40)]

    first = inheritances(1)
    np.random.seed(1)  # noqa: NPY002
    assert inheritances(1) == first
    assert inheritances(2) != first
    drawn = [inheritance for inheritance in first if inheritance is not None]
    assert len({inheritance.source for inheritance in drawn}) > 5
    assert {factor for inheritance in drawn for factor in inheritance.factors.values()} == {0.8, 1.2}
    assert len({tuple(inheritance.factors.values()) for inheritance in drawn}) == 4


def test_a_trial_is_changed_anew_at_each_epoch() -> None:
    scheduler = PopulationBased(options(max_epochs=40))
    drawn = []
    for epoch in range(2, 40, 2):
        for number in range(40):
            scheduler.on_report(f"t{number}", epoch, -number)
        inheritance = scheduler.inherits("t39")
        assert inheritance is not None
        drawn.append((inheritance.source, *inheritance.factors.values()))

    assert len(set(drawn)) > 10


def test_changes_are_the_sources_values_times_the_factors_within_their_ranges() -> None:
    inheritance = Inheritance(
        source="t1", epoch=2, factors={"learning_rate": 1.2, "augmentation": 0.8, "weight_decay": 1.2},
        ranges={"learning_rate": (1e-4, 1e-2), "augmentation": (0.5, 1.0), "weight_decay": (0.0, 1.0)},
    )  # fmt: skip
    config = {"learning_rate": 9e-3, "augmentation": 0.6, "weight_decay": 0.1, "embedding_dim": 64}

    assert inheritance.changes(config) == pytest.approx(
        {"learning_rate": 1e-2, "augmentation": 0.5, "weight_decay": 0.12}
    )


def test_an_inheritance_holds_through_promotion_and_retries_until_the_next_report() -> None:
    scheduler, _ = population([0.4, 0.9, 0.5, 0.1])
    inheritance = scheduler.inherits("t3")
    scheduler.on_promote("t3")
    assert scheduler.promotable() is None
    assert scheduler.inherits("t3") == inheritance

    assert scheduler.on_report("t3", 2, 0.1) is CONTINUE
    assert scheduler.inherits("t3") == inheritance
    assert scheduler.on_report("t3", 3, 0.8) is CONTINUE
    assert scheduler.inherits("t3") is None


def test_paused_trials_go_on_in_the_order_in_which_they_came() -> None:
    scheduler, _ = population([0.9, 0.8, 0.7, 0.3, 0.2, 0.1])

    promoted = []
    while (trial_id := scheduler.promotable()) is not None:
        scheduler.on_promote(trial_id)
        promoted.append(trial_id)
    assert promoted == ["t3", "t4", "t5"]


def test_a_paused_trial_that_reports_on_was_promoted() -> None:
    scheduler, _ = population([0.4, 0.9, 0.5, 0.1])

    assert scheduler.on_report("t3", 3, 0.1) is CONTINUE
    assert scheduler.promotable() is None
    assert scheduler.inherits("t3") is None


def test_a_trial_that_diverged_or_failed_is_no_source_and_one_that_finished_is() -> None:
    values = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    for end, best in (("diverge", "t1"), ("fail", "t1"), ("finish", "t0")):
        scheduler, _ = population(values)
        if end == "diverge":
            assert scheduler.on_report("t0", 3, nan) is STOP
        for epoch in range(3, 10) if end == "finish" else []:
            scheduler.on_report("t0", epoch, 0.9)
        if end != "diverge":
            scheduler.on_end("t0")
        scheduler.on_report("last", 2, 0.1)
        inheritance = scheduler.inherits("last")
        assert inheritance is not None
        assert inheritance.source in (best, "t1")
        assert scheduler.populations[2].at(0) == best


def finished(trials: int, values: list[float], epoch: int = 2) -> PopulationBased:
    """Trials one after another, each to its end."""
    scheduler = PopulationBased(dataclasses.replace(options(), trials=trials))
    for number, value in enumerate(values):
        scheduler.on_report(f"t{number}", epoch, value)
        scheduler.on_report(f"t{number}", 9, value)
        scheduler.on_end(f"t{number}")
    return scheduler


def test_only_what_may_come_to_be_in_the_best_quarter_of_all_is_inheritable() -> None:
    scheduler = finished(8, [0.3, 0.5, 0.4, 0.2])
    assert scheduler.inheritable() == {("t1", 2), ("t2", 2)}

    scheduler.on_report("runs", 2, 0.6)
    assert scheduler.inheritable() == {("runs", 2), ("t1", 2), ("t2", 2)}  # it may fail yet
    scheduler.on_report("runs", 9, 0.6)
    scheduler.on_end("runs")
    assert scheduler.inheritable() == {("runs", 2), ("t1", 2)}


def test_nothing_is_inheritable_at_an_epoch_that_all_have_passed_but_what_waits_to_be_inherited() -> None:
    scheduler = finished(6, [0.5, 0.4, 0.3])
    assert scheduler.inheritable() == {("t0", 2)}
    scheduler.on_end("failed at once")
    scheduler.on_report("runs", 2, 0.6)
    assert scheduler.inheritable() == {("runs", 2), ("t0", 2)}

    assert scheduler.on_report("last", 2, 0.1) is PAUSE
    assert scheduler.inheritable() == {("runs", 2)}
    scheduler.on_promote("last")
    assert scheduler.inheritable() == {("runs", 2)}
    scheduler.on_report("last", 3, 0.6)
    assert scheduler.inheritable() == set()


@pytest.mark.parametrize(
    ("algorithm", "confirm", "flag"), [("optuna", 0, "--algo random"), ("random", 3, "--confirm 0")]
)
def test_what_takes_a_trial_for_one_config_does_not_go_with_it(algorithm: str, confirm: int, flag: str) -> None:
    with pytest.raises(ConfigError, match=f"--scheduler pbt needs {flag}"):
        require_population(algorithm, confirm, "results")


def test_a_checkpoint_may_go_on_with_whatever_is_perturbed() -> None:
    from trainable.training.trainer import CHANGEABLE

    assert set(PERTURBED) <= set(CHANGEABLE)


def test_ranges_are_those_of_what_varies_over_one() -> None:
    assert set(ranges_of(SPACES["wide"])) == {"learning_rate", "weight_decay", "augmentation"}
    assert ranges_of(build_space("wide", ["weight_decay=0.1", "augmentation=choice(0,1)"])) == {
        "learning_rate": (1e-4, 1e-2)
    }


def test_a_space_in_which_nothing_may_change_is_refused() -> None:
    with pytest.raises(ConfigError, match="learning_rate, weight_decay or augmentation"):
        ranges_of(build_space("study", ["learning_rate=0.001"]))


def mean_at_the_end(scheduler: PopulationBased | RunAll, trials: int = 16, epochs: int = 30) -> float:
    """A population that trains side by side, with all that a slot must keep: weights and config at each epoch.

    An epoch adds more to the weights the nearer the learning rate is to 1e-3, and less where it is ten times off.
    """
    rng = np.random.default_rng(0)
    names = [f"t{number}" for number in range(trials)]
    weights = dict.fromkeys(((name, 0) for name in names), 0.0)
    configs = {(name, 0): {"learning_rate": 10 ** rng.uniform(-4, -2), "augmentation": 0.5} for name in names}
    for epoch in range(1, epochs + 1):
        for name in rng.permutation(names):
            inheritance = scheduler.inherits(name)
            start = (name, epoch - 1) if inheritance is None else (inheritance.source, inheritance.epoch)
            changes = {} if inheritance is None else inheritance.changes(configs[start])
            configs[name, epoch] = {**configs[start], **changes}
            weights[name, epoch] = weights[start] + 1 - abs(np.log10(configs[name, epoch]["learning_rate"] / 1e-3))
            if scheduler.on_report(name, epoch, weights[name, epoch]) is PAUSE:
                assert scheduler.promotable() == name
                scheduler.on_promote(name)
    return float(np.mean([weights[name, epochs] for name in names]))


def test_a_population_learns_what_its_trials_alone_do_not() -> None:
    alone = mean_at_the_end(RunAll())
    together = mean_at_the_end(PopulationBased(options(interval=3, max_epochs=30)))

    assert 10 < alone < 20
    assert together > 27
