"""Points and warm starts in whole searches: the command, with Ray and training left out."""

from pathlib import Path

import pytest

from tests.search.bench import Bench, KilledError, kill


def write_points(folder: Path, *rates: float) -> str:
    path = folder / "good.yaml"
    path.write_text("".join(f"- learning_rate: {rate}\n" for rate in rates))
    return str(path)


def test_points_are_tried_first_and_count_as_trials(bench: Bench, tmp_path: Path) -> None:
    assert bench.run("--points", write_points(tmp_path, 0.002, 0.003)) == 0
    rates = [trial.config["learning_rate"] for trial in bench.trials]

    assert rates[:2] == [0.002, 0.003]
    assert len(set(rates)) == 6
    assert [trial.state for trial in bench.trials] == ["FINISHED"] * 6


def test_a_searcher_that_learns_is_told_of_points(bench: Bench, tmp_path: Path) -> None:
    assert bench.run("--algo", "optuna", "--points", write_points(tmp_path, 0.002, 0.003)) == 0
    assert sorted(ids_in_journal(bench.experiment)) == [trial.trial_id for trial in bench.trials]


@pytest.mark.parametrize("reports", [2, 4, 8])
def test_points_that_were_tried_are_not_tried_again(bench: Bench, tmp_path: Path, reports: int) -> None:
    points = write_points(tmp_path, 0.002, 0.003)
    assert bench.run("--points", points, name="whole") == 0
    expected = [trial.config for trial in bench.trials]
    seen = iter(range(1, 1000))
    bench.after = kill(lambda trial: next(seen) == reports)
    with pytest.raises(KilledError):
        bench.run("--points", points)
    Path(points).unlink()  # the manifest has them
    bench.after = lambda recorder, trial: None

    assert bench.resume() == 0
    assert [trial.config for trial in bench.trials] == expected


def test_a_point_outside_the_space_is_refused_before_anything_is_made(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench.run("--points", write_points(tmp_path, 0.002, 3)) == 2
    assert "entry 2: learning_rate must lie in loguniform(0.0001,0.01), but got 3" in capfd.readouterr().err
    assert not bench.experiment.exists()
    assert bench.run("--points", write_points(tmp_path, 0.001, 0.002), "--trials", "1") == 2
    assert "--trials must be at least the 2 of" in capfd.readouterr().err


@pytest.mark.parametrize("algorithm", ["optuna", "hyperopt", "asha"])
def test_a_warm_start_feeds_any_algorithm_and_again_where_the_search_goes_on(
    bench: Bench, algorithm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench.run(name="old") == 0
    old = bench.experiment
    tried = {trial.config["learning_rate"] for trial in bench.trials}
    asked = ["--algo", algorithm, "--scheduler", "asha-promote", "--warm-start", str(old), "--trials", "8"]
    assert bench.run(*asked, name="whole") == 0
    expected = [trial.config for trial in bench.trials]
    assert "warm start from old: 6 of 6 ended trials count" in capfd.readouterr().out
    seen = iter(range(1, 1000))
    bench.after = kill(lambda trial: next(seen) == 5)
    with pytest.raises(KilledError):
        bench.run(*asked)
    bench.after = lambda recorder, trial: None

    assert bench.resume() == 0
    assert [trial.config for trial in bench.trials] == expected
    assert tried.isdisjoint({trial.config["learning_rate"] for trial in bench.trials})
    if algorithm == "optuna":
        assert sorted(ids_in_journal(bench.experiment)) == sorted(
            [f"old/trial_{n:04d}" for n in range(6)] + [f"trial_{n:04d}" for n in range(8)]
        )


def ids_in_journal(experiment: Path) -> list[str]:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(experiment / "study.log")))
    (study,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=study.study_name, storage=storage).trials
    return [trial.user_attrs["trial_id"] for trial in trials]


def test_a_warm_start_whose_folder_is_gone_is_left_out_where_the_search_goes_on(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench.run(name="old") == 0
    old = bench.experiment
    bench.after = kill(lambda trial: trial.number == 2)
    with pytest.raises(KilledError):
        bench.run("--warm-start", str(old))
    bench.after = lambda recorder, trial: None
    old.rename(old.with_name("moved"))

    assert bench.resume() == 0
    assert "The search goes on without it." in capfd.readouterr().out
    assert len(bench.trials) == 6
