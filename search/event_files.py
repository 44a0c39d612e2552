"""TensorBoard event files: a folder per trial, its curves, and what the HPARAMS tab compares.

    tensorboard/events…                          the experiment: each hyperparameter's domain, the metrics
    tensorboard/0007 lr=3.1e-03 dim=64/events…   one trial: its hyperparameters, a scalar per report and metric, its end

A trial's hyperparameters are written when it starts, and each report is flushed, so that the tab shows every trial,
also one that runs, was stopped or failed. The metrics that it shows are those of the trial's last report. SCALARS
groups what belongs together: `accuracy/train` stands beside `accuracy/val`. Neither TensorFlow nor torch is needed.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from search.dimensions import Choice, Dimension, Fixed, Value
from search.spaces import Space
from search.trials import Report, TrialRecord, is_finite
from trainable.config import TrialConfig

METRICS = ("val_accuracy", "val_balanced_accuracy", "val_loss", "train_accuracy", "train_loss", "epoch")
"""The columns of the HPARAMS tab, after the search's own metric."""
SHORT_NAMES = {
    "learning_rate": "lr",
    "logit_scale": "scale",
    "embedding_dim": "dim",
    "weight_init": "init",
    "head_depth": "depth",
    "weight_decay": "decay",
    "augmentation": "aug",
    "warmup_fraction": "warmup",
    "image_tower": "image",
    "text_tower": "text",
    "batch_size": "batch",
}
MAX_FOLDER_CHARACTERS = 80
"""File systems allow 255 bytes a name, and a Hangul syllable takes three."""

_SPLITS = ("train_", "val_")
_GROUPS = {"epoch_seconds": "speed", "images_per_second": "speed"}
_STATUS = {
    "FINISHED": api_pb2.STATUS_SUCCESS,
    "STOPPED": api_pb2.STATUS_SUCCESS,
    "FAILED": api_pb2.STATUS_FAILURE,
}


class EventFiles:
    """Writes the event files of one experiment under `folder`.

    A file is open only while its trial runs, and is opened again, as a further one, where a trial goes on after a
    restart. `metric` is what the search ranks trials by; `changing` are the hyperparameters that change while a trial
    trains, whose values become scalars `config/<name>`, because TensorBoard keeps those that a trial started with.
    """

    def __init__(self, folder: Path, space: Space, metric: str, changing: Sequence[str] = ()) -> None:
        self._folder = folder
        self._changing = tuple(changing)
        self._drawn = tuple(space.draws())
        self._writers: dict[str, EventFileWriter] = {}
        if not _holds_events(folder):
            self._declare(space, tuple(dict.fromkeys((metric, *METRICS))))

    def started(self, trial: TrialRecord) -> None:
        """Write the trial's hyperparameters; once more, into a further file, for a trial that goes on."""
        if trial.trial_id not in self._writers:
            self._open(trial)

    def reported(self, trial: TrialRecord, report: Report) -> None:
        """Write one scalar per finite number of a report, at the epoch as step."""
        writer = self._writer(trial)
        summary = Summary()
        for tag, value in scalars(trial, report, self._changing).items():
            summary.value.add(tag=tag, simple_value=value)
        writer.add_event(Event(wall_time=report["time"], step=int(report["epoch"]), summary=summary))
        writer.flush()

    def paused(self, trial: TrialRecord) -> None:
        """Close the trial's file until it goes on."""
        writer = self._writers.pop(trial.trial_id, None)
        if writer is not None:
            writer.close()

    def ended(self, trial: TrialRecord) -> None:
        """Write how the trial ended, and close its file."""
        end = plugin_data_pb2.SessionEndInfo(status=_STATUS[trial.state], end_time_secs=trial.ended_time)
        writer = self._writer(trial)
        data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
        writer.add_event(_hparams_event(metadata.SESSION_END_INFO_TAG, data, trial.ended_time))
        self._writers.pop(trial.trial_id).close()

    def close(self) -> None:
        """Close the files of all trials that still run."""
        for trial_id in list(self._writers):
            self._writers.pop(trial_id).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _declare(self, space: Space, metrics: Sequence[str]) -> None:
        defaults = {name: Fixed(value) for name, value in TrialConfig().to_dict().items()}
        dimensions = {**space.dimensions, **{name: defaults[name] for name in defaults if name not in space.dimensions}}
        experiment = api_pb2.Experiment(
            hparam_infos=[_hparam_info(name, dimension) for name, dimension in dimensions.items()],
            metric_infos=[
                api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag_of(name)), display_name=name) for name in metrics
            ],
        )
        data = plugin_data_pb2.HParamsPluginData(experiment=experiment)
        writer = EventFileWriter(str(self._folder))
        writer.add_event(_hparams_event(metadata.EXPERIMENT_TAG, data, None))
        writer.close()

    def _writer(self, trial: TrialRecord) -> EventFileWriter:
        return self._writers.get(trial.trial_id) or self._open(trial)

    def _open(self, trial: TrialRecord) -> EventFileWriter:
        folder = self._folder / folder_name(trial, self._drawn)
        writer = self._writers[trial.trial_id] = EventFileWriter(str(folder))
        data = plugin_data_pb2.HParamsPluginData(session_start_info=_session_start(trial, folder.name))
        writer.add_event(_hparams_event(metadata.SESSION_START_INFO_TAG, data, trial.started_time))
        writer.flush()
        return writer


def scalars(trial: TrialRecord, report: Report, changing: Sequence[str]) -> dict[str, float]:
    """Every finite number of a report by its tag, and the values of the hyperparameters that change."""
    config = trial.config_at(int(report["epoch"]))
    numbers = {tag_of(name): value for name, value in report.items() if name != "time"}
    numbers |= {f"config/{name}": config[name] for name in changing}
    return {tag: float(value) for tag, value in numbers.items() if is_finite(value)}


def tag_of(name: str) -> str:
    """A metric's name with its group before it: ``accuracy/val_balanced`` of ``val_balanced_accuracy``."""
    if name.startswith(_SPLITS):
        which, _, quantity = name.rpartition("_")
        return f"{quantity}/{which}"
    return f"{_GROUPS.get(name, 'training')}/{name}"


def folder_name(trial: TrialRecord, drawn: Sequence[str]) -> str:
    """A trial's name in TensorBoard: its number and what was drawn, such as ``0007 lr=3.1e-03 dim=64``."""
    name = f"{trial.number:04d}"
    for hyperparameter in filter(trial.config.__contains__, drawn):
        short = SHORT_NAMES.get(hyperparameter, hyperparameter)
        part = re.sub(r"[^\w.=+-]", "-", f"{short}={_short(trial.config[hyperparameter])}")
        if len(name) + 1 + len(part) > MAX_FOLDER_CHARACTERS:
            break
        name = f"{name} {part}"
    return name


def trial_folder(folder: Path, number: int) -> Path:
    """Where the event files of a trial lie that has written some, below `folder`."""
    name = f"{number:04d}"
    return next((path for path in folder.glob(f"{name}*") if path.name.split(" ")[0] == name), folder / name)


def _short(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if value != 0 and abs(value) < 0.01 else f"{value:.3g}"
    return Path(value).name if isinstance(value, str) else str(value)


def _session_start(trial: TrialRecord, group: str) -> plugin_data_pb2.SessionStartInfo:
    start = plugin_data_pb2.SessionStartInfo(group_name=group, start_time_secs=trial.started_time or trial.created_time)
    for name, value in trial.config.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    return start


def _hparam_info(name: str, dimension: Dimension) -> api_pb2.HParamInfo:
    """A hyperparameter's type and domain; one that differs between trials comes first in the tab.

    The tab hides trials that lie outside a domain, so one that is fixed has none: a trial that confirms another has a
    seed of its own, and a search that goes on may have other epochs.
    """
    edges = dimension.edges()
    fixed = isinstance(dimension, Fixed)
    info = api_pb2.HParamInfo(name=name, display_name=name, type=_data_type(edges), differs=not fixed)
    if isinstance(dimension, Choice):
        strings = info.type == api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend([str(value) for value in edges] if strings else list(edges))
    elif not fixed:
        info.domain_interval.min_value, info.domain_interval.max_value = edges
    return info


def _data_type(values: Sequence[Any]) -> int:
    if all(isinstance(value, bool) for value in values):
        return int(api_pb2.DATA_TYPE_BOOL)
    numbers = all(isinstance(value, int | float) for value in values)
    return int(api_pb2.DATA_TYPE_FLOAT64 if numbers else api_pb2.DATA_TYPE_STRING)


def _hparams_event(tag: str, data: plugin_data_pb2.HParamsPluginData, time: float | None) -> Event:
    summary = Summary()
    summary.value.add(tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)
    return Event(wall_time=time, step=0, summary=summary)


def _holds_events(folder: Path) -> bool:
    return any(folder.glob("events.out.tfevents.*"))
