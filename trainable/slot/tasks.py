"""Single tasks around a search that run where its trials run: the probe before the first, the test after the last."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.errors import GlanceError, TrialError
from trainable.slot.failure import Failure, describe_failure
from trainable.slot.runner import enter_working_folder
from trainable.training.evaluation_file import Evaluation, PromptVectors

if TYPE_CHECKING:
    from trainable.config import TrialConfig
    from trainable.data.unseen import UnseenClasses
    from trainable.training.device_data import DeviceData
    from trainable.training.predictor import ZeroShotPredictor
    from trainable.training.zero_shot import Outcomes

Look = tuple[Evaluation, PromptVectors] | Failure
"""What there is to see of a model, or why that could not be made."""


class ProbeFailure(Failure):
    """A config that cannot be trained."""

    config: dict[str, Any]
    user_error: bool
    """Whether `message` alone tells the user what to do."""


def probe_configs(
    store: str,
    configs: Sequence[Mapping[str, Any]],
    workers: int = 1,
    unseen: Mapping[str, Sequence[str]] | None = None,
    *,
    threads: int,
    gpu: bool,
    working_folder: str | None = None,
) -> list[ProbeFailure]:
    """Open the store and train one batch of each config, as one of a trial's `workers`; returns those that failed.

    This process is alone: it trains a worker's share of the batch, and neither exchanges features nor shards the model.
    Relative paths in a config are relative to `working_folder`, and the `unseen` classes are not trained, as in a slot.

    A batch that diverges is no failure here: that depends on more than the structure. Raises `DataError` where the
    store does not open on this node.
    """
    import torch

    from trainable.config import TrialConfig
    from trainable.data.unseen import UnseenClasses
    from trainable.training.trainer import Trainer

    enter_working_folder(working_folder)
    data = _open_data(store, threads=threads, gpu=gpu, unseen=UnseenClasses.from_dict(unseen))
    failures = []
    for values in configs:
        try:
            Trainer(_one_share(TrialConfig.from_dict(values), workers), data).train_epoch()
        except TrialError:
            continue
        except Exception as error:
            failure = describe_failure(error)
            failures.append(ProbeFailure(**failure, config=dict(values), user_error=isinstance(error, GlanceError)))
    if gpu:
        torch.cuda.synchronize()
    return failures


def _one_share(config: "TrialConfig", workers: int) -> "TrialConfig":
    """A config whose whole training is what one worker has of one batch."""
    rows = max(2, config.batch_size // workers)  # no config has a batch of one
    return dataclasses.replace(config, batch_size=rows, epoch_samples=rows, max_epochs=1, parallelism="ddp")


def evaluate_model(
    folder: str, store: str, split: str, *, threads: int, gpu: bool, working_folder: str | None = None
) -> dict[str, Any]:
    """Measure a saved model on one split, over the classes that it was trained on and those that it says are unseen.

    Returns `metrics`, see `metrics_of`, and `unseen`, group -> class -> its figures, see `class_figures`. Both groups
    are measured on this split; `metrics` are of the split's own. `look` is a `Look`: where it fails, nothing else does.
    Raises `CheckpointError` or `DataError`.
    """
    import torch

    from trainable.training.predictor import ZeroShotPredictor
    from trainable.training.zero_shot import class_figures, metrics_of

    enter_working_folder(working_folder)
    predictor = ZeroShotPredictor.load(Path(folder), torch.device("cuda" if gpu else "cpu"))
    data = _open_data(store, threads=threads, gpu=gpu, unseen=predictor.unseen)
    groups = {name: tuple(classes) for name, classes in predictor.unseen.to_dict().items() if classes}
    others = {name: predictor.tell(data, split, classes) for name, classes in groups.items() if name != split}
    look, own = _told_and_looked_at(predictor, data, split)
    told = {**others, split: own}
    return {
        "metrics": metrics_of(own),
        "unseen": {name: class_figures(told[name], classes, data.classes) for name, classes in groups.items()},
        "look": look,
    }


def _told_and_looked_at(predictor: "ZeroShotPredictor", data: "DeviceData", split: str) -> "tuple[Look, Outcomes]":
    """How a split was told with its own group of unseen classes, and what there is to see of that."""
    from trainable.training.closer_look import Watched, look_closer

    watched = Watched(len(data.classes))
    own = predictor.tell(data, split, data.unseen.of(split), watched)
    try:
        return look_closer(predictor, data, split, own, watched), own
    except Exception as error:
        return describe_failure(error), own


def _open_data(store: str, *, threads: int, gpu: bool, unseen: "UnseenClasses") -> "DeviceData":
    import torch

    from trainable.slot.node_data import open_data
    from trainable.training.device_data import DeviceData

    torch.set_num_threads(threads)
    return DeviceData(open_data(store), torch.device("cuda" if gpu else "cpu"), unseen)
