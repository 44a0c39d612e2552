"""Two emotions of FER-2013 that a model was never trained on: which label vectors tell them apart, for all 21 pairs.

    python -m benchmarks.leave_two_out --data-path PATH --kote PATH --text-tower TOWER --runs FOLDER --seeds 0
    python -m benchmarks.leave_two_out ... --seeds "" --rows rows.json --plot leave_two_out.png

For each pair and seed a small image tower is trained end to end on the other five classes, against random label
vectors, so that it knows nothing of their names. Locked (as in LiT, arXiv 2111.07991), it then serves every kind of
text tower alike: only heads and text tower are trained, and what differs between kinds is the text's doing alone. Each
training is kept in a file of its own in `--runs`; what is there is not trained again, so that an interrupted run goes
on. From these files the figures are computed, all on the test split (PrivateTest). Validation is not used, and nothing
is chosen by any figure. Prints tables and, as the last line, one JSON object.

Trained: `scratch`, a text tower from scratch; `kote`, a tower of `trainable/pretrain_text.py`, frozen, and
`kote trained`; fixed vectors below a learnt head: `correlation`, each class's row in the correlation matrix of KOTE's
44 labels; `action units`, each class's facial action units (Du et al. 2014); `random`, drawn anew for each pair and
seed. Computed from the tower, without a head: ConSE (Norouzi et al., arXiv 1312.5650) and ESZSL (Romera-Paredes and
Torr, ICML 2015) with each kind of vectors.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.unseen_pair import (
    MEASURES,
    Outcome,
    Vectors,
    centred_accuracy,
    conse,
    eszsl,
    figures_of,
    mean_of,
    summarise,
    with_seen_scores,
)
from search.experiment import hardware, versions
from trainable.config import TrialConfig
from trainable.data.action_units import BASIC_PROTOTYPES
from trainable.data.kote import LABELS, read_kote
from trainable.data.preparation import prepare_store
from trainable.data.sampler import BalancedSampler
from trainable.data.source import PrepareOptions
from trainable.data.store import Store
from trainable.data.unseen import UnseenClasses
from trainable.data.vocabulary import VOCABULARIES, prompts
from trainable.errors import ExperimentError, run_command
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.model.label_vectors import write_label_vectors
from trainable.model.loss import Comparison, Pairs, contrastive_loss
from trainable.model.towers import build_text_tower
from trainable.training.device_data import DeviceData, DeviceSplit
from trainable.training.schedule import learning_rate
from trainable.training.text_quality import label_correlation
from trainable.training.trainer import Trainer, build_optimizer
from trainable.training.zero_shot import EVALUATION_BATCH, PromptTokens, zero_shot_classifier

CLASSES = VOCABULARIES["basic7"]
PAIRS = tuple(itertools.combinations(CLASSES, 2))
NAMES = tuple(" / ".join(pair) for pair in PAIRS)
IN_KOTE = dict(
    zip(CLASSES, ("화남/분노", "역겨움/징그러움", "공포/무서움", "행복", "슬픔", "놀람", "없음"), strict=True)
)
"""The label of KOTE that says each class."""
CPU = torch.device("cpu")
OPTIONS = PrepareOptions(image_size=24, channels=1)
HEADS = {"learning_rate": 5e-3, "batch_size": 128, "epoch_samples": 15_000}
"""How heads and text towers are trained, over the images that stand for training."""
TOWER = "tower"
TRAINED = ("scratch", "kote", "correlation", "random", "action units", "kote trained")
FIXED = ("correlation", "random", "action units")
KNOWN = ("correlation", "components", "kote", "action units")
"""Label vectors that ConSE and ESZSL are computed with, beside random ones."""
LANGUAGE = "ko"
"""Of all prompts, since the tower of KOTE knows Korean best."""
METHODS = {"ConSE": conse, "ESZSL": eszsl}
RANDOM_WIDTH = 44
RANDOM_DRAWS = 20
"""Random tables that stand for chance with ConSE and ESZSL."""
PER_CLASS = 389
"""Training images of each seen class that stand for training where it is looked at again; disgust has no more."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = parse(argv)
    return run_command(lambda: _compare(arguments))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description="Which label vectors tell two unseen emotions apart.")
    add = parser.add_argument
    add("--data-path", required=True, help="FER-2013, in any edition that --dataset fer2013 reads")
    add("--kote", required=True, help="the folder of KOTE")
    add("--text-tower", required=True, help="what trainable/pretrain_text.py wrote")
    add("--runs", required=True, type=Path, help="where each training's outcome is kept")
    add("--seeds", default="0", help='trainings to be done, with commas; "" for none (default: %(default)s)')
    add("--images", type=int, default=8_000, help="images that an image tower is trained on (default: %(default)s)")
    add("--part", default="0/1", metavar="K/N", help="every Nth pair from K on, so that N may run side by side")
    add("--permutations", type=int, default=200, help="of the label vectors, as a test (default: %(default)s)")
    add("--rows", type=Path, help="where the figures of all runs go, as JSON")
    add("--plot", type=Path, help="a PNG of every pair")
    return parser.parse_args(argv)


def _compare(arguments: argparse.Namespace) -> int:
    vectors = label_vectors(arguments.kote, arguments.text_tower)
    _train_all(arguments, vectors)
    figures = _figures_of_all(arguments.runs, vectors)
    summary = {method: summarise(by_pair, figures[random_like(method)]) for method, by_pair in figures.items()}
    Console().print(_summary_table(summary))
    Console().print(_pair_table(figures))
    tests = _permutation_tests(arguments.runs, vectors, arguments.permutations)
    print("centred: share of permuted label vectors that do as well:", tests)
    if arguments.rows:
        arguments.rows.write_text(
            json.dumps({"summary": summary, "permutation_tests": tests, "pairs": figures}, indent=1) + "\n"
        )
    if arguments.plot:
        _draw(arguments.plot, figures)
    print(json.dumps({"summary": summary, "hardware": hardware(), "versions": versions()}))
    return 0


def label_vectors(kote: str, text_tower: str) -> dict[str, Vectors]:
    """Each kind of vectors that is known beforehand: class -> vector."""
    parts = read_kote(kote)[:3]
    correlation = label_correlation(np.concatenate([part.labels for part in parts]))
    values, axes = np.linalg.eigh(correlation)
    components = axes[:, -3:] * np.sqrt(values[-3:])  # (44, 3): the widest axes, pleasure first in size
    rows = {name: LABELS.index(label) for name, label in IN_KOTE.items()}
    units = {name: prototype.probabilities() for name, prototype in BASIC_PROTOTYPES.items()}
    return {
        "correlation": {name: correlation[row] for name, row in rows.items()},
        "components": {name: components[row] for name, row in rows.items()},
        "kote": _prompt_vectors(text_tower),
        "action units": {name: np.append(active, not active.any()) for name, active in units.items()},
    }


@torch.no_grad()
def _prompt_vectors(text_tower: str) -> Vectors:
    tower = build_text_tower(text_tower, pretrained=True).eval()
    lines = prompts(CLASSES, LANGUAGE)
    features = [tower(*tower.tokenize(some)).double() for some in lines]
    return {name: F.normalize(some, dim=-1).mean(dim=0).numpy() for name, some in zip(CLASSES, features, strict=True)}


def _random_vectors(*seed: int) -> Vectors:
    return dict(zip(CLASSES, np.random.default_rng(seed).normal(size=(len(CLASSES), RANDOM_WIDTH)), strict=True))


def _train_all(arguments: argparse.Namespace, vectors: dict[str, Vectors]) -> None:
    arguments.runs.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in arguments.seeds.split(",") if seed]
    store = Store.open(prepare_store("fer2013", arguments.data_path, options=OPTIONS)) if seeds else None
    part, parts = map(int, arguments.part.split("/"))
    for seed, number in itertools.product(seeds, range(part, len(PAIRS), parts)):
        for variant in (TOWER, *TRAINED):
            file = _file(arguments.runs, variant, number, seed)
            if store is None or file.exists():
                continue
            with tempfile.TemporaryDirectory(dir=arguments.runs) as scratch:
                folder = Path(scratch)
                known = _random_vectors(seed, number, TRAINED.index(variant)) if variant == "random" else None
                config = config_of(variant, arguments, known or vectors.get(variant), folder / "tower", seed)
                if variant == TOWER:
                    outcome = _train_tower(config, DeviceData(store, CPU, UnseenClasses(test=PAIRS[number])))
                else:
                    outcome = train_heads(config, _read(_file(arguments.runs, TOWER, number, seed)))
                np.savez(folder / "run.npz", **outcome)  # type: ignore[arg-type]
                (folder / "run.npz").rename(file)
            print(file.name, f"{time.process_time():.1f} CPU seconds so far", flush=True)


def _file(runs: Path, variant: str, number: int, seed: int) -> Path:
    return runs / f"{variant.replace(' ', '_')}-{number:02}-{seed}.npz"


def _read(file: Path) -> Outcome:
    with np.load(file) as archive:
        return dict(archive)


def config_of(
    variant: str, arguments: argparse.Namespace, vectors: Vectors | None, folder: Path, seed: int
) -> TrialConfig:
    """The config of one training; kinds differ in the text tower alone. Writes the folder of fixed vectors.

    All draw their heads alike, as `pretrained` draws what it has no weights for.
    """
    same: dict[str, Any] = {"seed": seed, "max_epochs": 1, "language": LANGUAGE}
    if variant == TOWER:
        write_label_vectors(folder, _random_vectors(seed))
        same |= {"epoch_samples": arguments.images}
        return TrialConfig(text_tower=str(folder), weight_init="pretrained", freeze="text", **same)
    same |= HEADS
    if variant == "scratch":
        return TrialConfig(weight_init="trunc_normal", **same)
    if variant in FIXED and vectors is not None:
        write_label_vectors(folder, vectors)
    tower = str(folder) if variant in FIXED else arguments.text_tower
    freeze = "none" if variant == "kote trained" else "text"
    return TrialConfig(text_tower=tower, weight_init="pretrained", freeze=freeze, **same)


def _train_tower(config: TrialConfig, data: DeviceData) -> Outcome:
    """Train end to end; keep features (N, width) and logits (N, 5) of the test images and of some of training."""
    trainer = Trainer(config, data)
    trainer.train_epoch()
    model = trainer.model.eval()
    classifier = zero_shot_classifier(model, PromptTokens.of(model, prompts(data.classes, LANGUAGE), CPU))
    outcome: Outcome = {"classes": np.array((*data.classes, *data.unseen.test))}
    for split, rows in (("train", _some_of_each(data.split("train"))), ("test", np.arange(len(data.split("test"))))):
        features, embedded = _encode(trainer, data.split(split), rows)
        logits = model.logit_scale.detach().exp() * embedded @ classifier.T
        outcome |= {f"{split}_features": features.numpy(), f"{split}_logits": logits.numpy()}
        outcome[f"{split}_labels"] = data.split(split).labels[torch.from_numpy(rows)].numpy()
    return outcome


def train_heads(config: TrialConfig, tower: Outcome) -> Outcome:
    """Train heads and text tower on the tower's features; keep the logits (N, 7) over all classes, the unseen last."""
    names = [str(name) for name in tower["classes"]]
    model = build_dual_encoder(config, image_size=24, channels=1, mean=0, std=1, classes=len(names) - 2).train()
    filled = PromptTokens.of(model, prompts(names, LANGUAGE), CPU)
    optimizer, labels = build_optimizer(model, config), tower["train_labels"]
    sampler = BalancedSampler(labels, config.batch_size, epoch_samples=config.epoch_samples, seed=config.seed)
    features, random = torch.from_numpy(tower["train_features"]), torch.Generator().manual_seed(config.seed)
    for step, rows in enumerate(sampler.epoch(0)):
        rate = learning_rate(step, sampler.steps, peak=config.learning_rate, warmup_steps=sampler.steps // 10)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        seen = range(len(names) - 2)
        template = torch.randint(filled.tokens.shape[1], (len(seen),), generator=random)
        texts = model.encode_texts(filled.tokens[seen, template], filled.mask[seen, template])
        own = torch.from_numpy(labels[rows])
        pairs = Pairs(F.normalize(model.image_head(features[rows]), dim=-1), texts[own], own)
        optimizer.zero_grad()
        contrastive_loss(config.loss, Comparison.within(pairs), model.logit_scale.sum()).backward()
        optimizer.step()
        model.clamp_logit_scale()
    return {f"{split}_logits": _logits(model.eval(), filled, tower[f"{split}_features"]) for split in ("train", "test")}


@torch.no_grad()
def _logits(model: DualEncoder, filled: PromptTokens, features: Any) -> Any:
    embedded = F.normalize(model.image_head(torch.from_numpy(features)), dim=-1)
    return (model.logit_scale.exp() * embedded @ zero_shot_classifier(model, filled).T).numpy()


def _some_of_each(split: DeviceSplit) -> npt.NDArray[np.intp]:
    labels = split.labels.numpy()
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([rows[:: max(1, len(rows) // PER_CLASS)][:PER_CLASS] for rows in members])


@torch.no_grad()
def _encode(trainer: Trainer, split: DeviceSplit, rows: npt.NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of the image tower (N, width), and unit vectors (N, D)."""
    model, parts = trainer.model, []
    for some in np.array_split(rows, -(-len(rows) // EVALUATION_BATCH)):
        images, _ = split.batch(some)
        features = model.image_tower(model.image_tower.normalised(images, model.mean, model.std)).float()
        parts.append((features, F.normalize(model.image_head(features).float(), dim=-1)))
    first, second = zip(*parts, strict=True)
    return torch.cat(first), torch.cat(second)


Figures = dict[str, dict[str, dict[str, float]]]
"""Method -> pair -> measure -> mean over the seeds."""


def _figures_of_all(folder: Path, vectors: dict[str, Vectors]) -> Figures:
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for file in sorted(folder.glob(f"{TOWER}-*.npz")):
        number, seed = (int(part) for part in file.stem.split("-")[1:])
        for method, measured in _methods(folder, number, seed, vectors).items():
            found.setdefault(method, {}).setdefault(NAMES[number], []).append(measured)
    if not found:
        raise ExperimentError(f"--runs must hold trainings, but {folder} holds none; name seeds.")
    order = [*TRAINED, *(method for method in found if method not in TRAINED)]
    return {
        method: {pair: mean_of(runs) for pair, runs in found[method].items()} for method in order if method in found
    }


def _permutation_tests(folder: Path, vectors: dict[str, Vectors], permutations: int) -> dict[str, float]:
    """For ConSE and ESZSL the share of ways to deal the vectors out to the classes that do at least as well.

    Pairs share classes and the images of these, so that they are no independent trials; this test needs none. What is
    compared is `centred`, its mean over pairs and seeds.
    """
    towers = [_unseen_alone(with_seen_scores(_read(file))) for file in sorted(folder.glob(f"{TOWER}-*.npz"))]
    random = np.random.default_rng(0)
    dealt = [np.arange(len(CLASSES)), *(random.permutation(len(CLASSES)) for _ in range(permutations))]
    shares = {}
    for (name, method), kind in itertools.product(METHODS.items(), KNOWN):
        table = list(vectors[kind].values())
        tables = [dict(zip(CLASSES, (table[row] for row in rows), strict=True)) for rows in dealt]
        means = [np.mean([centred_accuracy(tower, *method(tower, one)) for tower in towers]) for one in tables]
        shares[f"{name}, {kind}"] = float(np.mean(np.array(means) >= means[0]))
    return shares


def _unseen_alone(run: Outcome) -> Outcome:
    """Without the test images of seen classes, which `centred` does not look at."""
    rows = run["test_labels"] >= len(run["classes"]) - 2
    return {name: values[rows] if name.startswith("test") else values for name, values in run.items()}


def random_like(method: str) -> str:
    """What has random vectors and is else like a method: "ESZSL, kote" -> "ESZSL, random"."""
    family, comma, _ = method.partition(", ")
    return f"{family}, random" if comma else "random"


def _methods(folder: Path, number: int, seed: int, vectors: dict[str, Vectors]) -> dict[str, dict[str, float]]:
    tower, measured = with_seen_scores(_read(_file(folder, TOWER, number, seed))), {}
    for variant in TRAINED:
        if (file := _file(folder, variant, number, seed)).exists():
            logits = _read(file)
            measured[variant] = figures_of(tower, logits["train_logits"], logits["test_logits"])
    tables = [_random_vectors(seed, number, len(TRAINED) + draw) for draw in range(RANDOM_DRAWS)]
    for name, method in METHODS.items():
        measured |= {f"{name}, {kind}": figures_of(tower, *method(tower, vectors[kind])) for kind in KNOWN}
        measured[f"{name}, random"] = mean_of([figures_of(tower, *method(tower, table)) for table in tables])
    return measured


def _summary_table(summary: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table("label vectors", "pairs", "balanced ± error", "above 0.5", "sign test", "over random", *MEASURES[1:])
    for method, row in summary.items():
        first = f"{row['balanced']:.3f} ± {row['standard_error']:.3f}"
        gain = f"{row['over_random']:+.3f} ({row['over_random_low']:+.3f} to {row['over_random_high']:+.3f})"
        counts = (f"{row['above_chance']:.0f}", f"{row['sign_test']:.3f}", gain)
        table.add_row(method, f"{row['pairs']:.0f}", first, *counts, *(f"{row[name]:.3f}" for name in MEASURES[1:]))
    return table


def _pair_table(figures: Figures) -> Table:
    table = Table("balanced accuracy", *figures)
    for pair in NAMES:
        cells = (f"{by_pair[pair]['balanced']:.3f}" if pair in by_pair else "" for by_pair in figures.values())
        table.add_row(pair, *cells)
    return table


def _draw(file: Path, figures: Figures) -> None:
    """Every pair by every kind, as two maps: as it is, and after each class's mean similarity is taken off."""
    figure = Figure(figsize=(19, 9), layout="constrained")
    titles = ("balanced accuracy among the two unseen classes", "the same, centred by the images of training")
    for axes, measure, title in zip(figure.subplots(1, 2, sharey=True), MEASURES[:2], titles, strict=True):
        values = np.array(
            [[by_pair.get(pair, {}).get(measure, np.nan) for by_pair in figures.values()] for pair in NAMES]
        )
        values = np.vstack([values, np.nanmean(values, axis=0)])
        image = axes.imshow(values, cmap="RdBu", vmin=0.2, vmax=0.8, aspect="auto")
        for row, column in np.ndindex(*values.shape):
            axes.text(column, row, f"{100 * values[row, column]:.0f}", ha="center", va="center", fontsize=8)
        axes.axhline(len(NAMES) - 0.5, color="black")
        axes.set_yticks(range(len(values)), [*NAMES, "mean"])
        axes.set_xticks(range(len(figures)), list(figures), rotation=60, ha="right")
        axes.set_title(f"{title}, percent; chance 50")
    figure.colorbar(image, ax=axes, shrink=0.6)
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    sys.exit(main())
