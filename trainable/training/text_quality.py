"""How well comments are told by their labels: measures, thresholds, the baseline, and a map of the labels.

Tower and baseline go through the same protocol. Both give every comment a score per label; for each label the
threshold with the best F1 on held-out comments decides yes or no on the test comments.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    label_ranking_average_precision_score,
    precision_recall_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from trainable.data.kote import Comments, Kote

Scores = npt.NDArray[np.floating[Any]]  # (N, labels)
Labels = npt.NDArray[np.bool_]  # (N, labels)

NGRAMS = ((1, 3), (1, 4))
INVERSE_STRENGTHS = (1.0, 3.0, 10.0)
"""Of the baseline's regularisation, scikit-learn's C."""
FOLDS = 5


@dataclass(frozen=True)
class Quality:
    """0 to 1, the more the better."""

    mean_average_precision: float
    """Over the labels: how well each ranks the comments."""
    label_ranking: float
    """Over the comments: how well each ranks the labels (scikit-learn's label ranking average precision)."""
    macro_f1: float
    micro_f1: float

    @classmethod
    def of(cls, held_out: tuple[Scores, Labels], test: tuple[Scores, Labels]) -> Self:
        """Measures on `test`, each a pair of scores and labels, with thresholds from `held_out`."""
        scores, labels = test
        decided = scores >= best_thresholds(*held_out)
        return cls(
            mean_average_precision(scores, labels),
            float(label_ranking_average_precision_score(labels, scores)),
            *(float(f1_score(labels, decided, average=average, zero_division=0.0)) for average in ("macro", "micro")),
        )

    def to_dict(self) -> dict[str, float]:
        """Measure -> value."""
        return asdict(self)


def measure(scores: Callable[[Sequence[str]], Scores], comments: Kote) -> Quality:
    """The quality of `scores`, a function of texts, on the test comments, with thresholds from those held out."""
    held_out, test = ((scores(part.texts), part.labels) for part in (comments.held_out, comments.test))
    return Quality.of(held_out, test)


def mean_average_precision(scores: Scores, labels: Labels) -> float:
    """The mean over the labels that some comment has."""
    present = labels.any(axis=0)
    return float(average_precision_score(labels[:, present], scores[:, present], average="macro"))


def best_thresholds(scores: Scores, labels: Labels) -> Scores:
    """For each label the score from which on "yes" has the best F1; infinity where no comment has the label."""
    return np.array([_best_threshold(*column) for column in zip(scores.T, labels.T, strict=True)])


def _best_threshold(scores: Scores, labels: Labels) -> float:
    if not labels.any():
        return float("inf")
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1[:-1])])


@dataclass(frozen=True)
class Baseline:
    """TF-IDF of character n-grams within words, and a logistic regression per label."""

    ngrams: tuple[int, int]
    inverse_strength: float

    @classmethod
    def tuned(cls, train: Comments, held_out: Comments) -> Self:
        """The best on held-out comments, by mean average precision."""
        candidates = [cls(ngrams, strength) for ngrams in NGRAMS for strength in INVERSE_STRENGTHS]
        return max(
            candidates, key=lambda one: mean_average_precision(one.fitted(train)(held_out.texts), held_out.labels)
        )

    def fitted(self, train: Comments) -> Callable[[Sequence[str]], Scores]:
        """Fit to `train`; returns a function from N texts to probabilities (N, labels)."""
        classifier = OneVsRestClassifier(
            LogisticRegression(C=self.inverse_strength, solver="liblinear", dual=True, random_state=0)
        )
        model = make_pipeline(
            TfidfVectorizer(analyzer="char_wb", ngram_range=self.ngrams, sublinear_tf=True, dtype=np.float32),
            classifier,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Label not .* is present", UserWarning)  # a constant is right then
            score: Callable[[Sequence[str]], Scores] = model.fit(train.texts, train.labels).predict_proba
        return score

    def cross_fitted(self, train: Comments, seed: int) -> Scores:
        """Probabilities (N, labels) for the comments of `train`, each from a fit that never saw it."""
        rows = np.random.default_rng(seed).permutation(len(train))
        probabilities = np.zeros(train.labels.shape)
        for fold in np.array_split(rows, FOLDS):
            rest = train.take(np.setdiff1d(rows, fold))
            probabilities[fold] = self.fitted(rest)(train.take(fold).texts)
        return probabilities


def label_correlation(labels: Labels) -> Scores:
    """Pearson correlation of every two labels over the comments, (labels, labels); 0 where a label never varies."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(np.corrcoef(labels.T.astype(np.float64)))


def rank_agreement(first: Scores, second: Scores) -> float:
    """Spearman's rank correlation of two symmetric matrices over their pairs of different labels."""
    pairs = np.triu_indices(len(first), k=1)
    return float(spearmanr(first[pairs], second[pairs]).statistic)
