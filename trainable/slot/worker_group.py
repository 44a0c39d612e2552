"""A warm group of workers: one Ray Train run that lives as long as its slot and trains trial after trial.

The usual pattern, a `TorchTrainer` per trial, starts some eight processes and imports torch in each before anything
is trained. Here the `TorchTrainer` is started once. It places the workers, gives each its rank and device, connects
them, and notices when one dies; from then on the workers take their orders from a `Mailbox`.

A group is given up, and the next trial gets a fresh one, when a worker died, when its device is broken or it leaked
memory, and when the ranks failed at different places: one of them may still wait for an exchange that another will
never join, or take a later one for it.
"""

import contextlib
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainable.slot.failure import WorkerError
from trainable.slot.mailbox import Answer, Mailbox, Outcome
from trainable.slot.notice import NOTICE, give_notice
from trainable.slot.runner import Cut, WorkersLostError
from trainable.slot.worker import CLOSE, work

CLOSE_SECONDS = 60.0
"""How long a group may take to end in order, or to notice that its workers were ended."""
LOOK_SECONDS = 1.0
"""How often a slot that waits for its workers looks whether it got notice."""


@dataclass(frozen=True, kw_only=True)
class WorkerGroupOptions:
    """What a group is made of."""

    store: str
    """Path of the data store, or the reference of one in a bucket."""
    unseen: Mapping[str, Sequence[str]] | None = None
    """The classes that are not trained, as `trainable.data.unseen.UnseenClasses` gives them."""
    workers: int
    threads: int
    """CPUs of each worker, and its CPU threads."""
    gpus: float
    """GPUs of each worker."""
    accelerator: str | None = None
    """A name that the GPUs must have."""
    working_folder: str | None = None
    """What relative paths in a config are relative to, on a node that has that folder."""
    desk: str = ""
    """Name of the actor that leads to the storage where trials are kept; empty where all nodes see their folders."""
    prefix: str = ""
    """Where trials lie in that storage."""
    max_lost_seconds: float | None = None
    """When an epoch is cut for a checkpoint."""


NEVER_AGAIN = FailureConfig(max_failures=0, max_preemption_failures=0)
"""Ray Train must not start workers anew by itself, also where Ray gave their node up: they would know no trial."""


class WorkerGroup:
    """A `Runner` whose trials are trained by several workers together, with DDP.

    The workers are started by the first trial. Failures of a worker are raised as `WorkerError`; `WorkersLostError` is
    raised where one died.
    """

    def __init__(self, options: WorkerGroupOptions) -> None:
        self._options = options
        self._group: _Group | None = None

    def start(self, config: Mapping[str, Any], folder: Path, inherited: bool = False) -> float:
        """Begin a trial on all ranks, which are started first where there are none."""
        return float(self.order("start", dict(config), folder, inherited))

    def order(self, verb: str, *arguments: Any) -> Any:
        """Let all ranks carry out a verb of their runners, and start them first where there are none."""
        if self._group is None:
            self._group = _Group(self._options)
        return self._call(verb, *arguments)

    def run_epoch(self) -> dict[str, Any] | Cut:
        """Train and evaluate one epoch on all ranks; returns the report, which is reduced over them.

        All ranks cut at one step; the notice is that of any of them, or the slot's own.
        """
        values = self._call_all("run_epoch")
        cuts = [value for value in values if isinstance(value, Cut)]
        if cuts:
            return cuts[0]._replace(notice=next((cut.notice for cut in cuts if cut.notice), NOTICE.reason))
        return dict(values[0])

    def save(self, folder: Path) -> None:
        """Let rank 0 write a checkpoint of all ranks."""
        self._call("save", folder)

    def save_model(self, folder: Path) -> None:
        """Let rank 0 write weights and config."""
        self._call("save_model", folder)

    def stop(self) -> str | None:
        """Let all ranks forget the trial. Workers that leak are replaced, so the slot itself may always go on."""
        if self._group is None:
            return None
        try:
            leaks = self._group.call("stop").answers.values()
            healthy = not any(answer["value"] or answer["failure"] for answer in leaks)
        except WorkersLostError:
            healthy = False
        if not healthy:
            self._give_up()
        return None

    def close(self) -> None:
        """End the workers, in order where they listen."""
        if self._group is not None:
            self._group.close()
            self._group = None

    def _call(self, verb: str, *arguments: Any) -> Any:
        """The value that rank 0 returns."""
        return self._call_all(verb, *arguments)[0]

    def _call_all(self, verb: str, *arguments: Any) -> list[Any]:
        """The values that the ranks return, in their order."""
        if self._group is None:
            raise RuntimeError("a trial must be started before it can run or be saved")
        try:
            outcome = self._group.call(verb, *arguments)
        except WorkersLostError:
            self._give_up()
            raise
        failed = [answer for answer in outcome.answers.values() if answer["failure"]]
        if failed:
            if not in_step(outcome.answers.values(), self._options.workers):
                self._give_up()
            raise _first_failure(failed)
        return [outcome.answers[rank]["value"] for rank in range(self._options.workers)]

    def _give_up(self) -> None:
        if self._group is not None:
            self._group.abort()
            self._group = None


def in_step(answers: Iterable[Answer], workers: int) -> bool:
    """Whether a group can be used after a failure: each rank failed, after as many exchanges, on a device that works.

    A rank that waits for an exchange, or has begun one more than another, would take the next trial's for it.
    """
    answers = list(answers)
    return (
        len(answers) == workers
        and all(answer["failure"] is not None and not answer["device_broken"] for answer in answers)
        and len({answer["exchanges"] for answer in answers}) == 1
    )


def _first_failure(failed: list[Answer]) -> WorkerError:
    """The failure that came first; those after it may be its consequences."""
    answer = failed[0]
    assert answer["failure"] is not None
    return WorkerError(
        answer["failure"],
        user_error=answer["user_error"],
        device_broken=any(answer["device_broken"] for answer in failed),
    )


class _Group:
    """One `TorchTrainer` run, in a thread, and the mailbox to its workers."""

    def __init__(self, options: WorkerGroupOptions) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote(options.workers)
        self._scratch = tempfile.TemporaryDirectory(prefix="glance-workers-", ignore_cleanup_errors=True)
        self._trainer = _build_trainer(options, self._mailbox, self._scratch.name)
        self._calling = False
        self._thread = threading.Thread(target=self._fit, name="ray-train", daemon=True)
        self._thread.start()

    def call(self, verb: str, *arguments: Any) -> Outcome:
        """Give all ranks an order; raises `WorkersLostError` where one of them is no more."""
        self._calling = True
        try:
            outcome = Outcome(*self._answer(self._mailbox.call.remote(verb, *arguments)))
        except ray.exceptions.RayActorError as error:
            raise WorkersLostError(f"the mailbox of the workers was lost: {error}") from error
        if outcome.lost is not None:
            raise WorkersLostError(outcome.lost)
        self._calling = False
        return outcome

    def _answer(self, call: Any) -> Any:
        """The result of a call, while this process hears whether it got notice, and hands that on to all ranks."""
        told = False
        while not ray.wait([call], timeout=LOOK_SECONDS)[0]:
            if NOTICE.reason is not None and not told:
                told = True
                for worker in ray.get(self._mailbox.members.remote()):
                    worker.execute.remote(give_notice, NOTICE.reason)
        return ray.get(call)

    def close(self) -> None:
        """Let the workers end, and wait for that; ends them where they are busy."""
        if self._calling:
            self.abort()
            return
        with contextlib.suppress(WorkersLostError):
            self.call(CLOSE)
        self._finish()

    def abort(self) -> None:
        """End the workers wherever they are."""
        with contextlib.suppress(ray.exceptions.RayError):
            for worker in ray.get(self._mailbox.members.remote()):
                ray.kill(worker)
        self._finish()

    def _finish(self) -> None:
        self._thread.join(CLOSE_SECONDS)
        ray.kill(self._mailbox)
        self._scratch.cleanup()

    def _fit(self) -> None:
        """Run the workers to their end, and tell the mailbox where that was not their own."""
        try:
            self._trainer.fit()
            reason = "the workers have ended"
        except Exception as error:
            reason = explain_loss(error)
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._mailbox.report_loss.remote(reason))


def _build_trainer(options: WorkerGroupOptions, mailbox: Any, scratch: str) -> TorchTrainer:
    """Ray Train wants a folder for its runs; here it holds nothing, because the runner writes checkpoints."""
    resources = {"CPU": options.threads, **({"GPU": options.gpus} if options.gpus else {})}
    return TorchTrainer(
        work,
        train_loop_config={
            "mailbox": mailbox,
            "store": options.store,
            "unseen": options.unseen,
            "threads": options.threads,
            "working_folder": options.working_folder,
            "desk": options.desk,
            "prefix": options.prefix,
            "max_lost_seconds": options.max_lost_seconds,
        },
        scaling_config=ScalingConfig(
            num_workers=options.workers,
            use_gpu=options.gpus > 0,
            resources_per_worker=resources,
            accelerator_type=options.accelerator,
        ),
        run_config=RunConfig(storage_path=scratch, failure_config=NEVER_AGAIN),
    )


def explain_loss(error: Exception) -> str:
    """Why a Ray Train run ended, in one line."""
    if isinstance(error, WorkerGroupError):
        lost = ", ".join(
            f"worker {rank}: {_first_line(_cause(failure))}" for rank, failure in error.worker_failures.items()
        )
        return f"workers died ({lost})"
    if isinstance(error, TrainingFailedError):
        return f"the group of workers failed: {_first_line(error)}"
    return f"the group of workers could not run: {type(error).__name__}: {_first_line(error)}"


def _cause(error: Exception) -> Exception:
    """What a health check of Ray Train found; other errors as they are."""
    found = getattr(error, "health_check_failure", error)
    return found if isinstance(found, Exception) else error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
