"""What a person wants to see of a model: where it errs, on which pictures, and how near its prompts lie.

`look_closer` gives what `best/evaluation.json` holds, and the prompts as vectors for TensorBoard.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor

from trainable.data.vocabulary import TEMPLATES
from trainable.training.device_data import DeviceData, DeviceSplit
from trainable.training.evaluation_file import (
    VERSION,
    ClassFigures,
    Evaluation,
    Mistake,
    PromptMap,
    PromptVectors,
    Sample,
    closed,
)
from trainable.training.predictor import ZeroShotPredictor
from trainable.training.zero_shot import Outcomes, class_vectors

MOST_MISTAKES, MOST_ALIKE = 24, 6
"""Of images of one class that were taken for the same other one there are at most `MOST_ALIKE`."""
MOST_SAMPLES = 120
SAMPLES_EACH = 6
"""Of a class, as long as all classes together have no more than `MOST_SAMPLES`."""
MOST_GUESSES = 3
MOST_CLASSES = 100
"""Tables with a row and a column per class are written for so many at most."""


class Watched:
    """What each image of a seen class was taken for, collected while a split is told (`zero_shot.Watch`)."""

    def __init__(self, seen: int) -> None:
        self._seen = seen
        self._parts: list[tuple[np.ndarray, ...]] = []

    def __call__(self, indices: np.ndarray, labels: Tensor, logits: Tensor) -> None:
        """Keep of each image of a seen class the likeliest of these."""
        known = labels < self._seen
        probabilities = logits[known, : self._seen].softmax(dim=1)
        top = probabilities.topk(min(MOST_GUESSES, self._seen), dim=1)
        own = probabilities.gather(1, labels[known, None])[:, 0]
        kept = (labels[known], own, top.indices, top.values)
        self._parts.append((indices[known.cpu().numpy()], *(tensor.cpu().numpy() for tensor in kept)))

    def result(self) -> tuple[np.ndarray, ...]:
        """Of M images: positions in the split (M,), labels (M,), the label's probability (M,), guesses (M, G) twice.

        The guesses come as labels and as their probabilities, the likeliest first.
        """
        if not self._parts:
            nothing = np.zeros(0, dtype=np.int64)
            return nothing, nothing, nothing, nothing[:, None], nothing[:, None]
        return tuple(np.concatenate(column) for column in zip(*self._parts, strict=True))


def look_closer(
    predictor: ZeroShotPredictor, data: DeviceData, split: str, outcomes: Outcomes, watched: Watched
) -> tuple[Evaluation, PromptVectors]:
    """Look at how a split was told, with its own group of unseen classes; `watched` watched that."""
    told, names = data.split(split), data.classes
    per_class, macro = _figures(outcomes, names)
    prompt_map, points = _prompts(predictor, data)
    evaluation = Evaluation(
        version=VERSION,
        split=split,
        classes=list(names),
        confusion=_confusion(outcomes),
        per_class=per_class,
        macro=macro,
        mistakes=_mistakes(told, names, watched),
        samples=[*_seen_samples(told, data, watched), *_unseen_samples(data, split)],
        prompts=prompt_map,
    )
    return evaluation, points


def _confusion(outcomes: Outcomes) -> list[list[int]] | None:
    S = outcomes.seen
    return outcomes.own[:S, :S].tolist() if S <= MOST_CLASSES else None


def _figures(outcomes: Outcomes, names: Sequence[str]) -> tuple[dict[str, ClassFigures], ClassFigures]:
    """Precision, recall and F1 of each seen class among these, and their means over the classes."""
    S = outcomes.seen
    truth, predicted = (grid.ravel() for grid in np.indices((S, S)))
    counts = outcomes.own[:S, :S].numpy().ravel()
    settings: dict[str, Any] = {"labels": range(S), "sample_weight": counts, "zero_division": np.nan}
    each = np.transpose(precision_recall_fscore_support(truth, predicted, **settings)[:3])  # (S, 3)
    mean = precision_recall_fscore_support(truth, predicted, average="macro", **settings)[:3]
    support = outcomes.own[:S].sum(dim=1).tolist()
    per_class = {name: _class_figures(*row) for name, row in zip(names, zip(each, support, strict=True), strict=True)}
    return per_class, _class_figures(mean, sum(support))


def _class_figures(shares: Iterable[float], support: int) -> ClassFigures:
    """None for a share of nothing, such as the precision of a class that was never predicted."""
    precision, recall, f1 = (None if np.isnan(share) else float(share) for share in shares)
    return ClassFigures(precision=precision, recall=recall, f1=f1, support=support)


def _mistakes(told: DeviceSplit, names: Sequence[str], watched: Watched) -> list[Mistake]:
    """The images of seen classes that were taken for another with the highest probability, that first."""
    indices, labels, own, guesses, probabilities = watched.result()
    wrong = np.flatnonzero(guesses[:, 0] != labels)
    order = wrong[np.argsort(-probabilities[wrong, 0], kind="stable")]
    pairs = zip(labels[order].tolist(), guesses[order, 0].tolist(), strict=True)
    worst = order[_first_of_each(pairs, MOST_ALIKE)][:MOST_MISTAKES]
    return [
        Mistake(
            truth=names[labels[row]],
            predicted=names[guesses[row, 0]],
            probability=float(probabilities[row, 0]),
            probability_of_truth=float(own[row]),
            picture=picture,
        )
        for row, picture in zip(worst.tolist(), _pictures(told, indices[worst]), strict=True)
    ]


def _first_of_each(keys: Iterable[Hashable], most: int) -> list[int]:
    """Where each key stands for the first time, the second, and so on up to `most` times."""
    met: Counter[Hashable] = Counter()
    places = []
    for place, key in enumerate(keys):
        met[key] += 1
        if met[key] <= most:
            places.append(place)
    return places


def _seen_samples(told: DeviceSplit, data: DeviceData, watched: Watched) -> Iterator[Sample]:
    indices, labels, _, guesses, probabilities = watched.result()
    rows = _spread(labels, range(len(data.classes)), _each(data))
    for row, picture in zip(rows.tolist(), _pictures(told, indices[rows]), strict=True):
        likeliest = zip(guesses[row], probabilities[row], strict=True)
        said = [(data.classes[guess], float(probability)) for guess, probability in likeliest]
        yield Sample(truth=data.classes[labels[row]], seen=True, guesses=said, picture=picture)


def _unseen_samples(data: DeviceData, split: str) -> Iterator[Sample]:
    seen = len(data.classes)
    for group in filter(None, (data.unseen.validation, data.unseen.test)):
        images = data.split(split, group)
        labels = images.labels.cpu().numpy()
        rows = _spread(labels, range(seen, seen + len(group)), _each(data))
        for label, picture in zip(labels[rows], _pictures(images, rows), strict=True):
            yield Sample(truth=group[label - seen], seen=False, guesses=[], picture=picture)


def _each(data: DeviceData) -> int:
    """How many pictures a class has."""
    classes = len(_all_classes(data))
    return min(SAMPLES_EACH, max(1, MOST_SAMPLES // classes))


def _spread(labels: np.ndarray, wanted: Sequence[int], each: int) -> np.ndarray:
    """Positions of `each` images of each wanted label, evenly over all that it has, for the first `MOST_SAMPLES`."""
    found = [np.flatnonzero(labels == label) for label in wanted]
    picked = [rows[np.unique(np.linspace(0, len(rows) - 1, each).astype(int))] for rows in found if len(rows)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *picked])[:MOST_SAMPLES]


def _pictures(split: DeviceSplit, indices: np.ndarray) -> list[str]:
    """Images of a split as `data:` addresses of small JPEGs."""
    images = split.subset(indices).images.permute(0, 2, 3, 1).cpu().numpy()  # (M, H, W, channels)
    return [closed(image[:, :, 0] if image.shape[2] == 1 else image) for image in images]


def _prompts(predictor: ZeroShotPredictor, data: DeviceData) -> tuple[PromptMap | None, PromptVectors]:
    """The cosine similarity of the classes, and every prompt with the means of each class, which images meet."""
    names, seen = _all_classes(data), len(data.classes)
    texts, vectors = predictor.prompt_vectors(names)  # [C][P], (C, P, D)
    means = class_vectors(vectors)  # (C, D)
    rows: list[tuple[str, str, str, str]] = []
    for place, (name, own) in enumerate(zip(names, texts, strict=True)):
        kind = "seen" if place < seen else "unseen"
        rows += [(text, name, language, kind) for text, language in zip(own, _languages(predictor), strict=True)]
        rows.append((f"{name} (mean)", name, predictor.config.language, kind))
    points = torch.cat([vectors, means[:, None]], dim=1).flatten(0, 1)
    shown = PromptVectors(rows=rows, vectors=points.float().cpu().numpy())
    return _prompt_map(predictor, names, seen, means) if len(names) <= MOST_CLASSES else None, shown


def _prompt_map(predictor: ZeroShotPredictor, names: list[str], seen: int, means: Tensor) -> PromptMap:
    similarity = (means @ means.T).clamp(-1, 1).cpu().numpy().astype(np.float64)
    rows: list[list[float]] = similarity.round(4).tolist()
    return PromptMap(language=predictor.config.language, classes=names, seen=seen, similarity=rows)


def _languages(predictor: ZeroShotPredictor) -> list[str]:
    """The language of each prompt of a class."""
    spoken = predictor.config.language
    return [each for each, templates in TEMPLATES.items() if spoken in (each, "both") for _ in templates]


def _all_classes(data: DeviceData) -> list[str]:
    return [*data.classes, *data.unseen.validation, *data.unseen.test]
