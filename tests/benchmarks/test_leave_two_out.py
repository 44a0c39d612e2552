from pathlib import Path

import numpy as np
import pytest

from benchmarks import leave_two_out
from benchmarks.unseen_pair import Outcome, Vectors, conse, eszsl, figures_of, summarise, with_seen_scores
from trainable.data.action_units import BASIC_PROTOTYPES
from trainable.data.vocabulary import VOCABULARIES

CLASSES = VOCABULARIES["basic7"]
RNG = np.random.default_rng(0)
ATTRIBUTES: Vectors = {
    name: np.append(prototype.probabilities(), not prototype.always) for name, prototype in BASIC_PROTOTYPES.items()
}


def faces(per_class: int = 60) -> Outcome:
    """Features that are a class's own attributes and noise, so that right vectors can be read off them."""
    classes = ("happy", "sad", "surprise", "neutral", "angry", "fear", "disgust")
    labels = np.repeat(np.arange(7), per_class)
    table = np.stack([ATTRIBUTES[name] for name in classes])
    features = table[labels] + 0.3 * RNG.normal(size=(len(labels), table.shape[1]))
    logits = 4 * features @ table[:5].T
    seen = labels < 5
    return {
        "classes": np.array(classes),
        "train_labels": labels[seen],
        "train_features": features[seen],
        "train_logits": logits[seen],
        "test_labels": labels,
        "test_features": features,
        "test_logits": logits,
    }


@pytest.mark.parametrize("method", [conse, eszsl])
def test_right_vectors_tell_the_unseen_pair_and_exchanged_ones_take_each_for_the_other(method) -> None:  # type: ignore[no-untyped-def]
    outcome = with_seen_scores(faces())
    exchanged = {**ATTRIBUTES, "fear": ATTRIBUTES["disgust"], "disgust": ATTRIBUTES["fear"]}

    right, wrong = (figures_of(outcome, *method(outcome, vectors)) for vectors in (ATTRIBUTES, exchanged))

    assert right["auc"] > 0.8 > 0.2 > wrong["auc"]
    assert right["centred"] > 0.7 > 0.3 > wrong["centred"]
    assert right["auc"] + wrong["auc"] == pytest.approx(1)


def test_the_bilinear_map_is_that_of_the_paper() -> None:
    outcome = with_seen_scores(faces(5))
    features = outcome["train_features"]
    x = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    table = np.stack([ATTRIBUTES[name] / np.linalg.norm(ATTRIBUTES[name]) for name in outcome["classes"]])
    y, s = np.where(outcome["train_labels"][:, None] == np.arange(5), 1, -1), table[:5].T
    left, right = x.T @ x + len(x) * np.eye(x.shape[1]), s @ s.T + np.eye(len(s))

    expected = x @ np.linalg.inv(left) @ x.T @ y @ s.T @ np.linalg.inv(right) @ table.T

    np.testing.assert_allclose(eszsl(outcome, ATTRIBUTES)[0], expected, atol=1e-9)


def test_figures_are_class_balanced_and_centring_takes_off_what_favours_one_class() -> None:
    labels = np.array([0, 1, 5, 5, 5, 6])
    similar = np.eye(7)[labels]
    similar[:, 6] += 2  # the last class is near everything
    outcome: Outcome = {"test_labels": labels, "train_labels": np.array([0, 1, 2, 3, 4])}
    train = np.zeros((5, 7))
    train[:, 6] = 2

    figures = figures_of(outcome, train, similar)

    assert figures == {"balanced": 0.5, "centred": 1.0, "auc": 1.0, "harmonic": 0.0, "seen": 1.0}


def test_a_summary_counts_pairs_on_either_side_of_chance_and_compares_with_random_vectors() -> None:
    values = (0.4, 0.5, 0.6, 0.7)
    pairs = {str(value): {"balanced": value} for value in values}
    random = {pair: {"balanced": figures["balanced"] - 0.1} for pair, figures in pairs.items()}

    summary = summarise(pairs, random)

    assert summary["balanced"] == pytest.approx(0.55)
    assert summary["above_chance"] == 2
    assert summary["sign_test"] == 1.0  # 2 of 3 that differ from chance
    assert summary["standard_error"] == pytest.approx(np.std(values, ddof=1) / 2)
    assert [summary[key] for key in ("over_random", "over_random_low", "over_random_high")] == pytest.approx([0.1] * 3)


def test_heads_over_fixed_vectors_learn_the_seen_classes_from_a_towers_features(tmp_path: Path) -> None:
    outcome = faces(30)
    for name in ("train_features", "test_features"):
        outcome[name] = np.pad(outcome[name], ((0, 0), (0, 256 - outcome[name].shape[1]))).astype(np.float32)
    arguments = leave_two_out.parse(["--data-path", "-", "--kote", "-", "--text-tower", "-", "--runs", str(tmp_path)])
    config = leave_two_out.config_of("action units", arguments, ATTRIBUTES, tmp_path / "tower", seed=0)

    logits = leave_two_out.train_heads(config, outcome)

    assert figures_of(outcome, logits["train_logits"], logits["test_logits"])["seen"] > 0.8
