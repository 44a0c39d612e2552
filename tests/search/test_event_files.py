import dataclasses
import math
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from search.event_files import EventFiles, folder_name, tag_of
from search.spaces import Space, build_space
from search.trials import Inherited, TrialRecord
from trainable.config import TrialConfig
from trainable.training.report import REPORT_KEYS, UNSEEN_KEYS

STATES = ("FINISHED", "STOPPED", "FAILED", "FAILED", "RUNNING")
EPOCHS = (4, 1, 2, 0, 3)
STATUSES = ("STATUS_SUCCESS", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_FAILURE", "STATUS_UNKNOWN")
EVERYTHING = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": sorted({*STATUSES, "STATUS_RUNNING"})}


@pytest.fixture
def space() -> Space:
    return build_space("wide", ["learn_logit_scale=choice(true,false)", "text_tower=a/b"], max_epochs=4)


@pytest.fixture
def trials(space: Space, make_trial) -> list[TrialRecord]:
    """One trial of each state, the second FAILED one without any report; the last report's accuracy is 0.1 x epochs."""
    rng = np.random.default_rng(0)
    return [
        make_trial(
            number,
            state,
            [0.1 * epoch for epoch in range(1, epochs + 1)],
            config={**TrialConfig().to_dict(), **space.sample(rng)},
        )
        for number, (state, epochs) in enumerate(zip(STATES, EPOCHS, strict=True))
    ]


def _write(folder: Path, space: Space, trials: list[TrialRecord]) -> None:
    with EventFiles(folder, space, "val_accuracy") as files:
        for trial in trials:
            files.started(trial)
            _go_on(files, trial)


def _go_on(files: EventFiles, trial: TrialRecord, after: int = 0) -> None:
    """Tell what came after so many epochs of a trial that was started."""
    for report in trial.reports[after:]:
        files.reported(trial, report)
    if trial.ended:
        files.ended(trial)


def _hparams_backend(folder: Path) -> backend_context.Context:
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    return backend_context.Context(TBContext(data_provider=provider, logdir=str(folder)))


def _session_groups(folder: Path) -> list[Any]:
    """What TensorBoard's HPARAMS tab asks its server for."""
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=10_000, allowed_statuses=[0, 1, 2, 3])
    handler = list_session_groups.Handler(context.RequestContext(), _hparams_backend(folder), "", request)
    return sorted(handler.run().session_groups, key=lambda group: group.name)


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("kind"))


def test_the_hparams_tab_has_every_trial_with_every_hyperparameter_and_the_final_metric(
    tmp_path: Path, space: Space, trials: list[TrialRecord]
) -> None:
    _write(tmp_path, space, trials)
    groups = _session_groups(tmp_path)
    assert len(groups) == len(trials)
    for group, trial in zip(groups, trials, strict=True):
        assert {name: _value(value) for name, value in group.hparams.items()} == trial.config
        assert isinstance(_value(group.hparams["learn_logit_scale"]), bool)
        metrics = {metric.name.tag: metric.value for metric in group.metric_values}
        assert metrics.get("accuracy/val", 0.0) == pytest.approx(0.1 * trial.epochs)
        assert len(group.sessions) == 1
    assert [api_pb2.Status.Name(group.sessions[0].status) for group in groups] == list(STATUSES)


def test_the_experiment_declares_domains_and_the_searchs_metric_first(tmp_path: Path, space: Space) -> None:
    with EventFiles(tmp_path, space, "val_loss"):
        pass
    backend = _hparams_backend(tmp_path)
    request = api_pb2.GetExperimentRequest()
    metadata = backend.hparams_metadata(context.RequestContext(), "")
    experiment = get_experiment.Handler(context.RequestContext(), backend, "", request).run()
    assert len(metadata) == 1
    infos = {info.name: info for info in experiment.hparam_infos}
    assert infos.keys() == TrialConfig().to_dict().keys()
    assert {name for name, info in infos.items() if info.differs} == space.draws().keys()
    assert (infos["learning_rate"].domain_interval.min_value, infos["learning_rate"].domain_interval.max_value) == (
        1e-4,
        1e-2,
    )
    assert [value.number_value for value in infos["embedding_dim"].domain_discrete.values] == [2, 4, 8, 16, 32, 64, 128]
    assert [value.string_value for value in infos["loss"].domain_discrete.values] == ["multipositive", "sigmoid"]
    assert [value.bool_value for value in infos["learn_logit_scale"].domain_discrete.values] == [True, False]
    assert infos["learn_logit_scale"].type == api_pb2.DATA_TYPE_BOOL
    assert [info.name.tag for info in experiment.metric_infos][:2] == ["loss/val", "accuracy/val"]
    assert [info.display_name for info in experiment.metric_infos][:2] == ["val_loss", "val_accuracy"]


def test_a_fixed_hyperparameter_has_no_domain_that_would_hide_a_trial(tmp_path: Path, space: Space) -> None:
    with EventFiles(tmp_path, space, "val_loss"):
        pass
    request = api_pb2.GetExperimentRequest()
    backend = _hparams_backend(tmp_path)
    backend.hparams_metadata(context.RequestContext(), "")
    experiment = get_experiment.Handler(context.RequestContext(), backend, "", request).run()
    without = {info.name for info in experiment.hparam_infos if info.WhichOneof("domain") is None}
    assert without == {info.name for info in experiment.hparam_infos} - space.draws().keys()
    assert {"seed", "max_epochs", "text_tower"} <= without


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("val_accuracy", "accuracy/val"),
        ("train_loss", "loss/train"),
        ("val_generalised_unseen_balanced_accuracy", "accuracy/val_generalised_unseen_balanced"),
        ("val_unseen_chance", "chance/val_unseen"),
        ("images_per_second", "speed/images_per_second"),
        ("learning_rate_now", "training/learning_rate_now"),
    ],
)
def test_what_belongs_together_is_one_group_of_the_scalars_tab(name: str, tag: str) -> None:
    assert tag_of(name) == tag


def test_no_two_metrics_share_a_tag() -> None:
    names = (*REPORT_KEYS, *UNSEEN_KEYS)
    assert len({tag_of(name) for name in names}) == len(names)


def _scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_curves_can_be_read_while_the_trial_runs(tmp_path: Path, space: Space, trials: list[TrialRecord]) -> None:
    trial = trials[0]
    with EventFiles(tmp_path, space, "val_accuracy") as files:
        files.started(trial)
        assert len(_session_groups(tmp_path)) == 1
        for report in trial.reports:
            files.reported(trial, report)
            curve = _scalars(tmp_path / folder_name(trial, tuple(space.draws())), "accuracy/val")
            assert curve[-1] == (report["epoch"], pytest.approx(report["val_accuracy"]))
        assert [step for step, _ in curve] == [1, 2, 3, 4]


def test_hyperparameters_that_change_while_a_trial_trains_have_a_curve(
    tmp_path: Path, space: Space, trials: list[TrialRecord]
) -> None:
    trial, name = trials[0], "learning_rate"
    trial.inheritances = [Inherited(source="trial-1", epoch=2, config={**trial.config, name: 5e-3})]
    with EventFiles(tmp_path, space, "val_accuracy", [name]) as files:
        for report in trial.reports:
            files.reported(trial, report)
    drawn = trial.config[name]

    values = _scalars(tmp_path / folder_name(trial, tuple(space.draws())), f"config/{name}")
    assert values == [(epoch, pytest.approx(drawn if epoch <= 2 else 5e-3)) for epoch in (1, 2, 3, 4)]


def test_what_is_no_finite_number_is_no_scalar(tmp_path: Path, space: Space, trials: list[TrialRecord]) -> None:
    report = {"epoch": 1, "time": 1.0, "val_accuracy": 0.5, "val_loss": None, "train_loss": math.nan, "note": "x"}
    with EventFiles(tmp_path, space, "val_accuracy") as files:
        files.reported(trials[0], report)
    accumulator = EventAccumulator(str(tmp_path / folder_name(trials[0], tuple(space.draws()))))
    accumulator.Reload()
    assert set(accumulator.Tags()["scalars"]) == {"training/epoch", "accuracy/val"}


def test_after_a_restart_a_trial_goes_on_in_its_folder(tmp_path: Path, space: Space, trials: list[TrialRecord]) -> None:
    trial, first, second = trials[0], trials[0].reports[:2], trials[0].reports[2:]
    for reports in (first, second):
        with EventFiles(tmp_path, space, "val_accuracy") as files:
            files.started(trial)
            for report in reports:
                files.reported(trial, report)
            if reports is second:
                files.ended(trial)
    (group,) = _session_groups(tmp_path)
    assert group.sessions[0].status == api_pb2.STATUS_SUCCESS
    assert {metric.name.tag: metric.value for metric in group.metric_values}["training/epoch"] == 4
    assert [step for step, _ in _scalars(tmp_path / group.name, "training/epoch")] == [1, 2, 3, 4]
    assert len(list(tmp_path.glob("events*"))) == 1


def test_a_trial_that_ended_holds_no_writer_open(tmp_path: Path, space: Space, make_trial) -> None:
    rng = np.random.default_rng(0)
    before = threading.active_count()  # an open writer has a thread of its own
    with EventFiles(tmp_path, space, "val_accuracy") as files:
        for number in range(30):
            trial = make_trial(number, "STOPPED", [0.5], config=space.sample(rng))
            files.started(trial)
            files.reported(trial, trial.reports[0])
            assert threading.active_count() == before + 1
            files.ended(trial)
            assert threading.active_count() == before
    assert len(list(tmp_path.glob("*/events*"))) == 30


def test_folders_are_named_by_number_and_what_was_drawn(make_trial) -> None:
    config = {"learning_rate": 0.00312, "logit_scale": 2.659, "embedding_dim": 64, "weight_init": "kaiming", "seed": 1}
    drawn = ("learning_rate", "logit_scale", "embedding_dim", "weight_init")
    trial = make_trial(7, config=config)
    assert folder_name(trial, drawn) == "0007 lr=3.1e-03 scale=2.66 dim=64 init=kaiming"
    assert folder_name(trial, ()) == "0007"


@pytest.mark.parametrize("tower", ["../../etc/passwd", "a b:c*?", "한글 모델", "x" * 300, "<script>"])
def test_a_folders_name_is_safe_whatever_a_tower_is_called(make_trial, tower: str) -> None:
    name = folder_name(make_trial(1, config={"image_tower": tower}), ("image_tower",))
    assert Path(name).name == name
    assert name.startswith("0001")
    assert len(name.encode()) < 255
    assert not set(name) & set('<>:"/\\|?*')


def test_a_whole_search_is_written_without_torch_ray_or_tensorflow() -> None:
    code = "import sys, search.event_files; print(sorted({'torch', 'ray', 'tensorflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _curve(server: Any, run: str) -> list[list[float]]:
    """What the SCALARS tab asks for."""
    asked = urllib.parse.urlencode({"tag": "accuracy/val", "run": run})
    return server.ask(f"/data/plugin/scalars/scalars?{asked}") or []


def _groups(server: Any) -> dict[str, Any]:
    """What the HPARAMS tab asks for."""
    answer = server.ask("/data/plugin/hparams/session_groups", EVERYTHING) or {}
    return {group["name"]: group for group in answer.get("sessionGroups", [])}


def _final(groups: dict[str, Any]) -> dict[str, float]:
    metrics = {
        name: {m["name"]["tag"]: m["value"] for m in group.get("metricValues", [])} for name, group in groups.items()
    }
    return {name: round(found.get("accuracy/val", 0.0), 6) for name, found in metrics.items()}


@pytest.mark.e2e
def test_a_running_tensorboard_has_every_trial_and_the_curves_of_those_that_run(
    tmp_path: Path,
    space: Space,
    trials: list[TrialRecord],
    tensorboard: Callable[[Path], Any],
    eventually: Callable[[Callable[[], bool]], bool],
) -> None:
    names = [folder_name(trial, tuple(space.draws())) for trial in trials]
    with EventFiles(tmp_path / "files", space, "val_accuracy") as files:
        for trial in trials:
            files.started(trial)
            _go_on(files, dataclasses.replace(trial, state="RUNNING", reports=trial.reports[:2]))
        server = tensorboard(tmp_path / "files")
        assert eventually(lambda: len(_curve(server, names[STATES.index("RUNNING")])) == 2)
        for trial in trials:
            _go_on(files, trial, after=2)
        assert eventually(lambda: len(_curve(server, names[STATES.index("RUNNING")])) == 3)
        expected = {name: round(0.1 * epochs, 6) for name, epochs in zip(names, EPOCHS, strict=True)}
        assert eventually(lambda: _final(_groups(server)) == expected)

    groups = _groups(server)
    assert [groups[name]["hparams"] for name in names] == [trial.config for trial in trials]
    assert [groups[name]["sessions"][0]["status"] for name in names] == list(STATUSES)
    experiment = server.ask("/data/plugin/hparams/experiment", {"includeMetrics": True})
    assert {info["name"] for info in experiment["hparamInfos"]} == trials[0].config.keys()
    assert {info["name"]["tag"] for info in experiment["metricInfos"]} >= {"accuracy/val", "loss/val"}
