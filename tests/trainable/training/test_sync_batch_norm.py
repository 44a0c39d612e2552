"""The batch norm of several CPU ranks, on one; test_parity.py compares whole towers on two."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainable.training.ranks import ONE_RANK, Ranks
from trainable.training.sync_batch_norm import CpuSyncBatchNorm, synchronise_batch_norms


class TwinRanks(Ranks):
    """Two ranks with the same rows: what one has, the other has too."""

    def collect(self, values: Tensor) -> Tensor:
        return torch.cat([values, values])

    def sum(self, values: Tensor) -> Tensor:
        return 2 * values


def pass_through(norm: nn.Module, inputs: Tensor, weight: Tensor) -> list[Tensor]:
    """The output, the gradients of input and weights, and the running statistics."""
    leaf = inputs.clone(memory_format=torch.preserve_format).requires_grad_()
    output = norm(leaf)
    (output * weight).sum().backward()
    assert leaf.grad is not None
    gradients = [parameter.grad for parameter in norm.parameters() if parameter.grad is not None]
    return [output.detach(), leaf.grad, *gradients, *norm.buffers()]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}])
def test_on_one_rank_it_is_torchs_batch_norm(memory_format: torch.memory_format, options: dict[str, Any]) -> None:
    norm = nn.BatchNorm2d(3, dtype=torch.float64, **options)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    ours = CpuSyncBatchNorm(copy.deepcopy(norm), ONE_RANK)
    inputs = (3 * drawn(4, 3, 5, 5, seed=1) + 100).to(memory_format=memory_format)  # a mean far from 0

    for _ in range(2):
        expected, actual = (
            pass_through(norm, inputs, drawn(4, 3, 5, 5, seed=2)),
            pass_through(ours, inputs, drawn(4, 3, 5, 5, seed=2)),
        )
        assert len(actual) == len(expected)
        assert all(torch.allclose(a, e, rtol=1e-9) for a, e in zip(actual, expected, strict=True))
    assert actual[0].is_contiguous(memory_format=memory_format)
    assert actual[1].is_contiguous(memory_format=memory_format)
    assert torch.allclose(norm.eval()(inputs), ours.eval()(inputs))


def test_two_ranks_of_the_same_rows_are_one_with_the_rows_twice() -> None:
    whole = nn.BatchNorm1d(3, dtype=torch.float64)
    ours = CpuSyncBatchNorm(copy.deepcopy(whole), TwinRanks(0, 2))
    rows, weight = drawn(4, 3, seed=1), drawn(4, 3, seed=2)

    output, gradient, for_weight, for_bias, *buffers = pass_through(ours, rows, weight)
    expected = pass_through(whole, torch.cat([rows, rows]), torch.cat([weight, weight]))

    assert torch.allclose(output, expected[0][:4])
    assert torch.allclose(gradient, expected[1][:4])
    assert torch.allclose(2 * for_weight, expected[2])
    assert torch.allclose(2 * for_bias, expected[3])
    assert all(torch.allclose(a, e) for a, e in zip(buffers, expected[4:], strict=True))


def test_statistics_of_bf16_inputs_are_float32() -> None:
    norm = CpuSyncBatchNorm(nn.BatchNorm2d(3), ONE_RANK)
    inputs = drawn(64, 3, 8, 8, seed=0).add(7).bfloat16()

    output, gradient, *_ = pass_through(norm, inputs, drawn(64, 3, 8, 8, seed=1).float())

    mean = inputs.double().mean(dim=(0, 2, 3))
    assert torch.allclose(norm.running_mean.double(), 0.1 * mean, rtol=1e-5)
    assert (output.dtype, gradient.dtype) == (torch.bfloat16, torch.bfloat16)


def test_every_batch_norm_inside_a_model_is_replaced_and_keeps_its_weights() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.BatchNorm2d(4)).eval()
    before = dict(model.state_dict(keep_vars=True))

    synchronise_batch_norms(model, Ranks(0, 2), torch.device("cpu"))

    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert [type(part) for part in (model[1][0], model[2])] == [CpuSyncBatchNorm] * 2
    assert not model[2].training


def test_on_one_rank_nothing_is_replaced() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4))
    synchronise_batch_norms(model, ONE_RANK, torch.device("cpu"))

    assert type(model[0]) is nn.BatchNorm2d
