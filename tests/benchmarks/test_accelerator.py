"""The accelerator benchmark: its arithmetic, its search for a batch, and one run of all of it on a CPU."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, ByT5Tokenizer, ViTConfig

from benchmarks import accelerator
from benchmarks.accelerator import CLASSES, Case, Run, best_run, find_device, main, peak_flops, step_flops, written
from trainable.config import TrialConfig
from trainable.data.vocabulary import prompts
from trainable.errors import ResourceError
from trainable.model import tower_options

CPU = torch.device("cpu")
RUN = Run(
    case="x",
    compiled=False,
    batch=0,
    images_per_second=0.0,
    step_seconds=1.0,
    start_seconds=1.0,
    next_start_seconds=1.0,
    peak_memory_bytes=None,
)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", None),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", None),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("Tesla V100-SXM2-16GB", None),
        ("CPU", None),
    ],
)
def test_the_peak_is_that_of_the_device_or_none(name: str, teraflops: float | None) -> None:
    assert peak_flops(name) == (None if teraflops is None else teraflops * 1e12)


def linear(rows: int, inputs: int, outputs: int) -> int:
    """A matrix product in the forward pass, and two in the backward pass."""
    return 3 * 2 * rows * inputs * outputs


def layers(rows: int, tokens: int, width: int, inner: int, count: int) -> int:
    """A transformer's layers: four projections, scores and mixtures of each with each, two layers inside."""
    projections = 4 * linear(rows * tokens, width, width)
    attention = rows * 2 * linear(tokens, width, tokens)
    return count * (projections + attention + 2 * linear(rows * tokens, width, inner))


@pytest.mark.parametrize("batch", [8, 11, 40])
def test_flops_are_those_of_every_matrix_product(batch: int, tmp_path: Path) -> None:
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    vision = ViTConfig(image_size=24, patch_size=8, num_channels=3, **size)
    language = BertConfig(vocab_size=len(ByT5Tokenizer()), **size)
    config = TrialConfig(
        image_tower=written(tmp_path / "vision", vision),
        text_tower=written(tmp_path / "language", language),
        embedding_dim=8,
    )
    case = Case(name="x", config=config, image_size=24, channels=3, first_batch=8)
    length = max(len(text.encode()) + 1 for row in prompts(CLASSES, "en") for text in row)  # bytes and an end mark
    patches = 2 * linear(batch * 9, 3 * 8 * 8, 16) // 3  # pixels need no gradient
    images = patches + layers(batch, 10, 16, 40, 2) + linear(batch, 16, 8)
    texts = layers(len(CLASSES), length, 16, 40, 2) + linear(len(CLASSES), 16, 8)

    loss = 2 * linear(batch, 8, batch) + linear(batch, 8, batch) // 3  # both ways, and the hits without gradient

    assert step_flops(case, CPU)(batch) == images + texts + loss


def rates(values: dict[int, float | None]) -> Callable[[int], Run]:
    """Stands for measuring a batch; memory ends at a rate of None."""

    def measure(batch: int) -> Run:
        rate = values[batch]
        if rate is None:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return replace(RUN, batch=batch, images_per_second=rate)

    return measure


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ({8: 100, 16: 150, 32: 151, 64: 999}, 32),
        ({8: 100, 16: 150, 32: 140, 64: 999}, 16),
        ({8: 100, 16: 150, 32: None}, 16),
        ({8: 100, 16: 150, 32: 200, 64: 300}, 64),
        ({8: None}, None),
    ],
)
def test_the_batch_doubles_while_it_pays(values: dict[int, float | None], best: int | None) -> None:
    found = best_run(rates(values), 8, 64)
    assert (found and found.batch) == best


def test_another_error_than_want_of_memory_is_not_hidden() -> None:
    def broken(batch: int) -> Run:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        best_run(broken, 8, 64)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_an_accelerator_it_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "must have an NVIDIA GPU, but torch sees none here, so nothing was measured" in printed.err


def test_a_gpu_without_bf16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100-SXM2-16GB")
    monkeypatch.setattr(accelerator, "has_native_bf16", lambda device: False)
    with pytest.raises(ResourceError, match="bf16 arithmetic, Ampere or later, but Tesla V100-SXM2-16GB has none"):
        find_device("cuda")


@pytest.mark.e2e
def test_it_runs_on_a_cpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))  # no C++ compiler
    monkeypatch.setattr(tower_options, "require_compiler", lambda device: None)
    monkeypatch.setattr(accelerator, "REPEATS", 1)

    assert main(["--device", "cpu"]) == 0

    lines = capsys.readouterr().out.strip().splitlines()
    answer = json.loads(lines[-1])
    assert [run["compiled"] for run in answer["runs"]] == [False, True, False, True]
    assert all(run["images_per_second"] > 0 and run["flops_per_step"] > 0 for run in answer["runs"])
    assert all(run["utilisation"] is None and run["peak_memory_bytes"] is None for run in answer["runs"])
    assert lines[-2] == "No MFU: the peak bf16 rate of CPU is not among those known here."
    assert {"torch", "nccl", "cuda"} <= answer["versions"].keys()
    assert not torch.distributed.is_initialized()
