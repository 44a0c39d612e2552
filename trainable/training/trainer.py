"""The training core: one trial from its config to its reports."""

import math
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainable.config import TrialConfig
from trainable.data.augmentation import augment, mix
from trainable.data.sampler import BalancedSampler
from trainable.data.vocabulary import prompts
from trainable.errors import CheckpointError, ConfigError, DivergedError
from trainable.model.blocks import rate_factors
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.model.tower_options import apply_tower_options
from trainable.training.checkpoint import load_optimizer, optimizer_tensors, read_checkpoint, write_checkpoint
from trainable.training.device_data import DeviceData
from trainable.training.epoch_part import EpochPart
from trainable.training.objective import Batch, Objective
from trainable.training.parallel import distribute, held_like, whole, whole_tensors
from trainable.training.predictor import save_model
from trainable.training.random_states import RandomStates
from trainable.training.ranks import ONE_RANK, Ranks
from trainable.training.report import prefixed
from trainable.training.schedule import learning_rate
from trainable.training.zero_shot import PromptTokens, metrics_of, tell_images, zero_shot_classifier

ADAM_BETAS = (0.9, 0.98)
"""CLIP's for its ViT (arXiv 2103.00020, table 19)."""
CHANGEABLE = ("learning_rate", "weight_decay", "augmentation", "seed")
"""What may be another from one epoch to the next: neither the model nor the number of steps depends on it, and the
optimizer reads it anew at each step."""


@dataclass
class TrainState:
    """Everything that counts up while a trial trains."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Optimiser steps done."""
    samples_seen: int = 0
    """Training images seen, repeats included."""


class Trainer:
    """Trains and evaluates the model of one config; every random draw follows from the config's seed.

    With several ranks each has a trainer of its own, and all must call the same methods in the same order. What they
    return is equal on all of them, and rank 0 alone writes files.
    """

    def __init__(self, config: TrialConfig, data: DeviceData, ranks: Ranks = ONE_RANK) -> None:
        """Build the model; raises `ConfigError` where the config cannot be trained on these ranks."""
        self.config = config
        self.data = data
        self.ranks = ranks
        self.device = data.device
        self.state = TrainState()
        self._part = EpochPart.none(data.device)
        self._validation_seconds = 0.0
        batch_size = config.rows_per_worker(ranks.world_size)
        _require_votes(config, data)
        mean, std = data.pixel_statistics
        self.model = build_dual_encoder(
            config, image_size=data.image_size, channels=data.channels, mean=mean, std=std, classes=len(data.classes)
        )
        apply_tower_options(self.model, config, self.device)
        replica = distribute(self.model, config, ranks, self.device)
        self.prompts = PromptTokens.of(self.model, prompts(data.classes, config.language), self.device)
        self._of_groups: dict[str, PromptTokens] = {}
        self.optimizer = build_optimizer(self.model, config)
        self.sampler = BalancedSampler(
            data.split("train").labels.cpu().numpy(),
            batch_size,
            epoch_samples=config.epoch_samples,
            seed=config.seed,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
        self.total_steps = self.sampler.steps * config.max_epochs
        self.warmup_steps = round(config.warmup_fraction * self.total_steps)
        self._objective = Objective(replica, config.loss, ranks, self._autocast, config.accumulation)
        self.random = RandomStates(config.seed, self.device, ranks)

    @property
    def epochs_done(self) -> float:
        """Epochs done, and what is done of the next one as a fraction."""
        return self.state.epoch + self._part.steps / self.sampler.steps

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch to its end, evaluate on validation, and return the report (`trainable.training.report`)."""
        start = time.perf_counter() - self._part.seconds
        trained = self.train_epoch()
        before = time.perf_counter()
        validation = self.evaluate("validation")
        self._validation_seconds = time.perf_counter() - before
        return {
            "epoch": self.state.epoch,
            "samples_seen": self.state.samples_seen,
            "epoch_seconds": self._mean_over_ranks(time.perf_counter() - start),
            **trained,
            **prefixed("val", validation),
            "predicted_classes": validation["predicted_classes"],
        }

    def train_epoch(self) -> dict[str, float]:
        """The sampler's epoch to its end, and what it came to, a part that is done included; as `advance` raises."""
        self.advance()
        part, self._part = self._part, EpochPart.none(self.device)
        self.state.epoch += 1
        loss_sum, hit_sum = self.ranks.sum(part.sums).tolist()
        samples = self.sampler.steps * self.config.batch_size
        return {
            "images_per_second": samples / self._mean_over_ranks(part.seconds),
            "train_loss": loss_sum / (self.sampler.steps * self.ranks.world_size),
            "train_accuracy": hit_sum / samples,
            "learning_rate_now": self._rate(self.state.step - 1),
            "logit_scale_now": float(whole(self.model.logit_scale.detach())),
            "gradient_norm": part.norm_sum / self.sampler.steps,
        }

    def advance(self, is_over: Callable[[float], bool] = lambda ahead_seconds: False) -> bool:
        """Go on in the epoch, to its last step or to where `is_over` says so; returns whether it did not.

        After each step `is_over` gets the seconds of what cannot be cut: 0, or after the last step the validation's.
        Raises `DivergedError` at the first loss or gradient that is not finite.
        """
        self.model.train()
        part, start = self._part, time.perf_counter() - self._part.seconds
        for indices in islice(self.sampler.epoch(self.state.epoch), part.steps, None):
            self.optimizer.zero_grad(set_to_none=True)
            loss, hits = self._objective.backward(self._batch(indices))
            norm = self._step(loss)
            part.add(loss, hits, norm)
            part.seconds = time.perf_counter() - start
            self.state.samples_seen += self.config.batch_size
            if is_over(self._validation_seconds if part.steps == self.sampler.steps else 0.0):
                return False
        return True

    def evaluate(self, split: str) -> dict[str, float]:
        """Zero-shot metrics of a split over the seen classes, and over its group of unseen ones: see `metrics_of`."""
        self.model.eval()
        with self._autocast():
            classifier = zero_shot_classifier(self.model, self._candidates(split))
            images, seen = self.data.split(split), len(self.data.classes)
            return metrics_of(tell_images(self.model, images, classifier, seen=seen, ranks=self.ranks))

    def save(self, folder: Path) -> None:
        """Write the whole state: weights, optimizer, counters, the part of an epoch, the random states of all ranks."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= optimizer_tensors(self.model, self.optimizer)
        tensors = whole_tensors(tensors, self.ranks) | self.random.tensors() | self._part.tensors(self.ranks)
        state = {
            "counters": asdict(self.state),
            "part": self._part.counters(),
            "config": self.config.to_dict(),
            "device": self.device.type,
        }
        if self.ranks.rank == 0:
            write_checkpoint(folder, tensors, state)

    def save_model(self, folder: Path) -> None:
        """Write what `ZeroShotPredictor` reads: weights, config, and what the towers need."""
        save_model(folder, self.model, self.config, self.data, epoch=self.state.epoch, ranks=self.ranks)

    def load(self, folder: Path, *, inherited: bool = False) -> None:
        """Go on from a checkpoint of the same config, bit for bit on as many CPU ranks. Raises `CheckpointError`.

        One that is `inherited` from another trial may differ in `CHANGEABLE`; its moments and random states go on too.
        Random states that it does not have, for more ranks or another kind of device, start anew from the seed and the
        epoch.
        """
        tensors, state = read_checkpoint(folder)
        self._check_same_config(state["config"], folder, but=CHANGEABLE if inherited else ())
        held = self.model.state_dict().items()
        self.model.load_state_dict({name: held_like(tensor, tensors[f"model/{name}"]) for name, tensor in held})
        load_optimizer(self.model, self.optimizer, tensors)
        self.state = TrainState(**state["counters"])
        self._part = EpochPart.restored(tensors, state.get("part"), self.ranks, self.device)
        self.random.restore(tensors, epoch=self.state.epoch, same_device=state["device"] == self.device.type)

    def _candidates(self, split: str) -> PromptTokens:
        """The prompts of all classes that a split is measured with."""
        group = self.data.unseen.of(split)
        if group and split not in self._of_groups:
            rows = prompts((*self.data.classes, *group), self.config.language)
            self._of_groups[split] = PromptTokens.of(self.model, rows, self.device)
        return self._of_groups.get(split, self.prompts)

    def _batch(self, indices: np.ndarray) -> Batch:
        """The augmented images at `indices`, and one random template for each class, the same on all ranks."""
        images, labels = self.data.split("train").batch(indices)
        C, P, _ = self.prompts.tokens.shape
        template = torch.randint(P, (C,), generator=self.random.template)
        images = augment(images, self.config.augmentation, self.random.augmentation)
        shares = self.data.split("train").shares_of(indices) if self.config.soft_targets else None
        if self.config.mixing:
            own = F.one_hot(labels, C).float() if shares is None else shares  # (B, C)
            images, shares = mix(images, own, self.config.mixing, self.random.augmentation)
        return Batch(
            images,
            labels,
            self.prompts.tokens[range(C), template],
            self.prompts.mask[range(C), template],
            shares,
        )

    def _step(self, loss: Tensor) -> float:
        """One optimiser step; returns the gradient's norm before clipping."""
        rate = self._rate(self.state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        limit = self.config.gradient_clip or math.inf
        norm = float(whole(nn.utils.clip_grad_norm_(self.model.parameters(), limit)))
        if not math.isfinite(norm):
            mean_loss = self._mean_over_ranks(loss.item())
            raise DivergedError(
                f"the loss and its gradient must stay finite, but at step {self.state.step} of epoch "
                f"{self.state.epoch + 1} the loss is {mean_loss:.4g} and the gradient norm {norm:.4g}; lower "
                f"learning_rate ({self.config.learning_rate:.3g}) or gradient_clip ({self.config.gradient_clip:.3g})."
            )
        self.optimizer.step()
        self.model.clamp_logit_scale()
        self.state.step += 1
        return norm

    def _rate(self, step: int) -> float:
        return learning_rate(step, self.total_steps, peak=self.config.learning_rate, warmup_steps=self.warmup_steps)

    def _autocast(self) -> AbstractContextManager[object]:
        enabled = self.config.precision == "bf16" or (self.config.precision == "auto" and has_native_bf16(self.device))
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _mean_over_ranks(self, value: float) -> float:
        return (
            float(self.ranks.sum(torch.tensor(value, dtype=torch.float64, device=self.device))) / self.ranks.world_size
        )

    def _check_same_config(self, saved: dict[str, object], folder: Path, *, but: Collection[str]) -> None:
        for field in fields(TrialConfig):
            ours, theirs = getattr(self.config, field.name), saved.get(field.name)
            if ours != theirs and field.name not in but:
                raise CheckpointError(
                    f"a trial must go on with its own config, but the checkpoint in {folder} has "
                    f"{field.name}={theirs!r} and this config {ours!r}; start it anew or use the checkpoint's config."
                )


def _require_votes(config: TrialConfig, data: DeviceData) -> None:
    if config.soft_targets and data.split("train").shares is None:
        raise ConfigError(
            "soft_targets must go with data that people voted on, such as ferplus, but "
            f"{data.store.manifest.dataset} has no votes; use soft_targets=false."
        )


def build_optimizer(model: DualEncoder, config: TrialConfig) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) with weight decay on matrices and kernels alone: not on biases, norms, logit scale.

    Each group's `factor` is its share of the scheduled learning rate. Weights that are frozen are in none.
    """
    towers = (
        (model.image_tower.backbone, config.image_tower, config.image_learning_rate_factor),
        (model.text_tower.backbone, config.text_tower, config.text_learning_rate_factor),
    )
    factors = {
        weight: factor for tower in towers for weight, factor in rate_factors(*tower, layer_decay=config.layer_decay)
    }
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    for weight in model.parameters():
        if weight.requires_grad:
            key = (factors.get(weight, 1.0), config.weight_decay if weight.ndim > 1 else 0.0)
            grouped.setdefault(key, []).append(weight)
    groups = [{"params": g, "factor": factor, "weight_decay": decay} for (factor, decay), g in grouped.items()]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=ADAM_BETAS, fused=True)


def has_native_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is done by the hardware: Ampere and later GPUs, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
