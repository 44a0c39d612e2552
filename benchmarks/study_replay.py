"""Why the original study did not learn: its small set-up on FER-2013, changed into Glance's one step at a time.

    nice -n 10 python benchmarks/study_replay.py --data-path PATH --rows rows.jsonl --plot FILE.png

The study trained on 256 images in batches of 7. Its sampler was to put one image of each emotion into a batch, but
shuffled the images of all emotions together; its targets were CLIP's, image i belongs to text i and to no other.
`STUDY` is that, `CHANGES` leads from it to Glance, each change on top of those before it. Every training sees as many
images (27 epochs of 256, as the study's did), but for the last change. `WITHOUT` takes one change back from the end of
the ladder, `ALONE` adds one to the study, because changes depend on each other.

Each training is a line of `--rows`, and one that stands there is not made again: an interrupted run goes on, and seeds
may run side by side (`--seeds 0`, `--seeds 1`). Prints a table of means over the seeds, deviations and the seeds'
values, and as the last line one JSON object.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from search.experiment import hardware, versions
from trainable.config import TrialConfig
from trainable.data.preparation import prepare_store
from trainable.data.source import PrepareOptions
from trainable.data.store import Store
from trainable.data.vocabulary import label_words
from trainable.errors import run_command
from trainable.model.dual_encoder import DualEncoder
from trainable.training.device_data import DeviceData, DeviceSplit
from trainable.training.trainer import Trainer, build_optimizer
from trainable.training.zero_shot import PromptTokens, metrics_of, tell_images, zero_shot_classifier

IMAGE_SIZE = 24
SMALL = 256
"""Images of the study's training set."""
SEEN = 27 * SMALL
"""Images that a training sees, repeats included."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a model is trained; everything else is the same for all."""

    balanced: bool = False
    """Batches with equally many images of each class, or cut from all images shuffled."""
    log_scale: bool = False
    """Whether similarities are multiplied by the exponential of `logit_scale`, clamped to [0, ln 100], or by itself."""
    batch_size: int = 7
    loss: str = "clip"
    warmed_up: bool = False
    """Whether the learning rate rises over the first tenth and falls by a cosine, or stays as it is."""
    learning_rate: float = 1e-4
    text_learning_rate_factor: float = 1.0
    images: int = SMALL
    """Training images; 0 is all."""
    times_seen: int = 1
    """How many times `SEEN` images are seen."""

    def config(self, seed: int, seen: int = SEEN) -> TrialConfig:
        """The trial: one epoch is the whole training."""
        return TrialConfig(
            logit_scale=2.5,
            loss=self.loss,
            batch_size=self.batch_size,
            epoch_samples=self.times_seen * seen,
            max_epochs=1,
            learning_rate=self.learning_rate,
            text_learning_rate_factor=self.text_learning_rate_factor,
            augmentation=0.0,
            precision="float32",
            seed=seed,
        )


STUDY = Setup()
CHANGES: dict[str, dict[str, Any]] = {
    "balanced batches": {"balanced": True},
    "scale in log space": {"log_scale": True},
    "batches of 64": {"batch_size": 64},
    "multi-positive targets": {"loss": "multipositive"},
    "warm-up and cosine": {"warmed_up": True},
    "rates for towers from scratch": {"learning_rate": 2e-3, "text_learning_rate_factor": 0.1},
    "all training images": {"images": 0},
    "four times as many images seen": {"times_seen": 4},
}
TAKEN_BACK = tuple(CHANGES)[:2] + tuple(CHANGES)[3:6]
"""Of the others, the batch of 64 would take as long as the study, and all images are the last step of the ladder."""


def changed(setup: Setup, names: Sequence[str]) -> Setup:
    """A set-up with some of the changes made."""
    return reduce(lambda made, name: replace(made, **CHANGES[name]), names, setup)


def ladder() -> dict[str, Setup]:
    """The study, and each change on top of those before it."""
    names = list(CHANGES)
    return {"the study": STUDY} | {f"+ {name}": changed(STUDY, names[: i + 1]) for i, name in enumerate(names)}


LADDER = ladder()
EQUAL = list(CHANGES)[:-1]
"""The changes under which as many images are seen."""
WITHOUT = {f"without {name}": changed(STUDY, [one for one in EQUAL if one != name]) for name in TAKEN_BACK}
ALONE = {
    f"the study with {name} alone": changed(STUDY, [name]) for name in ("multi-positive targets", "all training images")
}
SETUPS = {**LADDER, **WITHOUT, **ALONE}


class ShuffledSampler:
    """The study's batches: all labels' indices in one list, shuffled, and cut. What is left over is dropped."""

    def __init__(self, labels: np.ndarray, batch_size: int, *, epoch_samples: int, seed: int) -> None:
        self.steps = epoch_samples // batch_size
        self._by_label = np.concatenate([np.flatnonzero(labels == label) for label in np.unique(labels)])
        self._batch_size, self._seed = batch_size, seed

    def epoch(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield `steps` arrays (B,) of row numbers, pass after pass over all images."""
        rng = np.random.default_rng((self._seed, epoch))
        whole = len(self._by_label) // self._batch_size
        for step in range(self.steps):
            if step % whole == 0:
                shuffled = rng.permutation(self._by_label)
            start = step % whole * self._batch_size
            yield shuffled[start : start + self._batch_size]


class PlainScaleEncoder(DualEncoder):
    """A dual encoder whose logit scale multiplies the similarities as it is, without a clamp."""

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """As the dual encoder's; the losses take the exponential of the scale, so it is handed on as its logarithm."""
        *features, scale, bias = super().forward(images, tokens, mask)
        return features[0], features[1], scale.log(), bias

    def clamp_logit_scale(self) -> None:
        """Leave the scale as it is."""


class SomeData(DeviceData):
    """A store of which training has few images, drawn at random by a seed, or all."""

    def __init__(self, store: Store, images: int, *, seed: int) -> None:
        super().__init__(store, torch.device("cpu"))
        whole = super().split("train")
        rows = np.random.default_rng(seed).choice(len(whole), min(SMALL, len(whole)), replace=False)
        self.small = whole.subset(rows)
        """The study's images, whether training has them alone or all."""
        self._is_small = images > 0

    def split(self, name: str, group: tuple[str, ...] | None = None) -> DeviceSplit:
        """A split of the store, or the few training images."""
        return self.small if name == "train" and self._is_small else super().split(name, group)


class StudyTrainer(Trainer):
    """A trainer, with what the study did otherwise; a class has one prompt, its word."""

    def __init__(self, setup: Setup, data: SomeData, seed: int, seen: int = SEEN) -> None:
        self.setup = setup
        config = setup.config(seed, seen)
        super().__init__(config, data)
        words = [[label_words(name, config.language)] for name in data.classes]
        self.prompts = PromptTokens.of(self.model, words, self.device)
        if not setup.balanced:
            self.sampler = ShuffledSampler(  # type: ignore[assignment]
                data.split("train").labels.numpy(), config.batch_size, epoch_samples=config.epoch_samples, seed=seed
            )
        if not setup.log_scale:
            self._take_plain_scale()

    def _take_plain_scale(self) -> None:
        model, (mean, std) = self.model, self.data.pixel_statistics
        plain = PlainScaleEncoder(
            model.image_tower, model.text_tower, self.config, mean=mean, std=std, classes=len(self.data.classes)
        )
        plain.load_state_dict(model.state_dict())
        self.model = plain
        self.optimizer = build_optimizer(plain, self.config)
        self._objective = replace(self._objective, model=plain)

    def _rate(self, step: int) -> float:
        return super()._rate(step) if self.setup.warmed_up else self.config.learning_rate

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Accuracies on validation and on the study's training images, and how alike the classes' texts have become."""
        self.model.eval()
        classifier = zero_shot_classifier(self.model, self.prompts)  # (C, D)
        C = len(classifier)
        on = {"val": self.data.split("validation"), "small": self.data.small}  # type: ignore[attr-defined]
        told = {name: metrics_of(tell_images(self.model, split, classifier, seen=C)) for name, split in on.items()}
        alike = (classifier @ classifier.T)[~torch.eye(C, dtype=torch.bool)].mean()
        return {
            **{f"{name}_{key}": told[name][key] for name in on for key in ("accuracy", "balanced_accuracy")},
            "predicted_classes": told["val"]["predicted_classes"],
            "text_cosine": float(alike),
        }


def train(setup: Setup, store: Store, seed: int, seen: int = SEEN) -> dict[str, float]:
    """Train and measure; how long it took is processor time."""
    torch.set_num_threads(1)
    started = time.process_time()
    trainer = StudyTrainer(setup, SomeData(store, setup.images, seed=seed), seed, seen)
    trained = trainer.train_epoch()
    counts = {"steps": trainer.state.step, "images_seen": trainer.state.samples_seen}
    measured = trainer.measure()
    return {**counts, "train_loss": trained["train_loss"], **measured, "cpu_seconds": time.process_time() - started}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Why the original study did not learn, one change at a time.")
    add = parser.add_argument
    add("--data-path", required=True, help="FER-2013, in any edition that --dataset fer2013 reads, or a store of it")
    add("--seeds", default=[0, 1, 2, 3, 4], type=_numbers, help="default: 0,1,2,3,4")
    add("--setups", default=list(SETUPS), type=_names, help="names, separated by semicolons (default: all)")
    add("--rows", required=True, type=Path, help="where the trainings are kept, one a line")
    add("--plot", type=Path, help="a PNG of the accuracies")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.setups if name not in SETUPS]
    if unknown:
        parser.error(f"--setups must be among {'; '.join(SETUPS)}, but got {unknown[0]!r}")
    return run_command(lambda: _replay(arguments))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _replay(arguments: argparse.Namespace) -> int:
    path = prepare_store("fer2013", arguments.data_path, options=PrepareOptions(image_size=IMAGE_SIZE))
    store = Store.open(path)
    for seed in arguments.seeds:
        for name in arguments.setups:
            if not any(_is(row, name, seed) for row in read_rows(arguments.rows)):
                row = {"name": name, "seed": seed, "setup": asdict(SETUPS[name])} | train(SETUPS[name], store, seed)
                with arguments.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    rows = read_rows(arguments.rows)
    Console(width=160).print(table_of(rows, len(store.manifest.classes)))
    if arguments.plot is not None:
        draw(rows, arguments.plot, chance=1 / len(store.manifest.classes))
    print(json.dumps({"rows": rows, "hardware": hardware(), "versions": versions()}))
    return 0


def _is(row: Mapping[str, Any], name: str, seed: int) -> bool:
    """Whether a row is of that training, made as the set-up is now."""
    return bool(row["name"] == name and row["seed"] == seed and row["setup"] == asdict(SETUPS[name]))


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The trainings that are kept in a file; none where there is no file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def values(rows: Sequence[Mapping[str, Any]], name: str, key: str) -> list[float]:
    """A measure of one set-up, by seed."""
    found = {row["seed"]: row[key] for row in rows if _is(row, name, row["seed"])} if name in SETUPS else {}
    return [found[seed] for seed in sorted(found)]


def _spread(found: Sequence[float]) -> str:
    deviation = statistics.stdev(found) if len(found) > 1 else float("nan")
    return f"{statistics.mean(found):.3f} ± {deviation:.3f}"


def table_of(rows: Sequence[Mapping[str, Any]], classes: int) -> Table:
    """Means and standard deviations over the seeds, and each seed's accuracy on validation."""
    keys = ("val_accuracy", "val_balanced_accuracy", "small_accuracy", "text_cosine")
    table = Table("", *keys, "predicted", "seeds' val_accuracy", title=f"guessing: {1 / classes:.3f}")
    for group in (LADDER, WITHOUT, ALONE):
        for name in group:
            if accuracies := values(rows, name, "val_accuracy"):
                spreads = [_spread(values(rows, name, key)) for key in keys]
                predicted = f"{statistics.mean(values(rows, name, 'predicted_classes')):.1f}"
                table.add_row(name, *spreads, predicted, " ".join(f"{value:.3f}" for value in accuracies))
        table.add_section()
    return table


def draw(rows: Sequence[Mapping[str, Any]], file: Path, *, chance: float) -> None:
    """One line of points for each set-up: every seed, and the mean."""
    names = [name for name in SETUPS if values(rows, name, "val_accuracy")]
    figure = Figure(figsize=(11, 1.2 + 0.42 * len(names)), layout="constrained")
    panels = {
        "val_balanced_accuracy": "balanced accuracy on validation",
        "small_accuracy": "accuracy on the 256 images",
    }
    every = figure.subplots(1, 2, sharey=True)
    for axes, (key, label) in zip(every, panels.items(), strict=True):
        for i, name in enumerate(names):
            found = values(rows, name, key)
            colour = "tab:blue" if name in LADDER else "tab:orange"
            axes.scatter(found, [i] * len(found), color=colour, s=14, alpha=0.5)
            axes.scatter(statistics.mean(found), i, color=colour, marker="|", s=260, linewidths=2.5)
        axes.axvline(chance, color="grey", linestyle="--", linewidth=1)
        axes.annotate("guessing", (chance, -0.7), color="grey", xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    every[0].set_yticks(range(len(names)), names)
    every[0].set_ylim(len(names) - 0.5, -1.1)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
