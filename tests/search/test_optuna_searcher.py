"""What Optuna is told, and its journal; see test_searcher_contract.py for what it draws."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search import options, optuna_searcher
from search.conditions import Condition
from search.dimensions import Choice, Fixed, LogUniform, RandInt
from search.optuna_searcher import SAMPLERS, OptunaSearcher
from search.searchers import Objective, SearcherOptions
from search.spaces import Space
from trainable.errors import ConfigError

Play = Callable[..., Any]

SPACE = Space(
    {
        "loss": Choice(("clip", "sigmoid")),
        "head_depth": RandInt(1, 3),
        "weight_decay": LogUniform(1e-4, 1e-1),
        "max_epochs": Fixed(4),
    },
    conditions={"weight_decay": Condition("loss", ("sigmoid",))},
)
ACCURACY = Objective(metric="val_accuracy", mode="max")
TWO = Objective(metric="val_accuracy", mode="max", further=(("epoch_seconds", "min"),))


def build(
    journal: Path | None = None, objective: Objective = ACCURACY, sampler: str | None = None, space: Space = SPACE
) -> OptunaSearcher:
    return OptunaSearcher(SearcherOptions(space=space, objective=objective, seed=0, sampler=sampler, journal=journal))


def opened(journal: Path) -> optuna.Study:
    """The study as another process, such as a dashboard, sees it."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    return optuna.load_study(study_name="glance", storage=storage)


def told(study: optuna.Study) -> list[tuple[Any, ...]]:
    """Everything of a study's trials but their times and the samplers' own notes."""
    return [
        (
            trial.number,
            trial.state,
            trial.values,
            trial.params,
            trial.distributions,
            trial.intermediate_values,
            trial.user_attrs,
        )
        for trial in study.trials
    ]


def test_a_finished_trial_is_complete_with_its_last_value(play: Play) -> None:
    search = play(build())
    trial = search.begin()
    search.report(trial, 0.9)
    search.report(trial, 0.4)
    search.end(trial)

    (found,) = search.searcher.study.trials
    assert (found.state, found.values) == (TrialState.COMPLETE, [0.4])
    assert found.intermediate_values == {1: 0.9, 2: 0.4}
    assert found.user_attrs == {"trial_id": "trial-0", "number": 0}


def test_a_stopped_trial_is_pruned_with_its_intermediate_values(play: Play) -> None:
    search = play(build())
    trial = search.begin()
    search.report(trial, 0.3)
    search.report(trial, 0.2)
    search.end(trial, "STOPPED")

    (found,) = search.searcher.study.trials
    assert (found.state, found.values) == (TrialState.PRUNED, [0.2])
    assert found.intermediate_values == {1: 0.3, 2: 0.2}


@pytest.mark.parametrize("state", ["FINISHED", "STOPPED", "FAILED"])
@pytest.mark.parametrize("accuracies", [(), (None,), (0.5, None), (0.5, float("nan"))])
def test_a_trial_that_failed_or_is_not_finite_is_told_as_such(
    state: str, accuracies: tuple[float | None, ...], play: Play
) -> None:
    search = play(build())
    trial = search.begin()
    for accuracy in accuracies:
        search.report(trial, accuracy)
    search.end(trial, state)

    (found,) = search.searcher.study.trials
    assert (found.state, found.values) == (TrialState.FAIL, None)
    assert found.intermediate_values == {n: a for n, a in enumerate(accuracies, 1) if a == 0.5}


def test_a_failed_trial_with_finite_reports_is_told_as_failed(play: Play) -> None:
    search = play(build())
    trial = search.begin()
    search.report(trial, 0.5)
    search.end(trial, "FAILED")

    assert search.searcher.study.trials[0].state == TrialState.FAIL


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
def test_none_is_left_running_after_its_end_and_none_ends_before(sampler: str, play: Play) -> None:
    search = play(build(sampler=sampler)).run(30, lambda config: 0.5)

    running = [trial.user_attrs["number"] for trial in search.searcher.study.trials if not trial.state.is_finished()]
    assert running == [trial.number for trial in search.running]


def test_the_study_holds_the_dimensions_that_act_and_vary(play: Play) -> None:
    search = play(build()).run(20, lambda config: 0.5)

    for trial, config in zip(search.searcher.study.trials, search.configs, strict=True):
        assert {**trial.params, "max_epochs": 4} == config


def test_a_config_that_came_again_leaves_nothing_in_the_study(play: Play) -> None:
    search = play(build(space=Space({"head_depth": RandInt(1, 3), "loss": Choice(("clip", "sigmoid"))})))
    search.run(10, lambda config: 0.5)

    assert len(search.records) == 6
    assert [trial.user_attrs.get("number") for trial in search.searcher.study.trials] == [0, 1, 2, 3, 4, 5, None]
    assert search.searcher.study.trials[6].state == TrialState.FAIL


@pytest.mark.parametrize(
    ("sampler", "trials"), [("tpe", 1), ("tpe", 20), ("cmaes", 12), ("cmaes", 40), ("nsga2", 20), ("nsga2", 100)]
)
def test_a_study_rebuilt_from_the_ledger_equals_the_one_that_was_lost(sampler: str, trials: int, play: Play) -> None:
    search = play(build(sampler=sampler)).run(trials, lambda config: 0.1 * config["head_depth"])
    rebuilt = play(build(sampler=sampler), search.records)
    for each in (search, rebuilt):
        each.begin()

    assert told(rebuilt.searcher.study) == told(search.searcher.study)


@pytest.mark.parametrize("sampler", ["cmaes", "nsga2"])
def test_samplers_that_keep_notes_get_them_back(sampler: str, play: Play) -> None:
    space = Space({"learning_rate": LogUniform(1e-4, 1e-2), "weight_decay": LogUniform(1e-4, 1e-1)})
    search = play(build(sampler=sampler, space=space)).run(140, lambda config: config["learning_rate"])
    rebuilt = play(build(sampler=sampler, space=space), search.records)

    generations = [
        [value for name, value in trial.system_attrs.items() if name.endswith("generation")]
        for trial in search.searcher.study.trials
    ]
    assert max(generations, default=[0]) > [0]
    assert generations == [
        [value for name, value in trial.system_attrs.items() if name.endswith("generation")]
        for trial in rebuilt.searcher.study.trials
    ]


def test_a_record_with_a_value_that_the_space_cannot_draw_keeps_the_others(make_trial: Any) -> None:
    searcher = build()
    searcher.restore(make_trial(0, accuracies=(0.5,), config={"loss": "multipositive", "head_depth": 2}))

    assert searcher.suggest("next")
    assert searcher.study.trials[0].params == {"head_depth": 2}


class TestSeveralObjectives:
    @pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
    def test_a_finished_trial_has_a_value_of_each(self, sampler: str, play: Play) -> None:
        search = play(build(objective=TWO, sampler=sampler))
        trial = search.begin()
        search.report(trial, 0.4, epoch_seconds=3.0)
        search.end(trial)

        assert [direction.name for direction in search.searcher.study.directions] == ["MAXIMIZE", "MINIMIZE"]
        assert search.searcher.study.trials[0].values == [0.4, 3.0]
        assert search.searcher.study.best_trials[0].number == 0

    def test_a_stopped_trial_is_pruned_with_its_last_values_beside_it(self, play: Play, tmp_path: Path) -> None:
        search = play(build(tmp_path / "journal", objective=TWO))
        trial = search.begin()
        search.report(trial, 0.4, epoch_seconds=3.0)
        search.end(trial, "STOPPED")

        for study in (search.searcher.study, opened(tmp_path / "journal")):
            (found,) = study.trials
            assert (found.state, found.values) == (TrialState.PRUNED, None)
            assert found.user_attrs["last_values"] == [0.4, 3.0]

    @pytest.mark.parametrize("more", [{}, {"epoch_seconds": float("inf")}])
    def test_a_trial_that_lacks_one_failed(self, more: dict[str, float], play: Play) -> None:
        search = play(build(objective=TWO))
        trial = search.begin()
        search.report(trial, 0.4, **more)
        search.end(trial)

        assert search.searcher.study.trials[0].state == TrialState.FAIL

    @pytest.mark.parametrize(("sampler", "trials"), [("tpe", 20), ("nsga2", 70)])
    def test_a_search_goes_on_and_can_be_rebuilt(self, sampler: str, trials: int, play: Play) -> None:
        search = play(build(objective=TWO, sampler=sampler))
        for number in range(trials):
            trial = search.begin()
            search.report(trial, 0.1 * trial.config["head_depth"], epoch_seconds=1.0 + number % 3)
            search.end(trial, "STOPPED" if number % 4 == 0 else "FINISHED")
        rebuilt = play(build(objective=TWO, sampler=sampler), search.records)

        assert rebuilt.begin().config == search.begin().config
        assert told(rebuilt.searcher.study) == told(search.searcher.study)

    def test_cmaes_refuses_them(self) -> None:
        with pytest.raises(ConfigError, match="one metric, but got val_accuracy, epoch_seconds"):
            build(objective=TWO, sampler="cmaes")


def test_the_command_line_names_the_samplers_that_there_are() -> None:
    assert tuple(SAMPLERS) == options.SAMPLERS


def test_an_unknown_sampler_gets_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'cmaes'"):
        build(sampler="cmae")


def test_a_sampler_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_searcher.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install cmaes"):
        build(sampler="cmaes")
    build(sampler="tpe")


class TestJournal:
    def test_shows_the_study_while_the_search_runs(self, play: Play, tmp_path: Path) -> None:
        search = play(build(tmp_path / "new" / "journal"))
        for trials in (1, 3, 8, 8):
            search.run(trials, lambda config: 0.5)
            assert told(opened(tmp_path / "new" / "journal")) == told(search.searcher.study)

    def test_shows_a_report_before_the_trial_ends(self, play: Play, tmp_path: Path) -> None:
        search = play(build(tmp_path / "journal"))
        search.report(search.begin(), 0.25)

        (found,) = opened(tmp_path / "journal").trials
        assert (found.state, found.intermediate_values) == (TrialState.RUNNING, {1: 0.25})

    def test_has_the_ledgers_times(self, make_trial: Any, tmp_path: Path) -> None:
        build(tmp_path / "journal").restore(make_trial(0, accuracies=(0.5,), config={"head_depth": 1}))

        (found,) = opened(tmp_path / "journal").trials
        assert found.datetime_start is not None
        assert found.datetime_complete is not None
        assert found.datetime_start.timestamp() == 90.0
        assert found.datetime_complete.timestamp() == 200.0

    def test_a_search_that_goes_on_has_each_trial_once(self, play: Play, tmp_path: Path) -> None:
        search = play(build(tmp_path / "journal")).run(9, lambda config: 0.5)
        for _ in range(3):
            search = play(build(tmp_path / "journal"), search.records).run(4, lambda config: 0.5)

        assert len(search.records) == 21
        assert told(opened(tmp_path / "journal")) == told(search.searcher.study)

    def test_what_the_ledger_lacks_is_gone(self, play: Play, tmp_path: Path) -> None:
        """The driver drew a trial, reported and ended one, and died before the ledger had any of it."""
        search = play(build(tmp_path / "journal")).run(5, lambda config: 0.5)
        before = play(build(), search.records)
        ahead = play(build(tmp_path / "journal"), search.records)
        ahead.end(ahead.running[0])
        ahead.begin()

        play(build(tmp_path / "journal"), search.records)
        assert len(opened(tmp_path / "journal").trials) == 5
        states = Counter(trial.state for trial in opened(tmp_path / "journal").trials)
        assert states[TrialState.RUNNING] == len(before.running) == 2

    def test_what_the_journal_lacks_is_there(self, play: Play, tmp_path: Path) -> None:
        search = play(build(tmp_path / "journal")).run(3, lambda config: 0.5)
        longer = play(build(), search.records).run(6, lambda config: 0.5)

        play(build(tmp_path / "journal"), longer.records)
        assert [trial.user_attrs["number"] for trial in opened(tmp_path / "journal").trials] == list(range(9))

    def test_draws_do_not_depend_on_it(self, play: Play, tmp_path: Path) -> None:
        search = play(build(tmp_path / "journal")).run(15, lambda config: 0.1 * config["head_depth"])
        with_journal = play(build(tmp_path / "journal"), search.records).run(2, lambda config: 0.5)
        with_empty_one = play(build(tmp_path / "other"), search.records).run(2, lambda config: 0.5)
        without = play(build(), search.records).run(2, lambda config: 0.5)

        assert with_journal.configs == with_empty_one.configs == without.configs

    @pytest.mark.parametrize("torn", [b'{"op_code":5,"trial', b"\x00\x00\x00\n", b"7\n"])
    def test_a_torn_file_is_written_anew(self, torn: bytes, play: Play, tmp_path: Path) -> None:
        search = play(build(tmp_path / "journal")).run(5, lambda config: 0.5)
        with (tmp_path / "journal").open("ab") as file:
            file.write(torn)
        search = play(build(tmp_path / "journal"), search.records).run(5, lambda config: 0.5)

        assert told(opened(tmp_path / "journal")) == told(search.searcher.study)
        assert all(json.loads(line) for line in (tmp_path / "journal").read_bytes().splitlines())

    def test_the_lock_of_a_driver_that_died_keeps_nobody_waiting(self, play: Play, tmp_path: Path) -> None:
        (tmp_path / "journal.lock").symlink_to(tmp_path / "journal")

        play(build(tmp_path / "journal")).run(2, lambda config: 0.5)
        assert len(opened(tmp_path / "journal").trials) == 2
