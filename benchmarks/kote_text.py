"""How well the pretrained text tower tells KOTE's emotions, against the number of comments, next to TF-IDF.

    python benchmarks/kote_text.py --data-path PATH --rows rows.jsonl --plot curve.png

For every number of comments and every seed, so many of the validation file's comments are drawn; a fifth of them is
held out, which tunes the baseline, ends the tower's training and sets the thresholds of both. All are measured on the
same test comments. Each measurement is a line of `--rows`, and one that stands there already is not made again: an
interrupted run goes on, and seeds may run side by side. Prints a table of means and, as the last line, one JSON object.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from search.experiment import hardware, versions
from trainable.data.kote import Kote, read_kote
from trainable.errors import run_command
from trainable.training.text_pretraining import PretrainOptions, pretrain_tower, starting_tower
from trainable.training.text_quality import Baseline, measure

MEASURES = ("macro_f1", "micro_f1", "mean_average_precision", "label_ranking")
RIVALS = ("text tower", "TF-IDF")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Quality of the text tower against the number of comments.")
    add = parser.add_argument
    add("--data-path", required=True, help="the folder of KOTE")
    add("--sizes", default="500,1000,2500,5000", type=_numbers, help="numbers of comments (default: %(default)s)")
    add("--seeds", default="0,1,2", type=_numbers, help="default: %(default)s")
    add("--rows", required=True, type=Path, help="where the measurements are kept, one a line")
    add("--plot", type=Path, help="a PNG of macro F1 against the number of comments")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _compare(arguments))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _compare(arguments: argparse.Namespace) -> int:
    for size in arguments.sizes:
        for seed in arguments.seeds:
            if not any((row["comments"], row["seed"]) == (size, seed) for row in _read(arguments.rows)):
                measured = _measure(arguments.data_path, size, seed)
                with arguments.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(measured) + "\n")
    rows = _read(arguments.rows)
    _print_table(rows)
    if arguments.plot is not None:
        _draw(rows, arguments.plot)
    print(json.dumps({"rows": rows, "hardware": hardware(), "versions": versions()}))
    return 0


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _measure(data_path: str, size: int, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    comments = _drawn(read_kote(data_path, seed=seed), size)
    started = time.process_time()
    baseline = Baseline.tuned(comments.train, comments.held_out)
    found = {"TF-IDF": measure(baseline.fitted(comments.train), comments).to_dict()}
    fitted = time.process_time()
    options = PretrainOptions(seed=seed)
    pretrainer = pretrain_tower(starting_tower(comments.train, options), comments, options, baseline, show=print)
    found["text tower"] = measure(pretrainer.scores, comments).to_dict()
    seconds = {"TF-IDF": fitted - started, "text tower": time.process_time() - fitted}
    settings = {"ngrams": baseline.ngrams, "C": baseline.inverse_strength}
    return {"comments": size, "seed": seed, "quality": found, "cpu_seconds": seconds, "baseline": settings}


def _drawn(comments: Kote, size: int) -> Kote:
    """The first comments of each part, in the seed's order, `size` of them in all and a fifth of them held out."""
    held_out = size // 5
    train = comments.train.take(np.arange(size - held_out))
    return comments._replace(train=train, held_out=comments.held_out.take(np.arange(held_out)))


def _values(rows: list[dict[str, Any]], size: int, rival: str, name: str) -> list[float]:
    return [row["quality"][rival][name] for row in rows if row["comments"] == size]


def _sizes(rows: list[dict[str, Any]]) -> list[int]:
    return sorted({row["comments"] for row in rows})


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = Table("comments", "seeds", "", *(name.replace("_", " ") for name in MEASURES))
    for size in _sizes(rows):
        for rival in RIVALS:
            columns = [_values(rows, size, rival, name) for name in MEASURES]
            spread = (f"{statistics.mean(column):.3f} ({min(column):.3f} to {max(column):.3f})" for column in columns)
            table.add_row(f"{size:,}", str(len(columns[0])), rival, *spread)
    Console(width=140).print(table)


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    sizes = _sizes(rows)
    for axes, name in zip(figure.subplots(1, 2), ("macro_f1", "mean_average_precision"), strict=True):
        for rival, colour in zip(RIVALS, ("tab:blue", "tab:orange"), strict=True):
            columns = [_values(rows, size, rival, name) for size in sizes]
            axes.plot(sizes, [statistics.mean(column) for column in columns], color=colour, label=rival)
            points = [(size, value) for size, column in zip(sizes, columns, strict=True) for value in column]
            axes.scatter(*zip(*points, strict=True), color=colour, s=12)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("comments, a fifth of them held out")
        axes.set_ylabel(f"{name.replace('_', ' ')} on the test comments")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
