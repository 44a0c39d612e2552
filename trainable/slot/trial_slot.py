"""The `tune.Trainable` around a slot: one actor that runs trial after trial.

How a slot retires. Tune has no way for a reused actor to decline a trial: `reset_config` returning False, and any
error while an actor is reset, fail the trial that was to come, without a retry. So a reset always succeeds, and a
retiring slot raises `SlotRetired` from the first `step` of the next trial. That is a `RayActorError` with `preempted`
set, which Tune takes as an actor lost to no fault of the trial's: it drops the actor and starts the trial again on a
new one.

A slot that gets notice within a trial saves a checkpoint, returns what is saved, and raises `SlotPreempted` from the
`step` after that: the trial goes on elsewhere.

A process that is killed while it waits between two trials would fail the next one: Tune notices the death only in the
reset, and handles that error twice. `search.ray_patches` lets such a trial wait for another slot.
"""

from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from trainable.slot.node_watch import watch_node
from trainable.slot.notice import NOTICE, catch_sigterm
from trainable.slot.runner import InProcessRunner, Runner
from trainable.slot.slot import Slot, SlotOptions
from trainable.slot.trial_files import GroupFiles, LocalFiles, StoredFiles, TrialFiles

RETIRED = "the slot retired"
PREEMPTED = "the trial was saved and must go on elsewhere"


class SlotRetired(RayActorError):  # noqa: N818
    """The slot takes no further trial; the one it was given goes to a fresh slot."""

    def __init__(self, reason: str) -> None:
        super().__init__(error_msg=f"{RETIRED}: {reason}", preempted=True)


class SlotPreempted(RayActorError):  # noqa: N818
    """The slot will be ended; the trial that it trained is saved and goes to a fresh one."""

    def __init__(self, reason: str) -> None:
        super().__init__(error_msg=f"{PREEMPTED}: {reason}", preempted=True)


class TrialSlot(tune.Trainable):
    """Runs the trials that Tune hands it; needs `reuse_actors=True` to stay warm.

    A trial's Tune config is `{"trial_id": str, "config": {hyperparameters}}`, with `origin` where it goes on from
    another trial's checkpoint, and `epochs` where it was started before (`Slot.begin`). `options` holds the fields of
    `SlotOptions` as a plain dict and comes through `tune.with_parameters`. Checkpoints are the slot's own, not Tune's:
    see `trainable.slot.slot`.
    """

    def setup(self, config: dict[str, Any], options: dict[str, Any] | None = None) -> None:
        """Build the slot once per process."""
        if options is None:
            raise TypeError("TrialSlot needs its options: wrap it in tune.with_parameters(TrialSlot, options=...)")
        self._options = SlotOptions(**options)
        self._slot = build_slot(self._options)
        catch_sigterm()
        watch_node()
        self.reset_config(config)

    def step(self) -> dict[str, Any]:
        """One epoch: what `Slot.step` returns, and the epoch and the metric where a scheduler looks for them."""
        reason = self._slot.retire_reason or NOTICE.reason
        if reason is not None:
            if not self._slot.running:
                raise SlotRetired(reason)
            self._slot.close()
            raise SlotPreempted(reason)
        with NOTICE.awaited():
            outcome = self._slot.step()
        report = outcome.get("report", {})
        return {**outcome, **{name: report[name] for name in ("epoch", self._options.metric) if name in report}}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; it starts in the next `step`."""
        self._slot.begin(
            new_config["trial_id"], new_config["config"], new_config.get("origin"), new_config.get("epochs")
        )
        return True

    def describe(self) -> dict[str, Any]:
        """Where this slot runs, with Ray's name for the node, and whether it is about to retire."""
        described = self._slot.describe()
        reason = described["retire_reason"] or NOTICE.reason
        return {**described, "node_id": ray.get_runtime_context().get_node_id(), "retire_reason": reason}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to add: each epoch's checkpoint is in the experiment's folder already."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load: a started trial goes on from its own checkpoint."""

    def cleanup(self) -> None:
        """Release what the slot holds."""
        self._slot.close()


def build_slot(options: SlotOptions) -> Slot:
    """The slot for trials of one worker, which this process is, or of a group."""
    runner = _build_runner(options)
    return Slot(options, runner, _build_files(options, runner))


def _build_runner(options: SlotOptions) -> Runner:
    if options.workers == 1:
        device = "cuda" if options.gpus else "cpu"
        return InProcessRunner(
            options.store,
            threads=options.threads,
            device=device,
            unseen=options.unseen,
            max_lost_seconds=options.max_lost_seconds,
        )
    from trainable.slot.worker_group import WorkerGroup, WorkerGroupOptions

    return WorkerGroup(
        WorkerGroupOptions(
            store=options.store,
            unseen=options.unseen,
            workers=options.workers,
            threads=options.threads,
            gpus=options.gpus,
            accelerator=options.accelerator,
            working_folder=options.working_folder,
            desk=options.desk,
            prefix=options.prefix,
            max_lost_seconds=options.max_lost_seconds,
        )
    )


def _build_files(options: SlotOptions, runner: Runner) -> TrialFiles:
    if not options.desk:
        return LocalFiles()
    own = StoredFiles(options.desk, options.prefix)
    from trainable.slot.worker_group import WorkerGroup

    return GroupFiles(own, runner.order) if isinstance(runner, WorkerGroup) else own
