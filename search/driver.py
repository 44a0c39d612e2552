"""Runs the trials of one experiment under Ray Tune."""

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune

from search.experiment import Experiment
from search.head_start import HeadStart
from search.kept_epochs import KeptEpochs
from search.ledger import read_ledger
from search.options import METRICS, SearchOptions
from search.pbt import ranges_of
from search.place import Place
from search.points import untried
from search.ray_patches import (
    idle_slots_are_released,
    keys_stay_in_memory,
    lost_slots_are_deaths,
    lost_trials_recover,
    slots_may_die_between_trials,
)
from search.recorder import Recorder
from search.resume import rebuild, settle
from search.schedulers import SchedulerOptions, build_scheduler
from search.searchers import Objective, SearcherOptions, build_searcher
from search.source import TrialSource
from search.spaces import Space
from search.trials import TrialRecord
from search.tune_adapters import RecordingCallback, SearchStopper, TuneScheduler, TuneSearcher, may_recover
from trainable.config import TrialConfig
from trainable.data.fetched import reference
from trainable.data.store import Store
from trainable.data.unseen import UnseenClasses
from trainable.slot.cluster import ACCELERATOR, Node, TrialResources
from trainable.slot.slot import SlotOptions
from trainable.slot.trial_slot import TrialSlot

TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}
"""Switches off what Tune does beside running trials: printing, its own result files, its own Ctrl-C, its own state.

A failed trial's result has no metric, which strict checking would take for an error.
"""
ACCELERATOR_SHARE = 0.001
"""What Ray itself asks of the resource that names a node's GPUs, of which each node has one."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked of a search, read and found to fit together, before there is a cluster."""

    options: SearchOptions
    space: Space
    head_start: HeadStart
    """Configs to try before any is drawn, and earlier experiments."""
    store: Store
    unseen: UnseenClasses
    """The classes that no trial is trained on."""
    place: Place
    """Where the experiment lies."""
    argv: Sequence[str] | None
    """The command line without the program's name; None is that of this process."""


@dataclass(frozen=True, kw_only=True)
class Search(Request):
    """One search, ready to run."""

    nodes: list[Node]
    """The cluster when the search began."""
    resources: TrialResources
    slots: int
    """Trials that run at one time."""
    experiment: Experiment
    manifest: dict[str, Any]
    """What `experiment.json` says of it."""
    earlier: Sequence[TrialRecord] = ()
    """Ended trials of earlier experiments, for the searcher."""
    more_asked: bool = False
    """Whether a search that goes on is asked for more than what it was asked before."""

    @property
    def data(self) -> str:
        """What nodes open the store by."""
        return reference(self.store, self.options.data_path, self.place.desk)


def build_source(search: Search, recorder: Recorder) -> TrialSource:
    """The source of trials, with scheduler and searcher as the ledger so far left them.

    Of earlier experiments the searcher learns what had ended when this search first began, so that one that goes on
    learns the same again.
    """
    options = search.options
    events = read_ledger(search.experiment.ledger_path)
    scheduler = build_scheduler(str(options.scheduler), scheduler_options(options, search.space))
    kept = KeptEpochs(search.experiment.population, every=kept_every(options))
    searcher = build_searcher(options.algo, searcher_options(search))
    for trial in search.earlier:
        if trial.ended_time is not None and trial.ended_time <= events[0]["time"]:
            searcher.restore(trial)
    trials = rebuild(events, scheduler, searcher, metric=options.metrics[0])
    source = TrialSource(
        searcher,
        scheduler,
        recorder,
        TrialConfig(seed=options.seed),
        metric=options.metrics[0],
        trials=options.trials,
        points=untried(search.head_start.points, trials, search.space),
        retain=kept.retain,
    )
    kept.restore(recorder.trials, scheduler.inheritable())
    settle(source, trials)
    return source


def run_trials(search: Search, source: TrialSource, recorder: Recorder, tick: Callable[[], None]) -> None:
    """Run trials until all have ended or the recorder says stop; `tick` is called several times a second.

    A trial that the search's end cut off has no end in the ledger, and keeps its checkpoint. Ctrl-C and SIGTERM ask
    the recorder to stop; the second one raises `KeyboardInterrupt`. Where the recorder says stop already, nothing runs:
    Tune would ask for a trial before it asks whether to stop.
    """
    if recorder.stop_state is not None:
        return
    tuner = build_tuner(
        _slot_class(search),
        source,
        recorder,
        search.options,
        slots=search.slots,
        folder=search.experiment.log.resolve(),
        tick=tick,
    )

    def recovers(trial: Any) -> bool:
        return may_recover(trial, recorder, search.options.max_failures)

    with (
        _interruptible(recorder),
        lost_slots_are_deaths(),
        lost_trials_recover(recovers),
        slots_may_die_between_trials(),
        keys_stay_in_memory(),
        idle_slots_are_released(lambda: source.idle),
    ):
        try:
            tuner.fit()
        finally:
            search.place.gather(recorder.trials.values(), search.experiment)
    if recorder.stop_state is None:
        source.end_paused()


def build_tuner(
    slot: Any,
    source: TrialSource,
    recorder: Recorder,
    options: SearchOptions,
    *,
    slots: int,
    folder: Path,
    tick: Callable[[], None],
    callbacks: Sequence[tune.Callback] = (),
) -> tune.Tuner:
    """Ray Tune, set up to run the source's trials in as many as `slots` slots; what it writes goes to `folder`/tune.

    `slot` is a `tune.Trainable` with its resources; `callbacks` are called after the search's own.
    """
    os.environ.update(TUNE_SETTINGS)
    metric = options.metrics[0]
    scheduler = TuneScheduler(source, metric)
    return tune.Tuner(
        slot,
        tune_config=tune.TuneConfig(
            search_alg=TuneSearcher(source, metric=metric, mode=options.mode),
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=slots,
            reuse_actors=True,
            trial_name_creator=_trial_id,
            trial_dirname_creator=_trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            stop=SearchStopper(recorder),
            callbacks=[RecordingCallback(source, scheduler, recorder, tick), *callbacks],
            verbose=0,
        ),
    )


def _slot_class(search: Search) -> Any:
    """The slot with its options and resources bound to it; only plain values travel."""
    options = SlotOptions(
        store=search.data,
        unseen=search.unseen.to_dict(),
        metric=search.options.metrics[0],
        mode=search.options.mode,
        workers=search.resources.workers,
        threads=search.resources.cpus_per_worker,
        gpus=search.resources.gpus_per_worker,
        accelerator=search.resources.accelerator,
        working_folder=str(Path.cwd()),
        keep_every=kept_every(search.options),
        max_lost_seconds=60 * search.options.max_lost_minutes,
        **search.place.slot_settings(search.experiment),
    )
    slot = tune.with_parameters(TrialSlot, options=asdict(options))
    return tune.with_resources(slot, slot_request(search.resources))


def slot_request(resources: TrialResources) -> tune.PlacementGroupFactory:
    """What a slot asks of Tune: its worker's resources. A group of workers is placed by Ray Train, not by Tune.

    Tune allows no request for nothing, so such a slot asks for one byte of memory.
    """
    bundle = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    own = {name: amount for name, amount in bundle.items() if amount}
    if resources.accelerator is not None:
        own[f"{ACCELERATOR}{resources.accelerator}"] = ACCELERATOR_SHARE
    return tune.PlacementGroupFactory([own if resources.workers == 1 else {"memory": 1}])


def kept_every(options: SearchOptions) -> int:
    """At which multiples of epochs slots keep a checkpoint for other trials; 0 where no trial goes on from another."""
    return options.grace_epochs if options.scheduler == "pbt" else 0


def scheduler_options(options: SearchOptions, space: Space) -> SchedulerOptions:
    """What the options say of the scheduler."""
    return SchedulerOptions(
        metric=options.metrics[0],
        mode=options.mode,
        max_epochs=options.max_epochs,
        grace_epochs=options.grace_epochs,
        reduction_factor=options.reduction_factor,
        seed=options.seed,
        ranges=ranges_of(space) if options.scheduler == "pbt" else {},
        trials=options.trials,
    )


def searcher_options(search: Search) -> SearcherOptions:
    """What the options say of the searcher."""
    options = search.options
    return SearcherOptions(
        space=search.space,
        objective=Objective(
            metric=options.metrics[0],
            mode=options.mode,
            further=tuple((name, METRICS[name]) for name in options.metrics[1:]),
        ),
        seed=options.seed,
        sampler=options.sampler,
        journal=search.experiment.study,
    )


def _trial_id(trial: Any) -> str:
    return str(trial.config["trial_id"])


@contextlib.contextmanager
def _interruptible(recorder: Recorder) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the search in order, and the second at once."""

    presses = itertools.count(1)

    def stop(number: int, frame: FrameType | None) -> None:
        if next(presses) > 1:
            raise KeyboardInterrupt
        recorder.interrupt()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
