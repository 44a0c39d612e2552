"""What the features of an image tower make of two classes that it was not trained on, given a vector for each class.

The methods need no further training: ConSE (Norouzi et al., arXiv 1312.5650) and ESZSL (Romera-Paredes and Torr, ICML
2015). An outcome holds `classes` (7), the unseen two last, and for `train` and `test` labels, features (N, width) and
logits over the seen five.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from trainable.training.zero_shot import harmonic_mean

Floats = npt.NDArray[np.float64]
Vectors = dict[str, Floats]
"""Class -> vector."""
Outcome = dict[str, Any]
"""Name -> array."""

MEASURES = ("balanced", "centred", "auc", "harmonic", "seen")


def with_seen_scores(run: Outcome) -> Outcome:
    """The outcome, and what both methods make of its images before they look at any vector.

    Added are `<split>_probabilities` (N, 5) of the seen classes, and `<split>_ridge` (N, 5), the images' scores by
    ridge regression of standardised features X on labels of 1 and -1; its strength is the number of training images.
    """
    more: Outcome = {}
    train = run["train_features"].astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, classes = (train - mean) / deviation, np.arange(len(run["classes"]) - 2)
    truth = np.where(run["train_labels"][:, None] == classes, 1.0, -1.0)  # (M, 5)
    weights = np.linalg.solve(train.T @ train + len(train) * np.eye(train.shape[1]), train.T @ truth)  # (width, 5)
    for split in ("train", "test"):
        more[f"{split}_probabilities"] = _softmax(run[f"{split}_logits"][:, classes].astype(np.float64))
        more[f"{split}_ridge"] = (run[f"{split}_features"] - mean) / deviation @ weights
    return run | more


def conse(run: Outcome, vectors: Vectors) -> tuple[Floats, Floats]:
    """Similarities (M, 7) of the training images and (N, 7) of the test images.

    An image is the mean of the seen classes' vectors, weighted by their probabilities (arXiv 1312.5650, equation 2,
    with T = all of them), and compared by the cosine.
    """
    table = _unit(np.stack([vectors[str(name)] for name in run["classes"]]))  # (7, D)
    train, test = (_unit(run[f"{split}_probabilities"] @ table[:-2]) @ table.T for split in ("train", "test"))
    return train, test


def eszsl(run: Outcome, vectors: Vectors) -> tuple[Floats, Floats]:
    """As `conse`, by the bilinear map (X'X + γ)⁻¹ X'Y S' (SS' + λ)⁻¹ of Romera-Paredes and Torr 2015, equation 9.

    λ is 1 for unit vectors S (D, 5), chosen beforehand. S' (SS' + λ)⁻¹ is computed as (S'S + λ)⁻¹ S', a system of 5.
    """
    table = _unit(np.stack([vectors[str(name)] for name in run["classes"]]))
    seen = table[:-2]  # S', (5, D)
    onto = np.linalg.solve(seen @ seen.T + np.eye(len(seen)), seen @ table.T)  # (5, 7)
    return run["train_ridge"] @ onto, run["test_ridge"] @ onto


def _unit(rows: Floats) -> Floats:
    scaled: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def figures_of(run: Outcome, train: Floats, test: Floats) -> dict[str, float]:
    """The measures of one run, from similarities of training images (M, 7) and test images (N, 7).

    `balanced`: mean recall of the unseen two among these. `centred`: the same after each one's mean similarity with
    images of training, class by class, is taken off. `auc`: of the difference of the two, whatever the threshold.
    `harmonic`: of the mean recalls of seen and unseen classes among all seven. `seen`: mean recall among the seen.
    """
    labels, C = run["test_labels"].astype(np.int64), test.shape[1]
    unseen = labels >= C - 2
    pair, truth = test[unseen][:, -2:], labels[unseen] - (C - 2)
    every = test.argmax(axis=1)
    return {
        "balanced": _mean_recall(pair.argmax(axis=1), truth),
        "centred": centred_accuracy(run, train, test),
        "auc": float(roc_auc_score(truth, pair[:, 1] - pair[:, 0])),
        "harmonic": harmonic_mean(
            _mean_recall(every[~unseen], labels[~unseen]), _mean_recall(every[unseen], labels[unseen])
        ),
        "seen": _mean_recall(test[~unseen, :-2].argmax(axis=1), labels[~unseen]),
    }


def centred_accuracy(run: Outcome, train: Floats, test: Floats) -> float:
    """The measure `centred` of `figures_of`."""
    labels, C = run["test_labels"].astype(np.int64), test.shape[1]
    means = np.stack([train[run["train_labels"] == label, -2:].mean(axis=0) for label in range(C - 2)]).mean(axis=0)
    unseen = labels >= C - 2
    return _mean_recall((test[unseen, -2:] - means).argmax(axis=1), labels[unseen] - (C - 2))


def _mean_recall(told: npt.NDArray[np.integer], truth: npt.NDArray[np.integer]) -> float:
    return float(np.mean([(told[truth == label] == label).mean() for label in np.unique(truth)]))


def mean_of(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure over several figures."""
    return {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}


def summarise(
    by_pair: Mapping[str, Mapping[str, float]], random: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Means over the pairs, and how sure `balanced` is.

    `standard_error` over the pairs; `above_chance` counts pairs, `sign_test` is its p (two-sided). `over_random` is
    the mean gain on random vectors, pair by pair, `over_random_low` and `_high` its bootstrap interval of
    95 %. All take pairs for independent, which they are not quite, as they share classes.
    """
    values = np.array([figures["balanced"] for figures in by_pair.values()])
    gains = values - np.array([random[pair]["balanced"] for pair in by_pair])
    above, below = int((values > 0.5).sum()), int((values < 0.5).sum())
    drawn = np.random.default_rng(0).integers(len(gains), size=(10_000, len(gains)))
    low, high = np.quantile(gains[drawn].mean(axis=1), (0.025, 0.975))
    return {
        "pairs": len(values),
        **mean_of(list(by_pair.values())),
        "standard_error": float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan"),
        "above_chance": above,
        "sign_test": float(binomtest(above, above + below).pvalue) if above + below else 1.0,
        "over_random": float(gains.mean()),
        "over_random_low": float(low),
        "over_random_high": float(high),
    }
