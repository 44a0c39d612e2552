"""Two connected processes learn what one learns from the same global batches.

The processes run `two_ranks.py` once; each test looks at one of its functions.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainable.data.store import Store
from trainable.training.checkpoint import read_checkpoint
from trainable.training.predictor import ZeroShotPredictor
from trainable.training.report import REPORT_KEYS

pytestmark = pytest.mark.e2e

SECONDS = 280
TIMES = ("epoch_seconds", "images_per_second")

Results = Callable[[str], list[Any]]


@pytest.fixture(scope="module")
def folder(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left behind."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("two_ranks.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    logs = [(folder / f"{rank}.log").open("w") for rank in range(2)]
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(rank), "2", folder, faces], env=environment, stdout=log, stderr=log
        )
        for rank, log in enumerate(logs)
    ]
    try:
        codes = [rank.wait(SECONDS) for rank in ranks]
    finally:
        for rank, log in zip(ranks, logs, strict=True):
            rank.kill()
            log.close()
    assert codes == [0, 0], "\n".join((folder / f"{rank}.log").read_text()[-3000:] for rank in range(2))
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    """What a function of `two_ranks.py` returned on each rank."""
    return lambda function: [torch.load(folder / f"{function}-{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(
    ("function", "tolerance", "cases"),
    [
        ("steps_in_float64", 1e-9, 18),
        ("steps_in_float32", 1e-5, 6),
        ("through_sockets", 1e-9, 2),
        ("checkpointed_activations", 1e-9, 4),
        ("tower_with_unused_weights", 1e-5, 4),
    ],
)
def test_loss_and_every_gradient_are_those_of_one_rank_with_the_whole_batch(
    results: Results, function: str, tolerance: float, cases: int
) -> None:
    compared = results(function)[0]

    assert len(compared) == cases
    for result in compared:
        together, alone = result["report"], result["alone"]
        assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=tolerance), result["case"]
        assert together["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=tolerance), result["case"]
        assert together["train_accuracy"] == alone["train_accuracy"], result["case"]
        assert result["same_weights"]
        assert len(result["gradients"]) > 30
        for name, error in (result["gradients"] | result["statistics"]).items():
            assert error < tolerance, (result["case"], name, error)


def test_ranks_of_one_machine_share_memory_and_connect_once(results: Results) -> None:
    assert results("shared_memory") == 2 * [{"sum": [3.0], "exchanges": 1, "same": True}]


def test_reports_are_the_same_on_all_ranks(results: Results) -> None:
    first, second = (result["reports"][0] for result in results("resume_copied"))

    assert first == second
    assert sorted(first) == sorted(REPORT_KEYS)
    assert first["samples_seen"] == 2 * 84


def test_a_logit_scale_that_is_fixed_stays_where_it_started(results: Results) -> None:
    assert [report["logit_scale_now"] for report in results("fixed_logit_scale")] == [1.5, 1.5]


@pytest.mark.parametrize("function", ["resume_copied", "resume_sharded"])
def test_as_many_ranks_go_on_from_a_checkpoint_bit_for_bit(results: Results, function: str) -> None:
    for result in results(function):
        expected, actual = result["reports"]
        assert {k: v for k, v in expected.items() if k not in TIMES} == {
            k: v for k, v in actual.items() if k not in TIMES
        }
        before, after = result["weights"]
        assert all(torch.equal(before[name], after[name]) for name in before)
    first, second = (result["weights"][0] for result in results(function))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("function", ["resume_copied", "resume_sharded"])
def test_a_checkpoint_goes_from_two_ranks_to_one_and_back(results: Results, function: str) -> None:
    first, second = results(function)
    alone = first["one_rank"]

    assert alone["evaluation"] == pytest.approx(first["at_checkpoint"], rel=1e-5)
    for result in (first, second):
        assert result["from_one_rank"] == pytest.approx(alone["evaluation_later"], rel=1e-5)
        assert result["goes_on"]["epoch"] == 3


@pytest.mark.parametrize("function", ["resume_copied_within_an_epoch", "resume_sharded_within_an_epoch"])
def test_ranks_cut_an_epoch_at_one_step_and_go_on_bit_for_bit(results: Results, function: str) -> None:
    for result in results(function):
        assert result["cut"] == (False, 2 / 3, 2 / 3)
        expected, actual = result["reports"]
        assert {k: v for k, v in expected.items() if k not in TIMES} == {
            k: v for k, v in actual.items() if k not in TIMES
        }


@pytest.mark.parametrize("function", ["resume_copied_within_an_epoch", "resume_sharded_within_an_epoch"])
def test_one_rank_goes_on_within_an_epoch_of_two(results: Results, function: str) -> None:
    first, _ = results(function)

    for name in ("train_loss", "gradient_norm"):  # the last of three steps draws another augmentation
        assert first["one_rank"][name] == pytest.approx(first["reports"][0][name], rel=0.2), name
    assert first["one_rank"]["samples_seen"] == first["reports"][0]["samples_seen"]


def test_ranks_agree_about_once_a_second_and_stop_before_the_limit(results: Results) -> None:
    first, second = results("looks")

    assert first == second
    assert first == ([1, 3, 7, 15, 25, 35], 35)


@pytest.mark.parametrize("parallelism", ["ddp", "fsdp"])
def test_a_checkpoint_holds_whole_tensors_and_the_random_states_of_every_rank(folder: Path, parallelism: str) -> None:
    tensors, _ = read_checkpoint(folder / f"checkpoint-{parallelism}")
    alone, _ = read_checkpoint(folder / f"alone-{parallelism}")

    generators = {name for name in tensors if name.startswith("random/")}
    assert generators == {"random/template"} | {
        f"random/{r}/{name}" for r in (0, 1) for name in ("torch", "augmentation")
    }
    assert not torch.equal(tensors["random/0/augmentation"], tensors["random/1/augmentation"])
    shapes = {name: tensor.shape for name, tensor in tensors.items() if name not in generators}
    assert shapes == {name: tensor.shape for name, tensor in alone.items() if not name.startswith("random/")}


def test_a_sharded_model_is_written_whole(results: Results, folder: Path, faces: Path) -> None:
    measured = results("saved_model")[0]
    validation = Store.open(faces).split("validation")

    predictor = ZeroShotPredictor.load(folder / "model")
    hits = predictor.predict(validation.images, predictor.classes).argmax(axis=1) == validation.labels

    assert hits.mean() == pytest.approx(measured["accuracy"])


def test_a_loss_that_is_not_finite_ends_the_trial_on_every_rank(results: Results) -> None:
    first, second = results("divergence")

    assert "must stay finite, but at step 1 of epoch 1" in first
    assert first == second


def test_augmentation_differs_from_rank_to_rank_and_templates_do_not(results: Results) -> None:
    (first, first_later), (second, second_later) = results("augmentation_of_each_rank")

    assert first[:2] == first_later[:2]
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert first[2] == second[2]
    assert second_later == second
