"""The search's own parts as Ray Tune wants them: a searcher, a scheduler, a callback, a stopper.

Tune's names and numbers for trials stay inside Tune: a trial is known by the id that `TrialSource` gave it, so that
one that paused comes back, and an experiment goes on under another Tune run.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from search.recorder import Recorder
from search.schedulers import Decision
from search.source import Nothing, TrialSource
from trainable.slot.failure import OUT_OF_MEMORY, Failure
from trainable.slot.runner import WorkersLostError
from trainable.slot.trial_slot import PREEMPTED, RETIRED

LOCATION_TIMEOUT_SECONDS = 60.0


class _Unpickled:
    """Tune pickles what it is given for a restore of its own, which is never used: a search goes on from its ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TuneSearcher(_Unpickled, Searcher):
    """Hands the source's trials to Tune as `{"trial_id": ..., "config": {...}, "origin": {...} | None}`.

    `origin` is the other trial's checkpoint that a trial goes on from: `trial_id` and `epoch`; `epochs` are those that
    it has reported or saved, None where it was never started.
    """

    def __init__(self, source: TrialSource, *, metric: str, mode: str) -> None:
        super().__init__(metric=metric, mode=mode)
        self._source = source

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The trial for a free slot; `trial_id` is Tune's, which is of no use here."""
        trial = self._source.next()
        if isinstance(trial, Nothing):
            return None if trial is Nothing.NOW else Searcher.FINISHED
        origin = trial.inheritances[-1].origin if trial.inheritances else None
        epochs = trial.losses.saved if trial.attempts else None
        return {"trial_id": trial.trial_id, "config": trial.current_config, "origin": origin, "epochs": epochs}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """The callback hears of it, and tells the source."""

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """The callback hears of it, and tells the source."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing but the empty file that Tune asks for: a search goes on from its ledger, not from Tune's pickles."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: see `save`."""
        raise NotImplementedError("a search goes on from its ledger")


class TuneScheduler(_Unpickled, FIFOScheduler):
    """Asks the source what becomes of a trial.

    A trial that pauses is over for Tune, and comes back as a new one with the same id of ours: Tune's own pause keeps
    the trial among those that count against the number of slots.
    """

    def __init__(self, source: TrialSource, metric: str) -> None:
        super().__init__()
        self._source = source
        self._metric = metric
        self._paused: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Go on, or give the slot back; a failure has no epoch, and ends by itself."""
        if "epoch" not in result:
            return FIFOScheduler.CONTINUE
        trial_id = trial.config["trial_id"]
        decision = self._source.decide(trial_id, result)
        if decision is Decision.PAUSE:
            self._paused.add(trial_id)
        return FIFOScheduler.CONTINUE if decision is Decision.CONTINUE else FIFOScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Tune does not ask about a trial's last report, which other trials are compared with all the same."""
        if "epoch" in result:
            self._source.decide(trial.config["trial_id"], result)

    def take_paused(self, trial_id: str) -> bool:
        """Whether a trial that gave its slot back is to come again; says so once."""
        paused = trial_id in self._paused
        self._paused.discard(trial_id)
        return paused


class RecordingCallback(_Unpickled, tune.Callback):
    """Tells the source and the recorder what Tune tells its callbacks.

    `tick` is called after each step of Tune's loop, several times a second; `locate` asks a trial's slot where it runs.
    """

    def __init__(
        self,
        source: TrialSource,
        scheduler: TuneScheduler,
        recorder: Recorder,
        tick: Callable[[], None],
        locate: "Callable[[Any], Mapping[str, Any] | None] | None" = None,
    ) -> None:
        self._source = source
        self._scheduler = scheduler
        self._recorder = recorder
        self._tick = tick
        self._locate = locate or locate_slot

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Let the display look at the trials."""
        self._tick()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the start, unless the slot is about to retire and hand the trial on."""
        place = self._locate(trial)
        if place is not None and place["retire_reason"] is None:
            where = {"node": place["node"], "pid": place["pid"], "node_id": place.get("node_id")}
            self._recorder.started(trial.config["trial_id"], **where)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record a report, or a checkpoint within an epoch; a failure is recorded at the trial's end."""
        if "report" in result:
            self._source.reported(trial.config["trial_id"], result["report"])
        elif "saved" in result:
            self._recorder.saved(trial.config["trial_id"], result["saved"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the end of a trial that its slot ended or the scheduler stopped, or that it waits."""
        trial_id, failure = trial.config["trial_id"], trial.last_result.get("failure")
        if failure is not None:
            self._source.failed(trial_id, failure)
        elif self._scheduler.take_paused(trial_id):
            self._source.paused(trial_id)
        else:
            self._source.completed(trial_id)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record that a trial's processes died, unless its slot merely retired before the trial began."""
        failure = slot_death(trial)
        if RETIRED not in failure["message"]:
            self._recorder.retried(trial.config["trial_id"], failure)
            trial.config["epochs"] = self._recorder.trials[trial.config["trial_id"]].losses.saved

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial whose slots were lost more often in a row than `--max-failures` allows."""
        self._source.failed(trial.config["trial_id"], dict(slot_death(trial)))


class SearchStopper(_Unpickled, tune.Stopper):
    """Stops the whole search when the recorder says so; never a single trial."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Trials are stopped by the scheduler alone."""
        return False

    def stop_all(self) -> bool:
        """Whether the search must end."""
        return self._recorder.stop_state is not None


def locate_slot(trial: Any) -> dict[str, Any] | None:
    """Node, its id, pid and `retire_reason` of the slot that has the trial; None where it died just now."""
    try:
        place = ray.get(trial.temporary_state.ray_actor.describe.remote(), timeout=LOCATION_TIMEOUT_SECONDS)
    except (ray.exceptions.RayError, TimeoutError):
        return None
    return dict(place)


def may_recover(trial: Any, recorder: Recorder, max_failures: int) -> bool:
    """Whether Tune is to start a trial again, of which it has just noted an error."""
    return RETIRED in slot_death(trial)["message"] or recorder.may_go_on(trial.config["trial_id"], max_failures)


def slot_death(trial: Any) -> Failure:
    """The failure of a trial whose slot's or workers' processes were lost, from the error file that Tune keeps."""
    text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
    last = text[text.rfind("Failure # ") :].partition("\n")[2].strip()
    _, workers_lost, how = last.rpartition(f"{WorkersLostError.__name__}: ")
    if workers_lost:
        return Failure(kind=WorkersLostError.__name__, message=how, where="the workers' processes", traceback=text)
    _, preempted, why = last.rpartition(f"{PREEMPTED}: ")
    if preempted:
        return Failure(kind="Preempted", message=why, where="the slot's process", traceback=text)
    message = last or "the slot's process died, and Ray does not say why"
    kind = OUT_OF_MEMORY if message.startswith(OUT_OF_MEMORY) else "SlotDied"
    return Failure(kind=kind, message=message, where="the slot's process", traceback=text or message)
