"""Accuracy the zero-shot way: an image belongs to the class whose prompts lie nearest.

Seen classes were trained, unseen ones were not. The measures are those of generalised zero-shot learning (Xian,
Lampert, Schiele and Akata, arXiv 1707.00600, section 4.2): see docs/zero-shot.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.data.unseen import parts_of
from trainable.model.dual_encoder import DualEncoder
from trainable.model.loss import similarity_logits
from trainable.training.device_data import DeviceSplit
from trainable.training.parallel import whole
from trainable.training.ranks import ONE_RANK, Ranks

EVALUATION_BATCH = 512

Watch = Callable[[np.ndarray, Tensor, Tensor], None]
"""Called with each batch of a split that is told: positions in it (B,), labels (B,) and logits (B, C)."""


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
def prompt_vectors(model: DualEncoder, prompts: PromptTokens) -> Tensor:
    """One unit vector per prompt (C, P, D)."""
    C, P, L = prompts.tokens.shape
    return model.encode_texts(prompts.tokens.view(C * P, L), prompts.mask.view(C * P, L)).view(C, P, -1)


def class_vectors(prompts: Tensor) -> Tensor:
    """Vectors of prompts (C, P, D) -> one unit vector per class (C, D), their mean normalised again."""
    return F.normalize(prompts.mean(dim=1), dim=-1)


def zero_shot_classifier(model: DualEncoder, prompts: PromptTokens) -> Tensor:
    """One unit vector per class (C, D): the mean over its templates, normalised again (CLIP, section 3.1.4)."""
    return class_vectors(prompt_vectors(model, prompts))


def class_logits(features: Tensor, classifier: Tensor, logit_scale: Tensor) -> Tensor:
    """Scaled similarities (B, C), in float32 also under autocast: classes that lie close would tie in bf16."""
    with torch.autocast(features.device.type, enabled=False):
        return similarity_logits(features.float(), classifier.float(), logit_scale)


@dataclass(frozen=True)
class Outcomes:
    """How the images of a split were told; the first S of C classes are seen, the others unseen.

    Counts have the truth as rows and the prediction as columns.
    """

    own: Tensor  # (C, C): the candidates are the classes of the image's own side, the seen ones or the unseen ones
    every: Tensor  # (C, C): the candidates are all classes
    both_parts: Tensor  # (C,): images whose two nearest seen classes are those that the name of their own says
    seen: int
    """S."""
    loss: float
    """Mean cross-entropy of the images of seen classes over these, in nats."""


@torch.no_grad()
def tell_images(
    model: DualEncoder,
    split: DeviceSplit,
    classifier: Tensor,
    *,
    seen: int,
    parts: Sequence[tuple[int, int] | None] = (),
    ranks: Ranks = ONE_RANK,
    watch: Watch | None = None,
) -> Outcomes:
    """Compare each image once with the classifier (C, D), whose first `seen` rows are the seen classes.

    `parts` holds, where asked for, of each of the C classes the seen ones that its name says, the lower first. Each
    rank looks at its share of the split, and `watch` sees that; the result is that of the whole on all of them.
    """
    C, logit_scale = len(classifier), whole(model.logit_scale)
    pairs = torch.tensor([part or (-1, -1) for part in parts or [None] * C], device=split.device)  # (C, 2)
    is_unseen = torch.arange(C, device=split.device) >= seen  # (C,)
    counts = torch.zeros(2 * C * C + C, dtype=torch.int64, device=split.device)
    loss = torch.zeros((), device=split.device)
    batches = -(-len(split) // (EVALUATION_BATCH * ranks.world_size))
    for indices in np.array_split(np.arange(len(split)), batches):
        mine = indices[ranks.rank :: ranks.world_size]
        images, labels = split.batch(mine)
        logits = class_logits(model.encode_images(images), classifier, logit_scale)  # (B, C)
        if watch is not None:
            watch(mine, labels, logits)
        other_side = is_unseen[labels][:, None] != is_unseen  # (B, C)
        own, every = logits.masked_fill(other_side, -torch.inf).argmax(dim=1), logits.argmax(dim=1)
        told = torch.cat([labels * C + own, C * C + labels * C + every])
        told = torch.cat([told, 2 * C * C + _with_both_parts(logits[:, :seen], labels, pairs)])
        counts += torch.bincount(told, minlength=len(counts))
        loss += F.cross_entropy(logits[labels < seen, :seen], labels[labels < seen], reduction="sum")
    total = ranks.sum(counts).cpu()
    own_counts, every_counts = total[: 2 * C * C].view(2, C, C)
    of_seen = max(1, int(own_counts[:seen].sum()))
    return Outcomes(own_counts, every_counts, total[2 * C * C :], seen, float(ranks.sum(loss)) / of_seen)


def _with_both_parts(seen_logits: Tensor, labels: Tensor, pairs: Tensor) -> Tensor:
    """The labels of those images whose two likeliest of S >= 2 classes are the parts (C, 2) of their own class."""
    nearest = seen_logits.topk(2, dim=1).indices.sort(dim=1).values  # (B, 2)
    return labels[(nearest == pairs[labels]).all(dim=1)]


def metrics_of(outcomes: Outcomes) -> dict[str, float]:
    """What a report says of them, before the split's prefix.

    Of the seen classes, among these: accuracy, balanced_accuracy (mean recall of the classes present), loss, and
    predicted_classes, how many were predicted. Where there are unseen classes, also what
    `trainable.training.report.UNSEEN_KEYS` names.
    """
    S, C = outcomes.seen, len(outcomes.own)
    accuracy, balanced = _accuracies(outcomes.own, slice(S))
    metrics = {
        "accuracy": accuracy,
        "balanced_accuracy": balanced,
        "loss": outcomes.loss,
        "predicted_classes": int((outcomes.own[:S].sum(dim=0) > 0).sum()),
    }
    return metrics if C == S else metrics | _unseen_metrics(outcomes)


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b), and 0 where both are (arXiv 1707.00600, equation 24)."""
    return 2 * a * b / (a + b) if a + b else 0.0


def _unseen_metrics(outcomes: Outcomes) -> dict[str, float]:
    S, C = outcomes.seen, len(outcomes.own)
    seen, unseen = slice(S), slice(S, C)
    told = {
        "unseen": _accuracies(outcomes.own, unseen),
        "generalised_seen": _accuracies(outcomes.every, seen),
        "generalised_unseen": _accuracies(outcomes.every, unseen),
    }
    harmonic = map(harmonic_mean, told["generalised_seen"], told["generalised_unseen"])
    told["harmonic"] = (next(harmonic), next(harmonic))
    kinds = ("accuracy", "balanced_accuracy")
    measured = {f"{name}_{kind}": value for name, pair in told.items() for kind, value in zip(kinds, pair, strict=True)}
    return measured | {"chance": 1 / S, "unseen_chance": 1 / (C - S), "generalised_chance": 1 / C}


def _accuracies(confusion: Tensor, classes: slice) -> tuple[float, float]:
    """Share of the images of some classes that were told right, and the mean of it over the classes present."""
    right, images = confusion.diagonal()[classes], confusion.sum(dim=1)[classes]
    present = images > 0
    return float(right.sum() / images.sum()), float((right[present] / images[present]).mean())


def class_figures(outcomes: Outcomes, unseen: Sequence[str], seen: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Figures of each unseen class, in the order of their rows.

    `images` of it, `accuracy` on these among the unseen classes and `generalised_accuracy` among all; where its name
    says two seen classes, its `parts`, and how often these were the nearest two of the seen ones (`both_parts`).
    """
    figures: dict[str, dict[str, Any]] = {}
    for row, (name, pair) in enumerate(zip(unseen, parts_of(unseen, seen), strict=True), start=outcomes.seen):
        images = int(outcomes.own[row].sum())
        figures[name] = {
            "images": images,
            "accuracy": int(outcomes.own[row, row]) / images,
            "generalised_accuracy": int(outcomes.every[row, row]) / images,
        }
        if pair is not None:
            parts = [seen[part] for part in pair]
            figures[name] |= {"parts": parts, "both_parts": int(outcomes.both_parts[row]) / images}
    return figures
