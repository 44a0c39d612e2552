"""Whether a model that was trained on the basic emotions reads the compound ones from their names.

    python search/run.py --algo random --space compose --metric unseen_accuracy --trials 2 --max-epochs 16 --name faces
    python benchmarks/compounds.py results/faces

Reads the `best.json` of a search, or of `trainable/train.py`, on `synthetic` with its own unseen classes. Prints a
table of every test compound, and whether two rules hold: accuracy over the test compounds is at least three times
chance, and the nearest two basic emotions are both parts of a compound more often than not. Exit status: 0 where both
hold, 1 else.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.unseen import both_parts
from search.experiment import hardware, versions
from trainable.errors import ExperimentError, run_command

TIMES_CHANCE = 3.0
MORE_OFTEN_THAN_NOT = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Whether a best model reads compound emotions from their names.")
    parser.add_argument("experiment", type=Path, help="the folder of a search, or of a run of trainable/train.py")
    folder = parser.parse_args(argv).experiment
    return run_command(lambda: _check(folder))


def _check(folder: Path) -> int:
    best = _read_best(folder / "best.json")
    classes, metrics = best["unseen"]["test"], best["metrics"]
    Console().print(_table(classes))
    accuracy, chance, both = metrics["test_unseen_accuracy"], metrics["test_unseen_chance"], both_parts(classes) or 0.0
    print(f"accuracy {accuracy:.3f} = {accuracy / chance:.2f} x chance ({chance:.3f}); asked: {TIMES_CHANCE:g} x")
    print(f"both parts nearest {both:.3f}; asked: more than {MORE_OFTEN_THAN_NOT:g}")
    print(json.dumps({"metrics": metrics, "config": best["config"], "hardware": hardware(), "versions": versions()}))
    return 0 if accuracy >= TIMES_CHANCE * chance and both > MORE_OFTEN_THAN_NOT else 1


def _read_best(path: Path) -> dict[str, Any]:
    try:
        best: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExperimentError(f"the experiment must have a best trial, but {path}: {error}.") from error
    if not (best.get("unseen") or {}).get("test") or "test_unseen_accuracy" not in best["metrics"]:
        raise ExperimentError(
            f"the best trial must have been tested on unseen classes, but {path} has no figures of any; search on "
            "synthetic, to the end."
        )
    return best


def _table(classes: Mapping[str, Mapping[str, Any]]) -> Table:
    """Every compound, those whose name says no parts last."""
    table = Table("compound", "images", "among these", "among all", "both parts nearest")
    named = {name: figures for name, figures in classes.items() if "both_parts" in figures}
    for name, figures in (*named.items(), *(item for item in classes.items() if item[0] not in named)):
        shares = [figures[key] for key in ("accuracy", "generalised_accuracy")]
        both = f"{figures['both_parts']:.3f}" if name in named else "–"
        table.add_row(name, str(figures["images"]), *(f"{share:.3f}" for share in shares), both)
        if len(table.rows) == len(named):
            table.add_section()
    return table


if __name__ == "__main__":
    sys.exit(main())
