"""Confirmation in whole searches: the command, with Ray and training left out."""

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search.confirm import confirmation_lines
from search.ledger import LedgerWriter, read_ledger, read_trials
from search.recorder import Recorder
from search.resume import rebuild
from search.schedulers import Decision, RunAll
from search.searchers import RandomSearcher
from search.spaces import SPACES
from search.trials import TrialRecord, best_report
from tests.search.bench import DIVERGED, Bench, KilledError, kill
from trainable.training.predictor import saved_epoch


def best_epoch(trial: TrialRecord) -> float:
    return max(report["val_accuracy"] for report in trial.reports)


def ranked(trials: list[TrialRecord]) -> list[TrialRecord]:
    return sorted(trials, key=best_epoch, reverse=True)


def test_the_best_configs_are_trained_again_with_further_seeds_and_the_best_mean_wins(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench.run("--scheduler", "asha", "--confirm", "3", "--seed", "3") == 0
    first = ranked(bench.trials)[:3]

    assert len(bench.trials) == 6
    assert {trial.state for trial in bench.trials} == {"STOPPED", "FINISHED"}  # the scheduler stops them, and only them
    assert [trial.confirms for trial in bench.further] == [trial.trial_id for trial in first for _ in range(3)]
    assert all(trial.epochs == 3 for trial in bench.further)
    for trial in first:
        configs = [further.config for further in bench.further if further.confirms == trial.trial_id]
        assert configs == [{**trial.config, "seed": seed} for seed in (4, 5, 6)]

    values = {trial.trial_id: [best_epoch(f) for f in bench.further if f.confirms == trial.trial_id] for trial in first}
    winner = max(first, key=lambda trial: statistics.fmean(values[trial.trial_id]))
    best = bench.read("best.json")
    assert winner != first[0]  # else the test says nothing
    assert (best["trial_id"], best["config"]) == (winner.trial_id, winner.config)
    assert best["metrics"]["val_accuracy"] == best["confirmation"]["chosen_by"] == best_epoch(winner)
    assert best["confirmation"]["values"] == values[winner.trial_id]
    assert best["confirmation"]["mean"] == pytest.approx(np.mean(values[winner.trial_id]))
    assert best["confirmation"]["std"] == pytest.approx(np.std(values[winner.trial_id], ddof=1))
    assert saved_epoch(bench.experiment / "best") == best["epoch"]
    assert (bench.tested, best["metrics"]["test_accuracy"]) == (1, 0.5)
    document = bench.read("confirmation.json")
    assert document["configs"][0]["trial_id"] == winner.trial_id
    assert {one["trial_id"] for one in document["configs"]} == {trial.trial_id for trial in first}
    assert "The best of 6 noisy values flatters. The best 3 configs were trained again" in capfd.readouterr().out


def test_confirmation_takes_nobodys_weights_and_leaves_none(bench: Bench) -> None:
    assert bench.run("--confirm", "3", "--keep-best", "1") == 0
    kept = {folder.name for folder in (bench.experiment / "checkpoints").iterdir()}

    assert kept == {trial.trial_id for trial in ranked(bench.trials)[:3]}


@pytest.mark.parametrize("reports", [1, 4, 7, 16, 22, 26])
def test_a_killed_driver_goes_on_where_it_was(bench: Bench, reports: int) -> None:
    assert bench.run("--confirm", "3", name="whole") == 0
    expected = read_trials(bench.experiment), bench.read("confirmation.json"), bench.read("best.json")
    seen = iter(range(1, 1000))
    bench.after = kill(lambda trial: next(seen) == reports)
    with pytest.raises(KilledError):
        bench.run("--confirm", "3")
    assert bench.state == "RUNNING"
    assert not (bench.experiment / "best.json").exists()
    bench.after, bench.tested = lambda recorder, trial: None, 0

    assert bench.resume() == 0
    told = [(t.trial_id, t.config, t.confirms, t.state, [r["val_accuracy"] for r in t.reports]) for t in expected[0]]
    now = read_trials(bench.experiment)
    assert [(t.trial_id, t.config, t.confirms, t.state, [r["val_accuracy"] for r in t.reports]) for t in now] == told
    assert (bench.read("confirmation.json"), bench.read("best.json")) == expected[1:]
    assert (bench.state, bench.tested) == ("COMPLETED", 1)


def test_a_spent_budget_ends_the_search_and_not_its_confirmation(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def spend(recorder: Recorder, trial: TrialRecord) -> None:
        if trial.number == 3:
            recorder._deadline = 0.0

    bench.after = spend
    assert bench.run("--confirm", "2") == 0
    assert len(bench.trials) == 4
    assert [trial.state for trial in bench.further] == ["FINISHED"] * 6
    assert (bench.state, bench.tested) == ("TIME_BUDGET", 1)


@pytest.mark.parametrize(("asked", "trials"), [([], 4), (["--trials", "7"], 7)])
def test_a_search_killed_while_it_confirms_goes_on_with_that_unless_more_is_asked(
    bench: Bench, asked: list[str], trials: int
) -> None:
    def spend(recorder: Recorder, trial: TrialRecord) -> None:
        if trial.number == 3 and trial.confirms is None:
            recorder._deadline = 0.0
        if trial.confirms is not None:
            raise KilledError

    bench.after = spend
    with pytest.raises(KilledError):
        bench.run("--confirm", "2")
    bench.after = lambda recorder, trial: None

    assert bench.resume(*asked) == 0
    assert len(bench.trials) == trials
    first = [trial.trial_id for trial in ranked(bench.trials)[:2]]
    assert [sum(trial.confirms == one for trial in bench.further) for one in first] == [3, 3]
    assert all(trial.ended for trial in bench.further)
    assert (bench.state, bench.tested) == ("COMPLETED", 1)


def test_ctrl_c_ends_the_confirmation_and_nothing_is_tested_before_it_is_whole(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.after = lambda recorder, trial: recorder.interrupt() if trial.confirms is not None else None
    assert bench.run("--confirm", "2") == 130
    assert (bench.state, bench.tested) == ("INTERRUPTED", 0)
    assert not (bench.experiment / "confirmation.json").exists()
    assert "not confirmed, so none is tested yet: go on with --resume" in capfd.readouterr().out
    bench.after = lambda recorder, trial: None

    assert bench.resume() == 0
    assert (bench.state, bench.tested) == ("COMPLETED", 1)
    assert len(bench.further) == 6


def test_after_ctrl_c_in_the_search_nothing_is_confirmed(bench: Bench) -> None:
    bench.after = lambda recorder, trial: recorder.interrupt() if trial.number == 2 else None
    assert bench.run("--confirm", "2") == 130
    assert bench.further == []
    assert bench.state == "INTERRUPTED"


def test_a_confirmed_search_that_goes_on_with_nothing_to_do_is_not_tested_again(bench: Bench) -> None:
    assert bench.run("--confirm", "3") == 0
    before = bench.read("best.json")
    assert bench.resume() == 0
    assert (bench.read("best.json"), bench.tested, len(bench.further)) == (before, 1, 9)


def test_more_trials_are_counted_without_the_confirming_ones_and_the_best_are_confirmed_anew(bench: Bench) -> None:
    assert bench.run("--confirm", "2") == 0
    confirmed = {trial.trial_id for trial in bench.further}
    assert bench.resume("--trials", "12") == 0

    assert len(bench.trials) == 12
    first = ranked(bench.trials)[:2]
    assert {trial.trial_id for trial in first} - {trial.confirms for trial in bench.further} == set()
    assert confirmed <= {trial.trial_id for trial in bench.further}
    assert len({trial.number for trial in read_trials(bench.experiment)}) == len(read_trials(bench.experiment))
    draws = RandomSearcher(SPACES["scratch"], 0)
    rates = [(draws.suggest("") or {})["learning_rate"] for _ in range(12)]
    assert [trial.config["learning_rate"] for trial in bench.trials] == rates


def test_trials_that_confirm_nothing_any_more_are_ended(bench: Bench) -> None:
    bench.after = lambda recorder, trial: recorder.interrupt() if trial.confirms is not None else None
    assert bench.run("--confirm", "2") == 130
    bench.after = lambda recorder, trial: None
    assert bench.resume("--confirm", "1") == 0

    assert [trial.state for trial in bench.further] == ["FINISHED"] * 3 + ["STOPPED"] * 3
    assert [trial.epochs for trial in bench.further][3:] == [0, 0, 0]
    assert len(bench.read("confirmation.json")["configs"]) == 1


def test_a_config_that_fails_with_another_seed_comes_last_and_aborts_nothing(bench: Bench) -> None:
    assert bench.run("--confirm", "3", name="whole") == 0
    winner = bench.read("best.json")["trial_id"]
    bench.fails = lambda trial: trial.confirms == winner and trial.config["seed"] == 1
    assert bench.run("--confirm", "3") == 0

    *others, last = bench.read("confirmation.json")["configs"]
    assert (last["trial_id"], last["failed"], len(last["values"])) == (winner, 1, 2)
    assert last["mean"] > max(other["mean"] for other in others)
    assert bench.read("best.json")["trial_id"] != winner
    assert bench.state == "COMPLETED"


def test_failures_of_trials_that_only_confirm_end_no_search(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger.jsonl") as ledger:
        recorder = Recorder(ledger, [], retained=lambda trial: None, trials=6)
        for number, confirms in enumerate((None, "0", "0", "0")):
            ledger.created(str(number), number, {"max_epochs": 3}, confirms=confirms)
            recorder.started(str(number), node="here", pid=1)
        for number in (1, 2, 3):
            recorder.failed(str(number), {**DIVERGED, "kind": "ValueError"})

        assert recorder.stop_state is None


def test_configs_are_confirmed_at_the_length_that_is_asked_for_now(bench: Bench) -> None:
    assert bench.run("--confirm", "1") == 0
    assert bench.resume("--max-epochs", "4") == 0

    assert [trial.epochs for trial in bench.further] == [3, 3, 3, 4, 4, 4]
    assert bench.read("best.json")["confirmation"]["values"] == [best_epoch(trial) for trial in bench.further[3:]]


def test_where_every_further_trial_fails_the_searchs_own_best_stays(bench: Bench) -> None:
    bench.fails = lambda trial: trial.confirms is not None
    assert bench.run("--confirm", "2") == 0
    best = bench.read("best.json")

    assert best["trial_id"] == ranked(bench.trials)[0].trial_id
    assert (best["confirmation"]["mean"], best["confirmation"]["failed"], bench.tested) == (None, 3, 1)


def test_rebuilding_a_search_passes_over_what_only_confirms(bench: Bench) -> None:
    assert bench.run("--confirm", "2") == 0

    heard: set[str] = set()
    restored: list[str] = []

    class Spy(RunAll):
        def on_report(self, trial_id: str, epoch: int, value: float | None) -> Decision:
            heard.add(trial_id)
            return Decision.CONTINUE

        def on_end(self, trial_id: str) -> None:
            heard.add(trial_id)

    class Told(RandomSearcher):
        def restore(self, trial: TrialRecord) -> None:
            restored.append(trial.trial_id)

    events = read_ledger(bench.experiment / "ledger.jsonl")
    trials = rebuild(events, Spy(), Told(SPACES["scratch"], 0), metric="val_accuracy")
    assert [trial.trial_id for trial in trials] == restored == [trial.trial_id for trial in bench.trials]
    assert heard == set(restored)


def test_no_ranking_knows_what_only_confirms(make_trial: Callable[..., TrialRecord]) -> None:
    import dataclasses

    better = dataclasses.replace(make_trial(1, "FINISHED", [0.9]), confirms="trial-0")
    found = best_report([make_trial(0, "FINISHED", [0.5]), better], "val_accuracy", "max")
    assert found is not None
    assert found[0].number == 0


def test_the_lines_say_mean_and_spread_in_plain_words() -> None:
    one = {
        "number": 4,
        "epoch": 7,
        "chosen_by": 0.61,
        "mean": 0.57,
        "std": 0.012,
        "values": [0.56, 0.58],
        "seeds": [1, 2, 3],
    }
    lost = {
        "number": 2,
        "epoch": 8,
        "chosen_by": 0.6,
        "mean": None,
        "std": None,
        "values": [],
        "seeds": [1, 2, 3],
        "failed": 3,
    }
    document = {"metric": "val_accuracy", "searched": 64, "configs": [{**one, "failed": 1}, lost]}

    assert confirmation_lines(document) == [
        "The best of 64 noisy values flatters. The best 2 configs were trained again to the end with 3 further seeds; "
        "val_accuracy, mean ± standard deviation:",
        "  trial 4: 0.5700 ± 0.0120 (0.5600, 0.5800; 1 of 3 failed); chosen by 0.6100 at epoch 7",
        "  trial 2: 3 of 3 failed; chosen by 0.6000 at epoch 8",
        "Trained anew, the best config, trial 4, gives 0.5700 on average.",
    ]
