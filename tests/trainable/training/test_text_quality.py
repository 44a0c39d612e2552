import numpy as np
import pytest

from trainable.data.kote import Comments, Kote
from trainable.training.text_quality import (
    Baseline,
    Quality,
    best_thresholds,
    label_correlation,
    mean_average_precision,
    measure,
    rank_agreement,
)


def f1(decided, labels):
    both = np.sum(decided & labels)
    return 2 * both / (np.sum(decided) + np.sum(labels))


def test_each_threshold_is_the_best_of_all_that_there_are():
    random = np.random.default_rng(0)
    labels = random.random((60, 5)) < 0.3
    scores = random.random((60, 5)) + 0.3 * labels

    thresholds = best_thresholds(scores, labels)

    for column in range(5):
        found = f1(scores[:, column] >= thresholds[column], labels[:, column])
        possible = [f1(scores[:, column] >= value, labels[:, column]) for value in scores[:, column]]
        assert found == pytest.approx(max(possible))


def test_a_label_that_nobody_held_out_has_is_never_said():
    labels = np.array([[True, False], [False, False]])
    assert best_thresholds(np.array([[0.9, 0.9], [0.1, 0.1]]), labels).tolist() == [0.9, np.inf]


def test_thresholds_come_from_the_held_out_comments():
    labels = np.array([[True, False], [True, True], [False, True], [False, False]])
    quality = Quality.of((labels * 0.5, labels), (labels * 0.8 + 0.1, labels))
    assert quality == Quality(1.0, quality.label_ranking, 1.0, 1.0)
    worse = Quality.of((labels * 0.5, labels), (labels * 0.8 + 0.6, labels))
    assert worse.mean_average_precision == 1.0
    assert worse.macro_f1 == pytest.approx(2 / 3)


def test_labels_that_no_comment_has_do_not_count():
    labels = np.array([[True, False], [False, False]])
    assert mean_average_precision(np.array([[0.9, 0.2], [0.1, 0.3]]), labels) == 1.0


def made_comments(count, seed):
    """Two labels: a comment with the first says 기쁘, one with the second 슬프, among words that say nothing."""
    random = np.random.default_rng(seed)
    labels = random.random((count, 2)) < 0.5
    noise = [" ".join(random.choice(["오늘", "그냥", "여기", "사람", "정말"], 4)) for _ in range(count)]
    words = [" ".join(word for word, has in zip(("기쁘네", "슬프다"), row, strict=True) if has) for row in labels]
    return Comments(tuple(f"{said} {word}" for said, word in zip(noise, words, strict=True)), labels)


def test_the_baseline_learns_what_words_tell():
    comments = Kote(made_comments(80, 0), made_comments(40, 1), made_comments(40, 2), "made")
    baseline = Baseline.tuned(comments.train, comments.held_out)
    assert measure(baseline.fitted(comments.train), comments).macro_f1 > 0.95


def test_no_comment_helps_to_predict_itself():
    train = made_comments(60, 0)
    strange = Comments((*train.texts, "낱말하나뿐"), np.vstack([train.labels, ~train.labels[:1]]))
    alone = Comments((*train.texts, "낱말하나뿐"), np.vstack([train.labels, train.labels[:1]]))
    found, expected = (Baseline((1, 3), 3.0).cross_fitted(one, seed=0) for one in (strange, alone))
    np.testing.assert_allclose(found[-1], expected[-1])


def test_correlation_and_agreement():
    labels = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]], dtype=bool)
    correlation = label_correlation(labels)
    assert correlation[0, 2] == pytest.approx(-1.0)
    assert not correlation[:, 3].any()
    assert rank_agreement(correlation, 2 * correlation + 5) == pytest.approx(1.0)
    assert rank_agreement(correlation, -correlation) == pytest.approx(-1.0)
