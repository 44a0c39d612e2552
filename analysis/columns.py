"""What the columns of the frames mean, and in what unit: the one place that says so."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a frame; `<name>` in its own name stands for any."""

    name: str
    unit: str
    """Empty where there is none."""
    meaning: str


_TRIAL = (
    Column("trial_id", "", "the trial's id"),
    Column("number", "", "its place in the order of creation, from 0"),
    Column(
        "state",
        "",
        "the trial's state now: PENDING, RUNNING, PAUSED (at a rung), FINISHED, STOPPED (by the scheduler) or FAILED",
    ),
)

REPORTS = (
    *_TRIAL,
    Column("epoch", "epochs", "epochs trained, from 1"),
    Column("samples_seen", "images", "training images seen so far, over all workers"),
    Column("time", "unix seconds", "when it was reported"),
    Column("elapsed_seconds", "s", "seconds of searching since the start; pauses between two runs are left out"),
    Column(
        "search_slot_seconds",
        "GPU-s or CPU-s",
        "what the whole search had spent until then: time of all slots, times the GPUs, or CPUs where it takes none",
    ),
    Column("epoch_seconds", "s", "time of this epoch"),
    Column("images_per_second", "1/s", "its training images per second"),
    Column("train_loss", "nats", "mean training loss; its chance level depends on the batch size"),
    Column("train_accuracy", "share", "of training images, from 0 to 1"),
    Column("val_loss", "nats", "mean loss on the validation split"),
    Column("val_accuracy", "share", "of validation images, from 0 to 1"),
    Column("val_balanced_accuracy", "share", "mean of the classes' accuracies on validation"),
    Column("learning_rate_now", "1", "at the epoch's end"),
    Column("logit_scale_now", "log", "the learned logit scale at the epoch's end, in log space"),
    Column("gradient_norm", "1", "mean global norm before clipping"),
    Column("predicted_classes", "classes", "distinct classes predicted on the validation split"),
    Column("config/<name>", "", "a hyperparameter, as the epoch was trained with it"),
    Column("<name>", "", "any further metric that a trial reports; what was not finite is NaN"),
)
"""One row per report, that is per epoch of a trial, in the order of trial and epoch."""

TRIALS = (
    *_TRIAL,
    Column(
        "rank",
        "",
        "1 is best, by the best epoch's metric, or as `--confirm` found; NaN where failed or without one",
    ),
    Column("attempts", "", "how often it was started"),
    Column("epochs", "epochs", "epochs trained"),
    Column("best_epoch", "epochs", "where the search's metric was best"),
    Column("best_value", "the metric's", "the search's metric there"),
    Column("train_seconds", "s", "sum of `epoch_seconds`"),
    Column("gpu_seconds", "GPU-s", "time in slots, times the GPUs that the trial takes; 0 where it takes none"),
    Column("cpu_seconds", "CPU-s", "the same in CPUs, where it takes no GPU; else 0"),
    Column("lost_gpu_seconds", "GPU-s", "of `gpu_seconds`, in epochs that were cut off or trained again"),
    Column("lost_cpu_seconds", "CPU-s", "of `cpu_seconds`, likewise"),
    Column("created_time", "unix seconds", "when it was drawn"),
    Column("started_time", "unix seconds", "when it first got a slot; NaN before"),
    Column("ended_time", "unix seconds", "when it ended; NaN before"),
    Column("failure/kind", "", "class of the error that it failed of, if it did"),
    Column("failure/message", "", "its sentence"),
    Column("failure/where", "", "file and line"),
    Column("failure/traceback_file", "", "the full traceback's path inside the experiment folder"),
    Column("best/<name>", "the metric's", "every metric of the best report"),
    Column("config/<name>", "", "a hyperparameter; where it changes while the trial trains, that of its best epoch"),
)
"""One row per trial, in the order of creation."""


def find(name: str, columns: Sequence[Column]) -> Column | None:
    """The entry of a column; a family (`config/<name>`) answers for its members, and None for a stranger."""
    exact = [column for column in columns if column.name == name]
    families = [column for column in columns if "/<" in column.name and name.startswith(column.name.partition("<")[0])]
    return next(iter([*exact, *families]), None)


def as_markdown(columns: Sequence[Column]) -> str:
    """The columns as a table."""
    rows = [("column", "unit", "meaning"), ("---",) * 3]
    rows += [(f"`{column.name}`", column.unit, column.meaning) for column in columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
