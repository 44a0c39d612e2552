"""Whether two workers end where one ends: whole runs with the same global batch and seed.

    python benchmarks/workers_agree.py --seeds 3 --max-epochs 8

For each seed `trainable/train.py` trains the default config on `synthetic` with one worker and with two. Batches and
prompts are the same; augmentation is drawn per worker, and sums are added in another order. Prints the validation
accuracy of each last epoch beside the noise that it must be held against (the standard error of an accuracy over that
many images, and its deviation over the seeds), and, as the last line, one JSON object.
"""

import argparse
import contextlib
import io
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from search.experiment import hardware, versions
from trainable.data.preparation import prepare_store
from trainable.data.store import Store
from trainable.errors import run_command
from trainable.train import main as train

WORKERS = (1, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Whether two workers end where one ends.")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--max-epochs", type=int, default=8, help="length of each run (default: 8)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments.seeds, arguments.max_epochs))


def _run(seeds: int, max_epochs: int) -> int:
    manifest = Store.open(prepare_store("synthetic", None)).manifest
    images = sum(manifest.counts["validation"][name] for name in manifest.seen_classes)
    with tempfile.TemporaryDirectory() as folder:
        accuracies = np.array(
            [[_accuracy(Path(folder), seed, workers, max_epochs) for workers in WORKERS] for seed in range(seeds)]
        )  # (seeds, 2)
    return _report(accuracies, images, max_epochs)


def _accuracy(folder: Path, seed: int, workers: int, max_epochs: int) -> float:
    """The validation accuracy of the last epoch of one run."""
    out = folder / f"{seed}-{workers}"
    arguments = ["--seed", str(seed), "--max-epochs", str(max_epochs), "--workers", str(workers), "--out", str(out)]
    with contextlib.redirect_stdout(io.StringIO()):
        status = train(arguments)
    if status != 0:
        raise SystemExit(f"a run must end in order, but seed {seed} with {workers} workers ended with {status}")
    return float(json.loads((out / "reports.jsonl").read_text().splitlines()[-1])["val_accuracy"])


def _report(accuracies: np.ndarray, images: int, max_epochs: int) -> int:
    table = Table("seed", "1 worker", "2 workers", "difference")
    for seed, (one, two) in enumerate(accuracies):
        table.add_row(str(seed), f"{one:.4f}", f"{two:.4f}", f"{two - one:+.4f}")
    mean = accuracies.mean(axis=0)
    difference = accuracies[:, 1] - accuracies[:, 0]
    table.add_section()
    table.add_row("mean", f"{mean[0]:.4f}", f"{mean[1]:.4f}", f"{difference.mean():+.4f}")
    error = math.sqrt(mean.mean() * (1 - mean.mean()) / images)
    deviation = float(accuracies.std(axis=0, ddof=1).mean())
    console = Console()
    console.print(f"validation accuracy after {max_epochs} epochs of the default config on synthetic")
    console.print(table)
    console.print(
        f"standard error of an accuracy over {images} images {error:.4f}, deviation over seeds {deviation:.4f}"
    )
    figures = {"accuracies": accuracies.tolist(), "standard_error": error, "deviation_over_seeds": deviation}
    print(json.dumps({**figures, "max_epochs": max_epochs, "hardware": hardware(), "versions": versions()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
