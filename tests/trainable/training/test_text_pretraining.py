import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainable.data.kote import LABELS, Comments, Kote
from trainable.errors import ConfigError, DivergedError
from trainable.model.subwords import small_text_tower
from trainable.training.text_pretraining import (
    CommentMatcher,
    PretrainOptions,
    TextPretrainer,
    pretrain_tower,
    starting_tower,
)
from trainable.training.text_quality import Baseline, mean_average_precision

WORDS = {LABELS.index("기쁨"): "야호", LABELS.index("슬픔"): "흑흑", LABELS.index("놀람"): "헉헉"}
SMALL = PretrainOptions(
    language="ko", epochs=12, least_steps=0, batch_size=16, vocabulary=600, width=32, distillation=0.0
)
TINY = PretrainOptions(vocabulary=300, width=8)
BASELINE = Baseline((1, 3), 3.0)


def made_comments(count, seed):
    """Comments with some of three labels, each told by a word of its own among others."""
    random = np.random.default_rng(seed)
    labels = np.zeros((count, len(LABELS)), dtype=np.bool_)
    texts = []
    for row in range(count):
        chosen = random.permutation(list(WORDS))[: random.integers(1, 3)]
        labels[row, chosen] = True
        texts.append(" ".join(random.permutation([*(WORDS[label] for label in chosen), "오늘", "여기", "그냥"])))
    return Comments(tuple(texts), labels)


@pytest.fixture(scope="module")
def comments():
    return Kote(made_comments(128, 0), made_comments(40, 1), made_comments(40, 2), "made")


@pytest.fixture(scope="module")
def pretrainer(comments):
    return pretrain_tower(starting_tower(comments.train, SMALL), comments, SMALL, BASELINE)


def test_comments_come_to_lie_near_their_labels(comments, pretrainer):
    assert mean_average_precision(pretrainer.scores(comments.test.texts), comments.test.labels) > 0.95

    features = dict(zip(LABELS, pretrainer.label_features(), strict=True))
    said = pretrainer.matcher.features(*pretrainer.matcher.tower.tokenize(["야호"]))[0]
    assert said @ features["기쁨"] > max(said @ features["슬픔"], said @ features["놀람"]) + 0.2


def test_the_same_seed_gives_the_same_tower(comments, pretrainer):
    again = pretrain_tower(starting_tower(comments.train, SMALL), comments, SMALL, BASELINE)
    assert np.array_equal(again.scores(comments.test.texts), pretrainer.scores(comments.test.texts))


def test_scores_do_not_depend_on_what_stands_beside_a_text(comments, pretrainer):
    texts = comments.test.texts
    alone = np.concatenate([pretrainer.scores([text]) for text in texts[:5]])
    np.testing.assert_allclose(pretrainer.scores(texts)[:5], alone, atol=1e-6)


def test_a_text_without_any_token_has_scores(pretrainer):
    assert np.isfinite(pretrainer.scores([""])).all()


def test_the_best_epoch_is_kept_not_the_last(comments):
    lines = []
    tower = starting_tower(comments.train, SMALL)
    pretrainer = pretrain_tower(tower, comments, SMALL, BASELINE, show=lines.append)
    values = [float(line.rpartition(" ")[2]) for line in lines]
    kept = mean_average_precision(pretrainer.scores(comments.held_out.texts), comments.held_out.labels)
    assert len(values) == SMALL.epochs
    assert kept == pytest.approx(max(values), abs=5e-4)


def test_logits_are_scaled_cosines_with_a_bias_per_label(comments):
    tower = small_text_tower(comments.train.texts, vocabulary=100, width=8, dropout=0.0)
    matcher = CommentMatcher(tower, torch.tensor([0.5, 0.25]))
    texts, labels = tower.tokenize(["야호 오늘", "흑흑"]), tower.tokenize(["야호", "헉헉 여기"])

    found = matcher(texts, labels)

    expected = torch.stack([F.cosine_similarity(one, tower(*labels)) for one in tower(*texts)])
    expected = matcher.logit_scale.exp() * expected + torch.tensor([0.0, math.log(1 / 3)])
    torch.testing.assert_close(found, expected)


def test_the_teachers_share_of_the_targets():
    comments = made_comments(8, 0)
    tower = starting_tower(comments, TINY)
    teacher = np.full(comments.labels.shape, 0.5)
    targets = [
        TextPretrainer(tower, comments, PretrainOptions(language="ko", distillation=share), teacher)._targets
        for share in (0.0, 0.5, 1.0)
    ]
    assert [sorted(set(one.flatten().tolist())) for one in targets] == [[0.0, 1.0], [0.25, 0.75], [0.5]]


def test_few_comments_are_passed_over_more_often(comments):
    tower = starting_tower(comments.train, TINY)
    options = PretrainOptions(epochs=2, least_steps=100, batch_size=16, distillation=0.0)
    passes = [TextPretrainer(tower, part, options, None).epochs for part in (comments.train, made_comments(1600, 0))]
    assert passes == [13, 2]  # 8 and 100 steps each


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("least_steps", -1),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("distillation", 1.5),
        ("seed", -1),
    ],
)
def test_an_option_out_of_its_domain_is_named(comments, name, value):
    with pytest.raises(ConfigError, match=name):
        starting_tower(comments.train, PretrainOptions(**{name: value}))


def test_a_loss_that_is_not_finite_is_said(comments):
    tower = starting_tower(comments.train, TINY)
    torch.nn.init.constant_(tower.backbone.embeddings.LayerNorm.weight, float("nan"))
    with pytest.raises(DivergedError, match="the loss must be finite"):
        TextPretrainer(tower, comments.train, SMALL, None).train_epoch()
