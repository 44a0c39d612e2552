"""Batch normalisation over the global batch, on CPU ranks.

Several ranks must learn what one rank with the whole batch learns, so mean and variance are those of all ranks' rows
(arXiv 1502.03167, algorithm 1). `torch.nn.SyncBatchNorm` does it on GPUs alone; this one has its semantics: gradients
flow through the global statistics, and the running variance is the unbiased one of the global batch. The loops over
pixels are torch's fused kernels for one process, which keep channels_last.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from trainable.training.ranks import Ranks


def synchronise_batch_norms(model: nn.Module, ranks: Ranks, device: torch.device) -> None:
    """Let every batch norm inside `model` use the statistics of all ranks; its weights stay the same tensors."""
    if ranks.world_size == 1:
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, _synchronised(child, ranks, device))


def _synchronised(norm: _BatchNorm, ranks: Ranks, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    return CpuSyncBatchNorm(norm, ranks)


class CpuSyncBatchNorm(_BatchNorm):
    """A batch norm whose rows are those of all ranks, of which each must have as many."""

    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.train(norm.training)
        self._ranks = ranks

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, channels, ...) -> the same, normalised per channel."""
        if not self.training:
            return super().forward(inputs)
        mean, variance = _global_statistics(inputs, self._ranks)
        if self.track_running_stats:
            self._update_running(mean, variance, inputs.numel() // inputs.shape[1] * self._ranks.world_size)
        weight = self.weight if self.affine else torch.ones_like(mean)
        output: Tensor = _Normalise.apply(inputs, weight, self.bias, mean, variance, self.eps, self._ranks)
        return output

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)

    def _check_input_dim(self, inputs: Tensor) -> None:
        """Any number of dimensions, as torch's SyncBatchNorm takes it."""


@torch.no_grad()
def _global_statistics(inputs: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel over the rows of all ranks: (channels,), float32 also for bf16."""
    channels = inputs.shape[1]
    unused = inputs.new_zeros(channels, dtype=torch.promote_types(inputs.dtype, torch.float32))
    local = torch.batch_norm_update_stats(inputs, unused, unused.clone(), 0.0)
    means, variances = ranks.collect(torch.stack(local)[None]).unbind(dim=1)  # (ranks, channels) each
    mean = means.mean(dim=0)
    return mean, (variances + (means - mean).square()).mean(dim=0)


class _Normalise(torch.autograd.Function):
    """The output from given statistics, and the gradient that flows through these as well."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        ranks: Ranks,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, mean, variance)
        ctx.eps, ctx.ranks = eps, ranks
        return F.batch_norm(inputs, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """dx = γ/σ (dy − mean(dy) − x̂ mean(dy x̂)), with x̂ = (x − μ)/σ and means over the rows of all ranks."""
        inputs, weight, mean, variance = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        _, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, inputs, weight, mean, variance, mean, scale, False, ctx.eps, [False, True, True]
        )  # the sums of dy x̂ and of dy over this rank's rows
        rows = inputs.numel() // inputs.shape[1] * ctx.ranks.world_size
        product_mean, gradient_mean = ctx.ranks.sum(torch.stack([for_weight, for_bias])) / rows
        slope = -scale * product_mean
        factor, offset = weight * scale, -slope * mean - gradient_mean
        for_inputs = _affine(gradient, factor, factor * offset)
        per_channel = (factor * slope).to(inputs.dtype).view(-1, *[1] * (inputs.ndim - 2))
        for_inputs.addcmul_(inputs, per_channel)
        return for_inputs, for_weight, for_bias if ctx.needs_input_grad[2] else None, None, None, None, None


def _affine(values: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """factor · values + offset per channel, in one pass."""
    return F.batch_norm(values, torch.zeros_like(factor), torch.ones_like(factor), factor, offset, eps=0.0)
