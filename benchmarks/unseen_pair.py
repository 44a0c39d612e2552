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


def conse(run: Outcome, vectors: Vectors) -> tuple[Floats, Floats]:
    """Similarities (M, 7) of the training images and (N, 7) of the test images.

    An image is the mean of the seen classes' vectors, weighted by their probabilities (arXiv 1312.5650, equation 2,
    with T = all of them), and compared by the cosine.
    """
    table = _unit(np.stack([vectors[str(name)] for name in run["classes"]]))  # (7, D)
    train, test = (
        _unit(_softmax(run[f"{split}_logits"][:, : len(table) - 2].astype(np.float64)) @ table[:-2]) @ table.T
        for split in ("train", "test")
    )
    return train, test


def eszsl(run: Outcome, vectors: Vectors) -> tuple[Floats, Floats]:
    """As `conse`, by the bilinear map V = (X'X + γ)⁻¹ X'Y S' (SS' + λ)⁻¹ (Romera-Paredes and Torr 2015, equation 9).

    Features X are standardised and γ is their number, λ is 1 for unit vectors S: chosen beforehand, not by figures.
    """
    table = _unit(np.stack([vectors[str(name)] for name in run["classes"]]))
    train, test = (run[f"{split}_features"].astype(np.float64) for split in ("train", "test"))
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, test = (train - mean) / deviation, (test - mean) / deviation
    truth = np.where(run["train_labels"][:, None] == np.arange(len(table) - 2), 1.0, -1.0)  # (M, 5)
    seen = table[:-2].T  # (D, 5)
    ridge = np.linalg.solve(train.T @ train + len(train) * np.eye(train.shape[1]), train.T @ truth @ seen.T)
    mapped = np.linalg.solve(seen @ seen.T + np.eye(len(seen)), ridge.T).T  # (width, D)
    return train @ mapped @ table.T, test @ mapped @ table.T


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


def summarise(by_pair: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over the pairs, standard error of `balanced`, pairs above chance, and the sign test's p (two-sided)."""
    means = mean_of(list(by_pair.values()))
    values = np.array([figures["balanced"] for figures in by_pair.values()])
    above, below = int((values > 0.5).sum()), int((values < 0.5).sum())
    error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    p = float(binomtest(above, above + below).pvalue) if above + below else 1.0
    return {"pairs": len(values), **means, "standard_error": error, "above_chance": above, "sign_test": p}
