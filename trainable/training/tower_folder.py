"""A pretrained text tower as a folder: weights, tokenizer, and what they are worth."""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trainable.data.kote import LABELS, Kote
from trainable.data.vocabulary import label_words
from trainable.files import write_json
from trainable.training.text_pretraining import TextPretrainer
from trainable.training.text_quality import Baseline, Quality, Scores, label_correlation, rank_agreement


def write_tower(
    out: Path, pretrainer: TextPretrainer, comments: Kote, baseline: Baseline, rivals: Mapping[str, Quality]
) -> float:
    """Write the folder `out`, which must not exist, whole or not at all.

    Returns the rank correlation of the prompts' similarities with the labels' correlations over all comments.
    """
    features = pretrainer.label_features()
    similarity = (features @ features.T).numpy()
    correlation = label_correlation(np.concatenate([part.labels for part in comments[:3]]))
    agreement = rank_agreement(similarity, correlation)
    document = {
        "quality": {name: quality.to_dict() for name, quality in rivals.items()},
        "labels": {
            "rank_correlation": agreement,
            "names": list(LABELS),
            "similarity": similarity.round(4).tolist(),
            "correlation": correlation.round(4).tolist(),
        },
        "comments": {
            "source": comments.source,
            "train": len(comments.train),
            "held_out": len(comments.held_out),
            "test": len(comments.test),
        },
        "baseline": dataclasses.asdict(baseline),
        "options": dataclasses.asdict(pretrainer.options),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        tower: Any = pretrainer.matcher.tower
        tower.backbone.save_pretrained(folder)
        tower.tokenizer.save_pretrained(folder)
        write_json(folder / "quality.json", document)
        draw_labels(folder / "labels.png", similarity, correlation, agreement)
        folder.rename(out)
    return agreement


def draw_labels(file: Path, similarity: Scores, correlation: Scores, agreement: float) -> None:
    """Draw both matrices side by side, labels in English, in the order of the first axis of the correlations."""
    order = np.argsort(np.linalg.eigh(correlation)[1][:, -1])
    names = [label_words(LABELS[row], "en") for row in order]
    figure = Figure(figsize=(19, 10), layout="constrained")
    titles = ("cosine similarity of the labels' prompts", "correlation of the labels over the comments")
    for axes, title, matrix in zip(figure.subplots(1, 2), titles, (similarity, correlation), strict=True):
        off_diagonal = np.abs(matrix - np.diag(np.diag(matrix))).max()
        image = axes.imshow(matrix[np.ix_(order, order)], cmap="RdBu_r", vmin=-off_diagonal, vmax=off_diagonal)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_title(title)
        figure.colorbar(image, ax=axes, shrink=0.7)
    figure.suptitle(f"KOTE's 44 labels: rank correlation of the two {agreement:.2f}")
    figure.savefig(file, dpi=100)
