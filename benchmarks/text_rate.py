"""What the text tower's learning rate does to a model from scratch, on FER-2013.

    python benchmarks/text_rate.py --data-path PATH

Trains the same config for two epochs of 14,000 images with the text tower at 1, 0.3, 0.1 and 0.03 of the learning rate,
over the given number of seeds. Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from search.experiment import hardware, versions
from trainable.config import TrialConfig
from trainable.data.preparation import prepare_store
from trainable.data.store import Store
from trainable.errors import run_command
from trainable.training.device_data import DeviceData
from trainable.training.trainer import Trainer

FACTORS = (1.0, 0.3, 0.1, 0.03)
CONFIG = TrialConfig(learning_rate=2e-3, epoch_samples=14_000, max_epochs=2)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="What the text tower's learning rate does to a model from scratch.")
    parser.add_argument("--data-path", required=True, help="FER-2013, in any edition that --dataset fer2013 reads")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each factor (default: 3)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _compare(arguments.data_path, arguments.seeds))


def _compare(data_path: str, seeds: int) -> int:
    data = DeviceData(Store.open(prepare_store("fer2013", data_path)), torch.device("cpu"))
    table = Table("text learning rate factor", "validation accuracy: median", "min", "max")
    accuracies = {}
    for factor in FACTORS:
        values = accuracies[factor] = [_train(data, factor, seed) for seed in range(seeds)]
        table.add_row(f"{factor:g}", *(f"{f(values):.3f}" for f in (statistics.median, min, max)))
    Console().print(table)
    print(json.dumps({"val_accuracy": accuracies, "hardware": hardware(), "versions": versions()}))
    return 0


def _train(data: DeviceData, factor: float, seed: int) -> float:
    values = {**CONFIG.to_dict(), "text_learning_rate_factor": factor, "seed": seed}
    trainer = Trainer(TrialConfig.from_dict(values), data)
    for _ in range(CONFIG.max_epochs):
        trainer.train_epoch()
    return trainer.evaluate("validation")["accuracy"]


if __name__ == "__main__":
    sys.exit(main())
