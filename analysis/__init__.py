"""What a search found: tidy tables, summaries, figures and the report.

    from analysis import load
    reports, trials = load("results/demo")

Importing this package is quick: pandas, plotly and matplotlib are imported where they are used, torch and ray never.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(experiment: str | Path) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The reports and the trials of an experiment folder, finished or still running.

    Both frames also carry every hyperparameter as a column `config/<name>` (`config/learning_rate` …). Where those of a
    trial change while it trains (`--scheduler pbt`), a report has those of its epoch, a trial those of its best one.

    `reports` has one row per report, that is per epoch of a trial, in the order of trial and epoch:

    | column | meaning |
    |---|---|
    | `trial_id`, `number` | the trial's id, and its place in the order of creation, from 0 |
    | `state` | the trial's state now: PENDING, RUNNING, FINISHED, STOPPED (by the scheduler) or FAILED |
    | `epoch` | epochs trained, from 1 |
    | `samples_seen` | training images seen so far, over all workers |
    | `time` | when it was reported, in unix seconds |
    | `elapsed_seconds` | the same, in seconds of searching since the start; pauses between two runs are left out |
    | `epoch_seconds`, `images_per_second` | time of this epoch, and its training images per second |
    | `train_loss`, `val_loss` | mean loss in nats; its chance level depends on the batch size |
    | `train_accuracy`, `val_accuracy`, `val_balanced_accuracy` | shares from 0 to 1 |
    | `learning_rate_now`, `logit_scale_now` | state at the epoch's end; the logit scale in log space |
    | `gradient_norm` | mean global norm before clipping |
    | `predicted_classes` | distinct classes predicted on the validation split |

    Further metrics a trial reports become columns of their own names. A value that was not finite is NaN.

    `trials` has one row per trial, in the order of creation:

    | column | meaning |
    |---|---|
    | `trial_id`, `number`, `state` | as above |
    | `rank` | 1 is best, by the metric at its best epoch, or as `--confirm` found; NaN where failed or without one |
    | `attempts` | how often it was started |
    | `epochs` | epochs trained |
    | `best_epoch`, `best_value` | where the search's metric was best, and the metric there |
    | `best/<metric>` | every metric of that best report, in the units above |
    | `train_seconds` | sum of `epoch_seconds` |
    | `gpu_seconds` | time in slots, times the GPUs that the trial takes; 0 where it takes none |
    | `cpu_seconds` | the same in CPUs, where it takes no GPU; else 0 |
    | `lost_gpu_seconds`, `lost_cpu_seconds` | of that, in epochs that were cut off or trained again |
    | `created_time`, `started_time`, `ended_time` | unix seconds; NaN where it has not happened |
    | `failure/kind`, `failure/message`, `failure/where` | why it failed, if it did: class, sentence, file and line |
    | `failure/traceback_file` | the full traceback's path inside the experiment folder |

    Raises `ExperimentError` where the folder holds no experiment or its ledger cannot be read.
    """
    from analysis.frames import load_experiment

    loaded = load_experiment(Path(experiment))
    return loaded.reports, loaded.trials
