"""Each rung of the replay changes what its name says, and nothing else."""

import itertools
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import study_replay
from benchmarks.study_replay import ALONE, CHANGES, LADDER, SETUPS, STUDY, WITHOUT, Setup, ShuffledSampler, SomeData
from trainable.data.sampler import BalancedSampler
from trainable.data.store import Store
from trainable.model.loss import Comparison, Pairs, contrastive_loss

LABELS = np.repeat(np.arange(7), [30, 4, 30, 60, 40, 28, 64])  # 256 images, about FER-2013's shares


def differences(one: Setup, other: Setup) -> dict[str, Any]:
    left, right = asdict(one), asdict(other)
    return {key: right[key] for key in left if left[key] != right[key]}


def test_each_set_up_differs_from_its_neighbour_by_the_change_that_it_names() -> None:
    rungs = list(LADDER.items())
    end = list(LADDER.values())[-2]

    for (_, before), (name, after) in itertools.pairwise(rungs):
        assert differences(before, after) == CHANGES[name.removeprefix("+ ")]
    for name, setup in WITHOUT.items():
        assert differences(setup, end) == CHANGES[name.removeprefix("without ")]
    for name, setup in ALONE.items():
        assert differences(STUDY, setup) == CHANGES[name.removeprefix("the study with ").removesuffix(" alone")]


def test_all_but_the_last_rung_see_as_many_images() -> None:
    last = list(LADDER)[-1]
    seen = [
        setup.config(0).epoch_samples // setup.batch_size * setup.batch_size
        for name, setup in SETUPS.items()
        if name != last
    ]

    assert all(27 * 255 < count <= 27 * 256 for count in seen)
    assert SETUPS[last].config(0).epoch_samples == 4 * 27 * 256


def test_the_studys_batches_repeat_classes_and_balanced_ones_have_one_image_of_each() -> None:
    shuffled = ShuffledSampler(LABELS, 7, epoch_samples=3 * 252, seed=0)
    balanced = BalancedSampler(LABELS, 7, epoch_samples=3 * 252, seed=0)

    batches = list(shuffled.epoch(0))
    assert len(batches) == shuffled.steps == balanced.steps == 3 * 36
    for turn in range(3):
        rows = np.concatenate(batches[36 * turn : 36 * (turn + 1)])
        assert len(set(rows.tolist())) == 252
    assert np.mean([len(set(LABELS[rows])) for rows in batches]) < 5.5
    assert all(sorted(LABELS[rows]) == list(range(7)) for rows in balanced.epoch(0))
    assert [rows.tolist() for rows in batches] == [rows.tolist() for rows in shuffled.epoch(0)]


def loss_of_a_perfect_model(setup: Setup, labels: list[int]) -> float:
    """Image and text of a class are one and the same unit vector."""
    vectors = F.one_hot(torch.tensor(labels), 7).float()
    pairs = Pairs(vectors, vectors, torch.tensor(labels))
    return float(contrastive_loss(setup.loss, Comparison.within(pairs), torch.tensor(math.log(100.0))))


def test_arange_targets_punish_a_perfect_model_where_a_class_stands_twice() -> None:
    ours = ALONE["the study with multi-positive targets alone"]
    once, twice = list(range(7)), [0, 1, 2, 3, 4, 0, 0]

    assert loss_of_a_perfect_model(STUDY, twice) == pytest.approx(3 / 7 * math.log(3), abs=1e-5)
    assert loss_of_a_perfect_model(ours, twice) == pytest.approx(0, abs=1e-5)
    assert loss_of_a_perfect_model(STUDY, once) == pytest.approx(loss_of_a_perfect_model(ours, once), abs=1e-6)


def trainer_of(name: str, faces: Path) -> study_replay.StudyTrainer:
    setup = SETUPS[name]
    return study_replay.StudyTrainer(setup, SomeData(Store.open(faces), setup.images, seed=3), seed=3, seen=128)


def factor_of(trainer: study_replay.StudyTrainer) -> float:
    """What the loss multiplies similarities by."""
    tokens, mask = trainer.prompts.tokens[:, 0], trainer.prompts.mask[:, 0]
    images, _ = trainer.data.split("train").batch(np.arange(2))
    with torch.no_grad():
        return float(trainer._objective.model(images, tokens, mask)[2].exp())


def test_the_scale_is_a_factor_in_the_study_and_its_logarithm_in_ours(faces: Path) -> None:
    plain, ours = trainer_of("the study", faces), trainer_of("+ scale in log space", faces)
    for trainer in (plain, ours):
        assert trainer.optimizer.param_groups[0]["params"][0] is next(trainer.model.parameters())

    assert factor_of(plain) == pytest.approx(2.5)
    assert factor_of(ours) == pytest.approx(math.exp(2.5))
    for trainer in (plain, ours):
        trainer.model.logit_scale.data.fill_(7.0)
        trainer.model.clamp_logit_scale()
    assert factor_of(plain) == pytest.approx(7.0)
    assert factor_of(ours) == pytest.approx(100.0)


def test_rate_and_images_follow_the_set_up(faces: Path) -> None:
    study, ours = trainer_of("the study", faces), trainer_of("+ all training images", faces)

    assert {study._rate(step) for step in range(study.total_steps)} == {STUDY.learning_rate}
    rates = [trainer_of("+ warm-up and cosine", faces)._rate(step) for step in range(2)]
    assert rates[1] != rates[0]
    assert len(study.data.split("train")) == len(study.data.small) == 256  # type: ignore[attr-defined]
    assert len(ours.data.split("train")) == 280
    assert isinstance(ours.sampler, BalancedSampler)
    assert isinstance(study.sampler, ShuffledSampler)


def test_a_training_of_each_kind_measures_both_sets(faces: Path) -> None:
    for name in ("the study", "+ all training images"):
        row = study_replay.train(SETUPS[name], Store.open(faces), seed=0, seen=28 if name == "the study" else 128)

        assert row["images_seen"] in (28, 128)
        assert all(0 <= row[key] <= 1 for key in ("val_accuracy", "val_balanced_accuracy", "small_accuracy"))
        assert math.isfinite(row["train_loss"])


def test_what_stands_in_the_rows_is_not_trained_again(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[Setup, int]] = []

    def train(setup: Setup, store: Store, seed: int) -> dict[str, float]:
        trained.append((setup, seed))
        names = ("val_accuracy", "val_balanced_accuracy", "small_accuracy", "text_cosine", "predicted_classes")
        return dict.fromkeys(names, 0.25)

    monkeypatch.setattr(study_replay, "train", train)
    rows, plot = tmp_path / "rows.jsonl", tmp_path / "plot.png"
    stale = {"name": "the study", "seed": 1, "setup": asdict(STUDY) | {"batch_size": 8}}
    rows.write_text(json.dumps(stale) + "\n")
    ask = ["--data-path", str(faces), "--seeds", "0,1", "--setups", "the study", "--rows", str(rows)]

    assert study_replay.main(ask) == study_replay.main([*ask, "--plot", str(plot)]) == 0

    assert trained == [(STUDY, 0), (STUDY, 1)]
    assert "0.250 ± 0.000" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_set_up_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        study_replay.main(["--data-path", "x", "--rows", "y", "--setups", "the study; + magic"])

    assert ended.value.code == 2
    assert "'+ magic'" in capsys.readouterr().err
