"""The training core: one trial from its config to its reports."""

import math
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainable.config import TrialConfig
from trainable.data.augmentation import augment
from trainable.data.sampler import BalancedSampler
from trainable.data.vocabulary import prompts
from trainable.errors import CheckpointError, DivergedError
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.model.loss import contrastive_loss
from trainable.training.checkpoint import load_optimizer, optimizer_tensors, read_checkpoint, write_checkpoint
from trainable.training.device_data import DeviceData
from trainable.training.schedule import learning_rate
from trainable.training.zero_shot import PromptTokens, confusion_matrix, metrics_of, zero_shot_classifier

ADAM_BETAS = (0.9, 0.98)
"""CLIP's for its ViT (arXiv 2103.00020, table 19)."""
DEVICE_GENERATORS = ("augmentation", "cuda")
"""Random generators whose state fits one kind of device alone."""


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
    """Trains and evaluates the model of one config; every random draw follows from the config's seed."""

    def __init__(self, config: TrialConfig, data: DeviceData) -> None:
        self.config = config
        self.data = data
        self.device = data.device
        self.state = TrainState()
        torch.manual_seed(config.seed)
        mean, std = data.pixel_statistics
        self.model = build_dual_encoder(
            config, image_size=data.image_size, channels=data.channels, mean=mean, std=std, classes=len(data.classes)
        )
        self.model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prompts = PromptTokens.of(self.model, prompts(data.classes, config.language), self.device)
        self.optimizer = build_optimizer(self.model, config)
        self.sampler = BalancedSampler(
            data.split("train").labels.cpu().numpy(),
            config.batch_size,
            epoch_samples=config.epoch_samples,
            seed=config.seed,
        )
        self.total_steps = self.sampler.steps * config.max_epochs
        self.warmup_steps = round(config.warmup_fraction * self.total_steps)
        self._template_generator = torch.Generator().manual_seed(config.seed)
        self._augmentation_generator = torch.Generator(self.device).manual_seed(config.seed)

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch, evaluate on validation, and return the report: the keys of `REPORT_KEYS`."""
        start = time.perf_counter()
        trained = self.train_epoch()
        validation = self.evaluate("validation")
        return {
            "epoch": self.state.epoch,
            "samples_seen": self.state.samples_seen,
            "epoch_seconds": time.perf_counter() - start,
            **trained,
            "val_loss": validation["loss"],
            "val_accuracy": validation["accuracy"],
            "val_balanced_accuracy": validation["balanced_accuracy"],
            "predicted_classes": validation["predicted_classes"],
        }

    def train_epoch(self) -> dict[str, float]:
        """One pass of the sampler's epoch. Raises `DivergedError` at the first loss or gradient that is not finite."""
        self.model.train()
        start, seen_before = time.perf_counter(), self.state.samples_seen
        loss_sum = torch.zeros((), device=self.device)
        hits = torch.zeros((), device=self.device)
        norm_sum = 0.0
        for indices in self.sampler.epoch(self.state.epoch):
            images, labels = self.data.split("train").batch(indices)
            loss, correct = self._forward(images, labels)
            norm_sum += self._step(loss)
            loss_sum += loss.detach()
            hits += correct
            self.state.samples_seen += len(labels)
        self.state.epoch += 1
        samples = self.state.samples_seen - seen_before
        return {
            "images_per_second": samples / (time.perf_counter() - start),
            "train_loss": float(loss_sum) / self.sampler.steps,
            "train_accuracy": float(hits) / samples,
            "learning_rate_now": self._rate(self.state.step - 1),
            "logit_scale_now": float(self.model.logit_scale.detach()),
            "gradient_norm": norm_sum / self.sampler.steps,
        }

    def evaluate(self, split: str) -> dict[str, float]:
        """Zero-shot metrics over the training classes: accuracy, balanced_accuracy, loss, predicted_classes."""
        self.model.eval()
        with self._autocast():
            classifier = zero_shot_classifier(self.model, self.prompts)
            return metrics_of(*confusion_matrix(self.model, self.data.split(split), classifier))

    def save(self, folder: Path) -> None:
        """Write the whole state: weights, optimizer, counters, random states."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= optimizer_tensors(self.model, self.optimizer)
        tensors |= {f"random/{name}": generator.get_state() for name, generator in self._generators().items()}
        state = {"counters": asdict(self.state), "config": self.config.to_dict(), "device": self.device.type}
        write_checkpoint(folder, tensors, state)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint of the same config, bit for bit on a CPU. Raises `CheckpointError`.

        A checkpoint of another kind of device has no random states for this one: those that live on the device then
        start anew from the seed and the epoch.
        """
        tensors, state = read_checkpoint(folder)
        self._check_same_config(state["config"], folder)
        weights = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
        self.model.load_state_dict(weights)
        load_optimizer(self.model, self.optimizer, tensors)
        self.state = TrainState(**state["counters"])
        same_device = state["device"] == self.device.type
        for name, generator in self._generators().items():
            if same_device or name not in DEVICE_GENERATORS:
                generator.set_state(tensors[f"random/{name}"])
            else:
                seeds = np.random.SeedSequence((self.config.seed, self.state.epoch))
                generator.manual_seed(int(seeds.generate_state(1)[0]))

    def _forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The contrastive loss of a batch, and how many images lie nearest to their own label."""
        images = augment(images, self.config.augmentation, self._augmentation_generator)
        present, position = labels.unique(return_inverse=True)  # each distinct prompt is encoded once
        tokens, mask = self._draw_prompts(present)
        with self._autocast():
            features = self.model.encode_images(images)  # (B, D)
            texts = self.model.encode_texts(tokens, mask)  # (present classes, D)
        loss = contrastive_loss(
            self.config.loss, features, texts[position], labels, self.model.logit_scale, self.model.logit_bias
        )
        correct = ((features.detach() @ texts.detach().T).argmax(dim=1) == position).sum()
        return loss, correct

    def _draw_prompts(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """One random template for each class of a batch: token ids and mask (classes, L)."""
        P = self.prompts.tokens.shape[1]
        template = torch.randint(P, (len(classes),), generator=self._template_generator).to(self.device)
        return self.prompts.tokens[classes, template], self.prompts.mask[classes, template]

    def _step(self, loss: Tensor) -> float:
        """One optimiser step; returns the gradient's norm before clipping."""
        rate = self._rate(self.state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self.config.gradient_clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        if not math.isfinite(norm):
            raise DivergedError(
                f"the loss and its gradient must stay finite, but at step {self.state.step} of epoch "
                f"{self.state.epoch + 1} the loss is {loss.item():.4g} and the gradient norm {norm:.4g}; lower "
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

    def _generators(self) -> dict[str, torch.Generator]:
        default = torch.cuda.default_generators[self.device.index or 0] if self.device.type == "cuda" else None
        return {
            "torch": torch.default_generator,
            "template": self._template_generator,
            "augmentation": self._augmentation_generator,
            **({"cuda": default} if default is not None else {}),
        }

    def _check_same_config(self, saved: dict[str, object], folder: Path) -> None:
        for field in fields(TrialConfig):
            ours, theirs = getattr(self.config, field.name), saved.get(field.name)
            if ours != theirs:
                raise CheckpointError(
                    f"a trial must go on with its own config, but the checkpoint in {folder} has "
                    f"{field.name}={theirs!r} and this config {ours!r}; start it anew or use the checkpoint's config."
                )


def build_optimizer(model: DualEncoder, config: TrialConfig) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) with weight decay on matrices and kernels alone: not on biases, norms, logit scale.

    Each group's `factor` is its share of the scheduled learning rate.
    """
    text_tower = set(model.text_tower.parameters())
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in trained if (p in text_tower) == is_text and (p.ndim > 1) == is_decayed],
            "weight_decay": config.weight_decay if is_decayed else 0.0,
            "factor": config.text_learning_rate_factor if is_text else 1.0,
        }
        for is_text in (False, True)
        for is_decayed in (False, True)
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=ADAM_BETAS, fused=True)


def has_native_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is done by the hardware: Ampere and later GPUs, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
