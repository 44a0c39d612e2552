"""Training a text tower on comments, so that a comment lies near the prompts of its labels.

Each comment is compared with one prompt of every label by the sigmoid loss of SigLIP (arXiv 2303.15343, eq. 1), where a
comment matches as many prompts as it has labels, and every label has a bias of its own. The tower itself is the space:
there is no head between its features and the comparison, so that what was learnt is all in the tower.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainable.data.kote import LABELS, Comments, Kote
from trainable.data.vocabulary import VOCABULARIES, prompts
from trainable.errors import DivergedError, require
from trainable.model.loss import similarity_logits
from trainable.model.subwords import small_text_tower
from trainable.model.towers import TextTower, build_text_tower
from trainable.training.schedule import learning_rate
from trainable.training.text_quality import Baseline, Scores, mean_average_precision

START_SCALE = 2.0
"""Of the cosines: all are near 1 at first, so that a high one would have to be unlearnt."""
EVALUATION_BATCH = 256
MOST_COMMENT_TOKENS = 256
MOST_EVALUATIONS = 20
"""About so many epochs are measured on the held-out comments, and may be the one that is kept."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """How a text tower is trained on comments."""

    language: str = "both"
    """Of the labels' prompts: en, ko or both."""
    epochs: int = 20
    """Passes over the comments; more where these are so few that it would be less than `least_steps`."""
    least_steps: int = 1_250
    batch_size: int = 64
    learning_rate: float = 1e-2
    weight_decay: float = 0.1
    warmup_fraction: float = 0.06
    distillation: float = 0.7
    """Share of the baseline's cross-fitted probabilities in the targets; the rest are the labels."""
    token_dropout: float = 0.15
    """Share of a comment's tokens that are left out, anew in every epoch."""
    vocabulary: int = 16_000
    """Tokens of a tower from scratch."""
    width: int = 128
    """Of a tower from scratch."""
    dropout: float = 0.2
    """Of a tower from scratch."""
    averaging: float = 0.99
    """Decay of the running mean of the weights, which is what is kept."""
    seed: int = 0

    def check(self) -> None:
        """Raise `ConfigError` for a value out of its domain."""
        for name in ("epochs", "batch_size", "learning_rate"):
            require(getattr(self, name) > 0, f"{name} > 0", getattr(self, name))
        require(self.least_steps >= 0, "least_steps >= 0", self.least_steps)
        require(0 <= self.distillation <= 1, "0 <= distillation <= 1", self.distillation)
        require(0 <= self.seed < 2**32, "0 <= seed < 2**32", self.seed)


class CommentMatcher(nn.Module):
    """A text tower, with the scale and the labels' biases of its comparisons."""

    def __init__(self, tower: TextTower, shares: Tensor) -> None:
        """`shares` (labels,): of the comments that have each label; the biases start at their log odds."""
        super().__init__()
        self.tower = tower
        self.logit_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))
        self.logit_bias = nn.Parameter(torch.logit(shares, eps=1e-3))

    def forward(self, comments: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor]) -> Tensor:
        """Token ids and mask of B comments and of one prompt per label -> logits (B, labels)."""
        return self.compare(self.features(*comments), self.features(*labels))

    def features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (B, width)."""
        return F.normalize(self.tower(tokens, mask), dim=-1)

    def compare(self, comments: Tensor, labels: Tensor) -> Tensor:
        """Unit vectors (B, width) and (labels, width) -> logits (B, labels)."""
        return similarity_logits(comments, labels, self.logit_scale) + self.logit_bias


class TextPretrainer:
    """Trains a tower on comments, epoch by epoch; `scores` is what the running mean of its weights says."""

    def __init__(self, tower: TextTower, train: Comments, options: PretrainOptions, teacher: Scores | None) -> None:
        """`teacher` (N, labels): probabilities of the training comments' labels, where `distillation` is above 0."""
        self.options = options
        self._ids = token_ids(tower, train.texts)
        labels = torch.from_numpy(train.labels).float()
        mixed = (
            labels if teacher is None else torch.lerp(labels, torch.from_numpy(teacher).float(), options.distillation)
        )
        self._targets = mixed  # (N, labels)
        self._random = np.random.default_rng(options.seed)
        self._matcher = CommentMatcher(tower, labels.mean(dim=0))
        self._averaged = AveragedModel(self._matcher, multi_avg_fn=get_ema_multi_avg_fn(options.averaging))
        self._optimizer = _optimizer(self._matcher, options)
        filled = prompts(LABELS, options.language)
        self._templates = len(filled[0])
        self._prompts = tower.tokenize([prompt for row in filled for prompt in row])  # (labels x templates, L) each
        self._step = 0

    @property
    def matcher(self) -> CommentMatcher:
        """The running mean of the weights."""
        return cast(CommentMatcher, self._averaged.module)

    def train_epoch(self) -> float:
        """One pass over the comments; returns the mean loss. Raises `DivergedError`."""
        self._matcher.train()
        ids = self._drop_tokens()
        losses = [self._train_batch(ids, rows) for rows in self._batches(ids)]
        return sum(losses) / len(losses)

    @torch.no_grad()
    def label_features(self) -> Tensor:
        """One unit vector per label (labels, width): the mean over its prompts, normalised again."""
        features = self.matcher.eval().features(*self._prompts)
        return F.normalize(features.view(len(LABELS), self._templates, -1).mean(dim=1), dim=-1)

    @torch.no_grad()
    def scores(self, texts: Sequence[str]) -> Scores:
        """Probabilities (N, labels) of the labels of `texts`."""
        matcher, labels = self.matcher.eval(), self.label_features()
        ids = token_ids(matcher.tower, texts)
        found = torch.empty(len(ids), len(LABELS))
        order = np.argsort([len(row) for row in ids])
        for rows in np.array_split(order, math.ceil(len(ids) / EVALUATION_BATCH)):
            comments = matcher.features(*padded(matcher.tower, [ids[row] for row in rows]))
            found[torch.from_numpy(rows)] = matcher.compare(comments, labels).sigmoid()
        return found.numpy()

    def _train_batch(self, ids: list[list[int]], rows: npt.NDArray[np.intp]) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        logits = self._matcher(padded(self._matcher.tower, [ids[row] for row in rows]), self._drawn_prompts())
        targets = self._targets[torch.from_numpy(rows)]
        loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(rows)
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss must be finite, but is {loss.item()}; lower --learning-rate.")
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._matcher.parameters(), 1.0)
        self._optimizer.step()
        self._averaged.update_parameters(self._matcher)
        self._step += 1
        return loss.item()

    def _learning_rate(self) -> float:
        total = self.epochs * self._batches_per_epoch
        warmup = round(self.options.warmup_fraction * total)
        return learning_rate(self._step, total, peak=self.options.learning_rate, warmup_steps=warmup)

    @property
    def epochs(self) -> int:
        """How many passes over the comments make up the training."""
        return max(self.options.epochs, math.ceil(self.options.least_steps / self._batches_per_epoch))

    @property
    def _batches_per_epoch(self) -> int:
        return math.ceil(len(self._ids) / self.options.batch_size)

    def _batches(self, ids: list[list[int]]) -> list[npt.NDArray[np.intp]]:
        """Rows of comments of about one length, batch by batch, in an order of their own."""
        lengths = np.array([len(row) for row in ids]) + self._random.normal(0, 5, len(ids))
        batches = np.array_split(np.argsort(lengths), self._batches_per_epoch)
        return [batches[index] for index in self._random.permutation(len(batches))]

    def _drop_tokens(self) -> list[list[int]]:
        kept = [self._random.random(len(row)) >= self.options.token_dropout for row in self._ids]
        return [np.array(row)[keep].tolist() or row for row, keep in zip(self._ids, kept, strict=True)]

    def _drawn_prompts(self) -> tuple[Tensor, Tensor]:
        """One template per label, drawn anew."""
        drawn = torch.from_numpy(self._random.integers(self._templates, size=len(LABELS)))
        rows = torch.arange(len(LABELS)) * self._templates + drawn
        tokens, mask = (part[rows] for part in self._prompts)
        longest = int(mask.sum(dim=1).max())
        return tokens[:, :longest], mask[:, :longest]


def pretrain_tower(
    tower: TextTower,
    comments: Kote,
    options: PretrainOptions,
    baseline: Baseline,
    show: Callable[[str], None] = lambda line: None,
) -> TextPretrainer:
    """Train a tower on the training comments; its weights are those of the epoch that does best on the held-out ones.

    Raises `ConfigError` where the tower's tokenizer does not fit the prompts, and `DivergedError`.
    """
    torch.manual_seed(options.seed)
    teacher = baseline.cross_fitted(comments.train, options.seed) if options.distillation else None
    pretrainer = TextPretrainer(tower, comments.train, options, teacher)
    best, weights = -1.0, pretrainer.matcher.state_dict()
    every = max(1, pretrainer.epochs // MOST_EVALUATIONS)
    for epoch in range(1, pretrainer.epochs + 1):
        loss = pretrainer.train_epoch()
        if epoch % every and epoch != pretrainer.epochs:
            continue
        value = mean_average_precision(pretrainer.scores(comments.held_out.texts), comments.held_out.labels)
        show(f"epoch {epoch} of {pretrainer.epochs}: loss {loss:.2f}, held-out mean average precision {value:.3f}")
        if value > best:
            best, weights = value, copy.deepcopy(pretrainer.matcher.state_dict())
    pretrainer.matcher.load_state_dict(weights)
    return pretrainer


def starting_tower(train: Comments, options: PretrainOptions, start: str | None = None) -> TextTower:
    """The tower to be trained: a pretrained one by folder or hub id, or a small one from scratch.

    The tokens of the small one are those of the comments and of every prompt that Glance knows, in either language.
    Raises `ConfigError` for options out of their domain, and for a tower that does not load.
    """
    options.check()
    torch.manual_seed(options.seed)
    if start is not None:
        return build_text_tower(start, pretrained=True)
    said = [line for classes in VOCABULARIES.values() for lines in prompts(classes, "both") for line in lines]
    return small_text_tower(
        [*train.texts, *said], vocabulary=options.vocabulary, width=options.width, dropout=options.dropout
    )


def token_ids(tower: TextTower, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of every text, at most as many as the tower takes, or `MOST_COMMENT_TOKENS`; without any, token 0."""
    tokenizer: Any = tower.tokenizer
    config: Any = tower.backbone.config
    positions = getattr(config, "max_position_embeddings", MOST_COMMENT_TOKENS)
    longest = min(tokenizer.model_max_length, positions, MOST_COMMENT_TOKENS)
    ids = tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
    return [row or [0] for row in ids]


def padded(tower: TextTower, ids: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask (B, L)."""
    tokenizer: Any = tower.tokenizer
    rows = [torch.tensor(row) for row in ids]
    tokens = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id or 0)
    return tokens, pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)


def _optimizer(matcher: CommentMatcher, options: PretrainOptions) -> torch.optim.AdamW:
    """AdamW; vectors and scalars have no weight decay."""
    parameters = list(matcher.parameters())
    groups = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
