"""What the report shows of the search as a whole: its figures, its best config, and the causes of failures, as text."""

import json
import shlex
from pathlib import Path
from typing import Any

from analysis.frames import Experiment
from analysis.hyperparameters import words
from analysis.summary import STATE_WORDS, best_trial, config_of, count_states, duration, failures, number, plural

TRACEBACK_CHARACTERS = 8_000
"""A longer traceback is shown from its end."""
_MEASURES = ("train_", "val_", "test_")


def tiles(experiment: Experiment) -> list[dict[str, str]]:
    """The figures at the top: best value, test accuracy, trials, epochs, time."""
    best, counts = best_trial(experiment.trials), count_states(experiment.trials)
    test = ((experiment.best or {}).get("metrics") or {}).get("test_accuracy")
    ended = sum(counts[state] for state in ("FINISHED", "STOPPED", "FAILED"))
    fates = ", ".join(f"{counts[state]:,} {STATE_WORDS[state]}" for state in counts if counts[state])
    chance = f"chance {experiment.chance:.3f}" if experiment.chance and experiment.metric.endswith("accuracy") else ""
    epochs = int(experiment.trials["epochs"].sum())
    asked = experiment.manifest.get("trials")
    return [
        _tile("–" if best is None else f"{best['best_value']:.3f}", f"best {words(experiment.metric)}", chance),
        *([_tile(f"{test:.3f}", "test accuracy", "computed once, at the end")] if test is not None else []),
        _tile(f"{ended:,} of {asked:,}" if isinstance(asked, int) else f"{ended:,}", "trials ended", fates),
        _tile(
            f"{epochs:,}", "epochs trained", f"{duration(float(experiment.trials['train_seconds'].sum()))} of training"
        ),
        _tile(duration(experiment.seconds), "searching", _slots(experiment.manifest)),
    ]


def _tile(value: str, label: str, note: str = "") -> dict[str, str]:
    return {"value": value, "label": label, "note": note}


def _slots(manifest: dict[str, Any]) -> str:
    resources = manifest.get("resources") or {}
    slots, workers = resources.get("slots"), resources.get("workers_per_trial")
    if not isinstance(slots, int):
        return ""
    each = f", {plural(workers, 'worker')} each" if isinstance(workers, int) and workers > 1 else ""
    return f"{plural(slots, 'trial')} at a time{each}"


def best_config(experiment: Experiment) -> dict[str, Any] | None:
    """The chosen trial of best.json; while there is none, the best of the ledger so far."""
    chosen, row = experiment.best, best_trial(experiment.trials)
    if chosen is not None:
        same = experiment.trials[experiment.trials["trial_id"] == chosen.get("trial_id")]
        metrics, config, epoch = chosen.get("metrics") or {}, chosen.get("config") or {}, chosen.get("epoch")
        trial = same["number"].iloc[0] if len(same) else chosen.get("trial_id")
        command = shlex.join(["glance-train", "--config", f"{experiment.place}/best.json"])
    elif row is not None:
        metrics = {str(k).removeprefix("best/"): row[k] for k in row.index if str(k).startswith("best/")}
        config, epoch, trial, command = config_of(row), f"{row['best_epoch']:.0f}", row["number"], None
    else:
        return None
    test = metrics.get("test_accuracy")
    return {
        "number": trial,
        "epoch": epoch,
        "test": f"{test:.3f}" if isinstance(test, float) else None,
        "metrics": [(words(k), number(_plain(v))) for k, v in metrics.items() if k.startswith(_MEASURES)],
        "config": json.dumps(config, indent=2, ensure_ascii=False),
        "command": command,
    }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def causes_of(experiment: Experiment) -> list[dict[str, Any]]:
    """The failures by cause, as text: kind, count, message, where, who, and the traceback with its file."""
    return [
        {
            "kind": row["kind"],
            "count": plural(row["count"], "trial"),
            "message": row["message"],
            "where": row["where"],
            "who": _who(row["numbers"]),
            "file": row["traceback_file"],
            "traceback": _traceback(experiment.path, row["traceback_file"]),
        }
        for row in failures(experiment.trials).to_dict("records")
    ]


def _who(numbers: list[int]) -> str:
    names = ", ".join(map(str, numbers[:12])) + (" …" if len(numbers) > 12 else "")
    return f"trial {names}" if len(numbers) == 1 else f"trials {names}"


def _traceback(experiment: Path, name: str) -> str:
    """A traceback's text; empty where the ledger names none, or none that lies in the experiment folder."""
    path = (experiment / name).resolve()
    if not name or not path.is_file() or not path.is_relative_to(experiment.resolve()):
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if len(text) <= TRACEBACK_CHARACTERS else "…\n" + text[-TRACEBACK_CHARACTERS:]
