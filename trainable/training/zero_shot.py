"""Accuracy the zero-shot way: an image belongs to the class whose prompts lie nearest."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.model.dual_encoder import DualEncoder
from trainable.model.loss import similarity_logits
from trainable.training.device_data import DeviceSplit
from trainable.training.parallel import whole
from trainable.training.ranks import ONE_RANK, Ranks

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class PromptTokens:
    """The prompts of C classes by P templates, tokenised once."""

    tokens: Tensor  # (C, P, L)
    mask: Tensor  # (C, P, L)

    @classmethod
    def of(cls, model: DualEncoder, prompts: list[list[str]], device: torch.device) -> "PromptTokens":
        """Tokenise `prompts` [C][P] with the model's own tokenizer."""
        flat = [prompt for row in prompts for prompt in row]
        tokens, mask = model.text_tower.tokenize(flat)
        shape = (len(prompts), len(prompts[0]), -1)
        return cls(tokens.view(shape).to(device), mask.view(shape).to(device))


@torch.no_grad()
def zero_shot_classifier(model: DualEncoder, prompts: PromptTokens) -> Tensor:
    """One unit vector per class (C, D): the mean over its templates, normalised again (CLIP, section 3.1.4)."""
    C, P, L = prompts.tokens.shape
    texts = model.encode_texts(prompts.tokens.view(C * P, L), prompts.mask.view(C * P, L))  # (C P, D)
    return F.normalize(texts.view(C, P, -1).mean(dim=1), dim=-1)


def class_logits(features: Tensor, classifier: Tensor, logit_scale: Tensor) -> Tensor:
    """Scaled similarities (B, C), in float32 also under autocast: classes that lie close would tie in bf16."""
    with torch.autocast(features.device.type, enabled=False):
        return similarity_logits(features.float(), classifier.float(), logit_scale)


@torch.no_grad()
def confusion_matrix(
    model: DualEncoder, split: DeviceSplit, classifier: Tensor, ranks: Ranks = ONE_RANK
) -> tuple[Tensor, float]:
    """Counts (C, C), rows the truth and columns the prediction, and the mean cross-entropy over the classes.

    Each rank looks at its share of the split; the result is that of the whole on all of them.
    """
    C, logit_scale = len(classifier), whole(model.logit_scale)
    counts = torch.zeros(C * C, dtype=torch.int64, device=split.device)
    loss = torch.zeros((), device=split.device)
    batches = -(-len(split) // (EVALUATION_BATCH * ranks.world_size))
    for indices in np.array_split(np.arange(len(split)), batches):
        images, labels = split.batch(indices[ranks.rank :: ranks.world_size])
        logits = class_logits(model.encode_images(images), classifier, logit_scale)  # (B, C)
        loss += F.cross_entropy(logits, labels, reduction="sum")
        counts += torch.bincount(labels * C + logits.argmax(dim=1), minlength=C * C)
    return ranks.sum(counts).view(C, C).cpu(), float(ranks.sum(loss)) / len(split)


def metrics_of(confusion: Tensor, loss: float) -> dict[str, float]:
    """Accuracy, balanced accuracy (mean recall of the classes present), loss, and how many classes were predicted."""
    present = confusion.sum(dim=1) > 0
    recall = confusion.diagonal()[present] / confusion.sum(dim=1)[present]
    return {
        "accuracy": float(confusion.diagonal().sum() / confusion.sum()),
        "balanced_accuracy": float(recall.mean()),
        "loss": loss,
        "predicted_classes": int((confusion.sum(dim=0) > 0).sum()),
    }
