import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.dimensions import Choice, Fixed, LogUniform
from search.ledger import LedgerWriter
from search.spaces import Space
from search.trials import Inherited
from search.warm_start import Asked, learn, read_earlier
from tests.s3_server import Proxy
from trainable.config import TrialConfig
from trainable.data.unseen import UnseenClasses
from trainable.errors import ConfigError, ExperimentError
from trainable.storage.storage import NoBucketError, open_storage

SPACE = Space({"learning_rate": LogUniform(1e-4, 1e-2), "embedding_dim": Choice((8, 16)), "max_epochs": Fixed(4)})
ASKED = Asked(space=SPACE, max_epochs=4, seed=1, dataset="synthetic", content_hash="abc", learns=True)


def leave(storage: Path, name: str = "old", rates: tuple[float, ...] = (1e-3, 2e-3), **manifest: Any) -> str:
    """An earlier experiment: a trial that finished for each rate, then one that runs still."""
    document = {
        "metric": "val_accuracy",
        "mode": "max",
        "max_epochs": 4,
        "space": {"learning_rate": "loguniform(0.0001,0.01)", "embedding_dim": "choice(8,16)"},
        "fixed": {"max_epochs": 4},
        "dataset": {"name": "synthetic", "content_hash": "abc"},
        **manifest,
    }
    folder = storage / name
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(json.dumps(document))
    with LedgerWriter(folder / "ledger.jsonl") as ledger:
        for number, rate in enumerate((*rates, 5e-3)):
            ledger.created(f"trial_{number:04d}", number, config_of(learning_rate=rate))
            ledger.report(f"trial_{number:04d}", {"epoch": 1, "val_accuracy": rate})
        for number in range(len(rates)):
            ledger.ended(f"trial_{number:04d}", "STOPPED")
    return str(folder)


def config_of(**values: Any) -> dict[str, Any]:
    return TrialConfig(**{"embedding_dim": 16, "max_epochs": 4, **values}).to_dict()


def read(*folders: str) -> Any:
    earlier, gone = read_earlier(folders, "val_accuracy", "max", resumed=False)
    assert gone == []
    return earlier


def test_ended_trials_come_under_their_experiments_name_before_the_searchs_own(tmp_path: Path) -> None:
    trials, lines = learn(read(leave(tmp_path), leave(tmp_path, "older", (3e-3,))), ASKED)

    assert [trial.trial_id for trial in trials] == ["old/trial_0000", "old/trial_0001", "older/trial_0000"]
    assert [trial.number for trial in trials] == [-3, -2, -1]
    assert [trial.reports[0]["val_accuracy"] for trial in trials] == [1e-3, 2e-3, 3e-3]
    assert lines == [
        "warm start from old: 2 of 2 ended trials count",
        "warm start from older: 1 of 1 ended trials count",
    ]


def test_an_experiment_in_a_bucket_teaches_the_same(tmp_path: Path, s3: Proxy) -> None:
    folder = Path(leave(tmp_path))
    storage = open_storage("s3://glance/results")
    for path in folder.iterdir():
        storage.put_file(f"old/{path.name}", path)
    storage.put("old/checkpoints/trial_0000/state.json", b"{}")
    s3.passed.clear()

    assert read("s3://glance/results/old/") == read(str(folder))
    assert not any("checkpoints" in path for _, path in s3.passed)


def test_an_experiment_that_a_bucket_does_not_have_is_told(s3: Proxy) -> None:
    place = "s3://glance/results/nothing"
    with pytest.raises(ExperimentError, match=f"--warm-start: an experiment must have an experiment.json, but {place}"):
        read(place)
    with pytest.raises(NoBucketError, match=r"--warm-start: .* there is no 'nosuchbucket'"):
        read("s3://nosuchbucket/results/old")

    earlier, gone = read_earlier([place, "s3://nosuchbucket/old"], "val_accuracy", "max", resumed=True)
    assert earlier == []
    assert all(line.endswith("The search goes on without it.") for line in gone)
    assert len(gone) == 2


def test_trials_that_only_confirm_others_teach_nothing(tmp_path: Path) -> None:
    folder = leave(tmp_path)
    with LedgerWriter(Path(folder) / "ledger.jsonl") as ledger:
        ledger.created("trial_0003", 3, config_of(learning_rate=1e-3, seed=9), confirms="trial_0000")
        ledger.ended("trial_0003", "FINISHED")

    assert len(learn(read(folder), ASKED)[0]) == 2


def test_a_trial_that_went_on_as_another_teaches_nothing(tmp_path: Path) -> None:
    folder = leave(tmp_path)
    with LedgerWriter(Path(folder) / "ledger.jsonl") as ledger:
        ledger.inherited("trial_0001", Inherited(source="trial_0000", epoch=1, config=config_of()))
    trials, _ = learn(read(folder), ASKED)

    assert [trial.trial_id for trial in trials] == ["old/trial_0000"]


def test_each_difference_is_a_line_and_what_lies_outside_is_counted(tmp_path: Path) -> None:
    folder = leave(
        tmp_path,
        rates=(1e-3, 5e-2),
        max_epochs=8,
        space={"learning_rate": "loguniform(0.0001,0.1)", "embedding_dim": "choice(8,16)"},
        fixed={"max_epochs": 8, "head_depth": 2},
        dataset={"name": "synthetic", "content_hash": "def"},
    )
    trials, lines = learn(read(folder), ASKED)

    assert [trial.trial_id for trial in trials] == ["old/trial_0000"]
    assert lines == [
        "warm start from old: max_epochs was 8, and is 4 now",
        "warm start from old: the images' hash was def, and is abc now",
        "warm start from old: learning_rate was loguniform(0.0001,0.1), and is loguniform(0.0001,0.01) now",
        "warm start from old: head_depth was 2, and is 1 now",
        "warm start from old: 1 of 2 ended trials count, 1 lie outside the space and are passed over",
    ]


def test_another_data_set_is_told_and_taken(tmp_path: Path) -> None:
    folder = leave(tmp_path, dataset={"name": "fer2013", "content_hash": "def"})
    trials, lines = learn(read(folder), ASKED)

    assert len(trials) == 2
    assert lines[0] == "warm start from old: the data set was fer2013, and is synthetic now"
    assert "hash" not in "".join(lines)


@pytest.mark.parametrize(
    ("config", "taken"),
    [
        ({}, 1),
        ({"seed": 5}, 1),  # chance, no hyperparameter
        ({"max_epochs": 9}, 1),
        ({"head_depth": 3}, 0),  # no dimension here, and not what every trial has
        ({"embedding_dim": 32}, 0),
    ],
)
def test_a_trial_counts_where_the_space_could_have_drawn_it(tmp_path: Path, config: dict[str, Any], taken: int) -> None:
    folder = leave(tmp_path, rates=())
    with LedgerWriter(Path(folder) / "ledger.jsonl") as ledger:
        ledger.created("x", 1, config_of(**{"learning_rate": 1e-3, **config}))
        ledger.ended("x", "FINISHED")

    assert len(learn(read(folder), ASKED)[0]) == taken


def test_random_draws_learn_nothing_and_that_is_said(tmp_path: Path) -> None:
    lines = learn(read(leave(tmp_path)), dataclasses.replace(ASKED, learns=False))[1]
    assert lines[-1] == "warm start: random draws learn nothing, and only pass over the configs that were tried"
    assert learn([], dataclasses.replace(ASKED, learns=False))[1] == []


@pytest.mark.parametrize("manifest", [{"metric": "val_loss", "mode": "min"}, {"mode": "min"}])
def test_another_metric_or_mode_is_refused(tmp_path: Path, manifest: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"ranked their trials by val_accuracy \(max\).*old went by .* \(min\)"):
        read(leave(tmp_path, **manifest))


def test_two_experiments_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of different names, but got old more than once"):
        read(leave(tmp_path / "a"), leave(tmp_path / "b"))


def test_a_folder_that_is_gone_is_refused_at_first_and_only_told_later(tmp_path: Path) -> None:
    absent, there = str(tmp_path / "absent"), leave(tmp_path)
    with pytest.raises(ExperimentError, match="--warm-start: an experiment folder must hold a readable experiment"):
        read(absent, there)
    earlier, gone = read_earlier([absent, there], "val_accuracy", "max", resumed=True)

    assert [one.name for one in earlier] == ["old"]
    assert len(gone) == 1
    assert gone[0].endswith("The search goes on without it.")


def test_other_unseen_classes_are_told(tmp_path: Path) -> None:
    unseen = {"validation": ["fear"], "test": ["sad"]}
    dataset = {"name": "synthetic", "content_hash": "abc", "unseen": unseen}
    earlier, _ = read_earlier([leave(tmp_path, dataset=dataset)], "val_accuracy", "max", resumed=False)

    _, lines = learn(earlier, ASKED)
    assert any("--unseen was fear:sad, and is none now" in line for line in lines)
    _, lines = learn(earlier, replace(ASKED, unseen=UnseenClasses.from_dict(unseen)))
    assert not any("--unseen" in line for line in lines)
