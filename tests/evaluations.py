"""What a best model made of a test split, to fake."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

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

SEEN = ("angry", "happy", "sad")
UNSEEN = ("happily_surprised",)


def evaluation(
    seen: Sequence[str] = SEEN, unseen: Sequence[str] = UNSEEN, side: int = 48, channels: int = 1
) -> Evaluation:
    """Of each seen class 8 images were told right, and of all but the last 2 were taken for the next one."""
    rng, count, names = np.random.default_rng(0), len(seen), [*seen, *unseen]
    wrong = [2] * (count - 1) + [0]
    confusion = np.diag([8] * count) + np.diag(wrong[:-1], k=1)
    recalls = [8 / (8 + lost) for lost in wrong]
    figures = [
        ClassFigures(precision=0.8, recall=r, f1=0.75, support=8 + w) for r, w in zip(recalls, wrong, strict=True)
    ]
    figures[0]["precision"] = None
    similarity = np.eye(len(names)) * 0.75 + 0.25

    def picture() -> str:
        shape = (side, side) if channels == 1 else (side, side, channels)
        return closed(rng.integers(0, 256, shape, dtype=np.uint8))

    return Evaluation(
        version=VERSION,
        split="test",
        classes=list(seen),
        confusion=confusion.tolist(),
        per_class=dict(zip(seen, figures, strict=True)),
        macro=ClassFigures(precision=0.8, recall=0.85, f1=0.75, support=int(confusion.sum())),
        mistakes=[
            Mistake(truth=a, predicted=b, probability=0.9 - i / 8, probability_of_truth=0.05, picture=picture())
            for i, (a, b) in enumerate(pairwise(seen))
        ],
        samples=[
            Sample(
                truth=name,
                seen=name in seen,
                guesses=[(name, 0.75), (seen[0], 0.125)] if name in seen else [],
                picture=picture(),
            )
            for name in names
            for _ in range(2)
        ],
        prompts=PromptMap(language="both", classes=names, seen=count, similarity=similarity.tolist()),
    )


def points(count: int = 5, dimensions: int = 4) -> PromptVectors:
    """Prompts of one class, in Korean."""
    vectors = np.random.default_rng(0).normal(size=(count, dimensions)).astype(np.float32)
    rows = [(f"행복한 얼굴 {number}", "happy", "ko", "seen") for number in range(count)]
    return PromptVectors(rows=rows, vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
