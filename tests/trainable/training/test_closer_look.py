from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import classification_report
from torch import Tensor

from trainable.config import TrialConfig
from trainable.data.store import Store
from trainable.data.unseen import UnseenClasses
from trainable.training import closer_look
from trainable.training.closer_look import Watched, look_closer
from trainable.training.device_data import DeviceData, DeviceSplit
from trainable.training.evaluation_file import Evaluation, PromptVectors, opened
from trainable.training.predictor import ZeroShotPredictor
from trainable.training.trainer import Trainer
from trainable.training.zero_shot import Outcomes

UNSEEN = UnseenClasses(validation=("fear", "sad"), test=("happily_surprised", "disgust"))


@pytest.fixture(scope="module")
def seen_model(faces: Path) -> tuple[ZeroShotPredictor, DeviceData]:
    """An untrained model that speaks both languages, of 4 seen and 4 unseen classes."""
    data = DeviceData(Store.open(faces), torch.device("cpu"), UNSEEN)
    trainer = Trainer(TrialConfig(embedding_dim=16, language="both"), data)
    description = {
        **{"classes": data.classes, "unseen": UNSEEN.to_dict(), "image_size": 48, "channels": 1},
        **{"mean": 0.5, "std": 0.25},
    }
    return ZeroShotPredictor(trainer.model, trainer.config, description, torch.device("cpu")), data


@pytest.fixture(scope="module")
def looked(seen_model: tuple[ZeroShotPredictor, DeviceData]) -> tuple[Evaluation, PromptVectors, Outcomes]:
    predictor, data = seen_model
    watched = Watched(len(data.classes))
    outcomes = predictor.tell(data, "test", UNSEEN.test, watched)
    return *look_closer(predictor, data, "test", outcomes, watched), outcomes


@pytest.fixture
def predicted(seen_model: tuple[ZeroShotPredictor, DeviceData]) -> tuple[np.ndarray, np.ndarray]:
    """Of each test image of a seen class its label, and the probabilities over the seen classes."""
    predictor, data = seen_model
    split = data.split("test", ())
    images = split.subset(np.arange(len(split))).images[:, 0].numpy()
    return split.labels.numpy(), predictor.predict(images, data.classes)


def test_the_table_of_mistakes_and_its_figures_are_those_of_each_image(
    looked: tuple[Evaluation, PromptVectors, Outcomes], predicted: tuple[np.ndarray, np.ndarray]
) -> None:
    evaluation, _, outcomes = looked
    labels, probabilities = predicted
    told = probabilities.argmax(axis=1)
    expected = np.zeros((4, 4), dtype=int)
    np.add.at(expected, (labels, told), 1)
    report = classification_report(labels, told, output_dict=True, zero_division=np.nan, labels=range(4))

    assert evaluation["classes"] == ["angry", "happy", "surprise", "neutral"]
    assert evaluation["confusion"] == expected.tolist() == outcomes.own[:4, :4].tolist()
    for name, figures in [*evaluation["per_class"].items(), ("macro avg", evaluation["macro"])]:
        of = report[str(evaluation["classes"].index(name)) if name in evaluation["classes"] else name]
        told_figures = [np.nan if figures[key] is None else figures[key] for key in ("precision", "recall", "f1")]
        assert told_figures == pytest.approx([of["precision"], of["recall"], of["f1-score"]], nan_ok=True), name
        assert figures["support"] == of["support"]


def test_the_most_confident_mistakes_come_first_with_their_pictures(
    looked: tuple[Evaluation, PromptVectors, Outcomes],
    seen_model: tuple[ZeroShotPredictor, DeviceData],
    predicted: tuple[np.ndarray, np.ndarray],
) -> None:
    mistakes, names = looked[0]["mistakes"], looked[0]["classes"]
    labels, probabilities = predicted
    told, highest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(told != labels)
    order = wrong[np.argsort(-highest[wrong], kind="stable")]
    pairs = [(labels[row], told[row]) for row in order]
    order = order[[pairs[:place].count(pair) < closer_look.MOST_ALIKE for place, pair in enumerate(pairs)]][:24]

    assert 6 < len(mistakes) == len(order) < len(wrong)
    assert [one["probability"] for one in mistakes] == pytest.approx(highest[order].tolist(), rel=1e-4)
    assert [one["probability_of_truth"] for one in mistakes] == pytest.approx(
        probabilities[order, labels[order]].tolist(), rel=1e-3
    )
    split = seen_model[1].split("test", ())
    first = int(order[0])
    assert (mistakes[0]["truth"], mistakes[0]["predicted"]) == (names[labels[first]], names[told[first]])
    shown = opened(mistakes[0]["picture"]).astype(float)
    differences = [np.abs(shown - image[0].numpy()).mean() for image in split.subset(np.arange(len(split))).images]
    assert int(np.argmin(differences)) == first


def test_there_are_samples_of_every_class_seen_or_not(looked: tuple[Evaluation, PromptVectors, Outcomes]) -> None:
    samples = looked[0]["samples"]
    counted = {
        name: sum(one["truth"] == name for one in samples) for name in dict.fromkeys(s["truth"] for s in samples)
    }

    assert counted == dict.fromkeys((*looked[0]["classes"], *UNSEEN.validation, *UNSEEN.test), 6)
    assert {one["truth"] for one in samples if not one["seen"]} == {*UNSEEN.validation, *UNSEEN.test}
    for one in samples:
        assert opened(one["picture"]).shape == (48, 48)
        assert len(one["guesses"]) == (3 if one["seen"] else 0)
        assert sorted((p for _, p in one["guesses"]), reverse=True) == [p for _, p in one["guesses"]]


def test_the_similarity_of_prompts_is_the_cosine_of_class_means_in_both_languages(
    looked: tuple[Evaluation, PromptVectors, Outcomes], seen_model: tuple[ZeroShotPredictor, DeviceData]
) -> None:
    evaluation, points, _ = looked
    found = evaluation["prompts"]
    assert found is not None
    assert (found["language"], found["seen"], len(found["classes"])) == ("both", 4, 8)
    assert np.diag(found["similarity"]) == pytest.approx(np.ones(8), abs=1e-3)
    classifier = seen_model[0].classifier(found["classes"])
    assert found["similarity"][1][6] == pytest.approx(float(classifier[1] @ classifier[6]), abs=1e-4)

    assert points["vectors"].shape == (len(points["rows"]), 16)
    assert np.linalg.norm(points["vectors"], axis=1) == pytest.approx(np.ones(len(points["rows"])), abs=1e-3)
    languages = [language for _, _, language, _ in points["rows"]]
    assert [languages.count(language) for language in ("en", "ko", "both")] == [8 * 6, 8 * 6, 8]
    assert ("공포", "fear", "ko", "unseen") in points["rows"]
    own = [vector for vector, row in zip(points["vectors"], points["rows"], strict=True) if row[1] == "happy"]
    mean = np.mean(own[:-1], axis=0)
    assert points["rows"][2 * 13 - 1] == ("happy (mean)", "happy", "both", "seen")
    assert own[-1] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-3)


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    outcomes = Outcomes(torch.tensor([[3, 0], [2, 0]]), torch.zeros(2, 2), torch.zeros(2), seen=2, loss=0.0)
    per_class, macro = closer_look._figures(outcomes, ["a", "b"])

    assert per_class["a"] == {"precision": 0.6, "recall": 1.0, "f1": 0.75, "support": 3}
    assert per_class["b"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 2}
    assert macro["support"] == 5


def batches(labels: Tensor) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    logits = torch.eye(3)[labels.clamp(max=1)] * 5
    for part in (slice(0, 2), slice(2, len(labels))):
        yield np.arange(len(labels))[part], labels[part], logits[part]


def test_images_of_unseen_classes_are_not_watched() -> None:
    watched = Watched(seen=2)
    for batch in batches(torch.tensor([0, 2, 1, 2])):
        watched(*batch)
    indices, labels, own, guesses, probabilities = watched.result()

    assert (indices.tolist(), labels.tolist()) == ([0, 2], [0, 1])
    assert guesses.tolist() == [[0, 1], [1, 0]]
    assert own == pytest.approx(probabilities[:, 0])
    assert [column.shape[0] for column in Watched(seen=2).result()] == [0] * 5


def test_large_pictures_in_colour_are_made_small() -> None:
    images = torch.zeros(2, 3, 224, 224, dtype=torch.uint8)
    images[1, 0] = 255
    split = DeviceSplit(images, torch.tensor([0, 1]), torch.device("cpu"))
    _, red = map(opened, closer_look._pictures(split, np.array([0, 1])))

    assert red.shape == (96, 96, 3)
    assert red[48, 48] == pytest.approx([255, 0, 0], abs=15)


def test_many_classes_have_one_picture_each_and_no_tables(
    seen_model: tuple[ZeroShotPredictor, DeviceData], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, data = seen_model
    monkeypatch.setattr(closer_look, "MOST_CLASSES", 3)
    monkeypatch.setattr(closer_look, "MOST_SAMPLES", 3)
    outcomes = Outcomes(torch.zeros(4, 4), torch.zeros(4, 4), torch.zeros(4), seen=4, loss=0.0)
    rows = closer_look._spread(np.arange(8) % 4, range(4), closer_look._each(data))

    assert closer_look._confusion(outcomes) is None
    assert closer_look._prompts(predictor, data)[0] is None
    assert rows.tolist() == [0, 1, 2]


def test_samples_are_spread_over_all_images_of_a_class() -> None:
    labels = np.repeat([0, 1, 2], [100, 2, 0])
    assert closer_look._spread(labels, range(3), 3).tolist() == [0, 49, 99, 100, 101]


def test_a_look_that_fails_costs_no_figure(
    seen_model: tuple[ZeroShotPredictor, DeviceData], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainable.slot.tasks import _told_and_looked_at

    def broken(*arguments: object) -> None:
        raise OSError("no JPEG here")

    monkeypatch.setattr(closer_look, "closed", broken)
    look, own = _told_and_looked_at(*seen_model, "test")

    assert isinstance(look, dict)
    assert (look["kind"], look["message"]) == ("OSError", "no JPEG here")
    assert int(own.own.sum()) == 40 + 10 + 40
