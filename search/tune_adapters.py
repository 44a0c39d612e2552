"""The search's own parts as Ray Tune wants them: a searcher, a callback, a stopper.

Tune's names and numbers for trials stay inside Tune: a trial is known by the id that `TrialSource` gave it, so that
an experiment goes on under another Tune run.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher as TuneSearcher

from search.ledger import is_finite
from search.recorder import Recorder
from search.searchers import Searcher
from trainable.config import TrialConfig
from trainable.slot.failure import OUT_OF_MEMORY, Failure
from trainable.slot.runner import WorkersLostError
from trainable.slot.trial_slot import RETIRED

LOCATION_TIMEOUT_SECONDS = 60.0


class _Unpickled:
    """Tune pickles what it is given for a restore of its own, which is never used: a search goes on from its ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TrialSource(_Unpickled, TuneSearcher):
    """Hands the searcher's configs to Tune as `{"trial_id": ..., "config": {...}}`, and results back to the searcher.

    `defaults` fills the hyperparameters that the space does not name.
    """

    def __init__(
        self, searcher: Searcher, recorder: Recorder, defaults: TrialConfig, *, metric: str, mode: str
    ) -> None:
        super().__init__(metric=metric, mode=mode)
        self._source = searcher
        self._recorder = recorder
        self._defaults = defaults.to_dict()
        self._ids: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Draw the next trial and record it; `trial_id` is Tune's."""
        number = len(self._recorder.trials)
        ours = self._ids[trial_id] = f"trial_{number:04d}"
        config = {**self._defaults, **self._source.suggest(ours)}
        self._recorder.created(ours, number, config)
        return {"trial_id": ours, "config": config}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Pass an epoch's metric on; `result` is flattened by Tune."""
        value = result.get(self.metric)
        if value is not None and is_finite(value):
            self._source.on_report(self._ids[trial_id], result["epoch"], value)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Pass a trial's end on: its last metric, or that it failed."""
        value = None if error or result is None else result.get(self.metric)
        self._source.on_end(self._ids[trial_id], value if is_finite(value) else None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing but the empty file that Tune asks for: a search goes on from its ledger, not from Tune's pickles."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: see `save`."""
        raise NotImplementedError("a search goes on from its ledger")


class RecordingCallback(_Unpickled, tune.Callback):
    """Tells the recorder what Tune tells its callbacks.

    `tick` is called after each step of Tune's loop, several times a second; `locate` asks a trial's slot where it runs.
    """

    def __init__(
        self,
        recorder: Recorder,
        tick: Callable[[], None],
        locate: "Callable[[Any], Mapping[str, Any] | None] | None" = None,
    ) -> None:
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
            self._recorder.started(trial.config["trial_id"], node=place["node"], pid=place["pid"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record a report; a failure is recorded at the trial's end."""
        if "report" in result:
            self._recorder.reported(trial.config["trial_id"], result["report"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the end of a trial that its slot ended or the scheduler stopped."""
        failure = trial.last_result.get("failure")
        if failure is None:
            self._recorder.completed(trial.config["trial_id"])
        else:
            self._recorder.failed(trial.config["trial_id"], failure)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record that a trial's processes died, unless its slot merely retired before the trial began."""
        failure = slot_death(trial)
        if RETIRED not in failure["message"]:
            self._recorder.retried(trial.config["trial_id"], failure)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial whose slot's process died more often than `--max-failures` allows."""
        self._recorder.failed(trial.config["trial_id"], slot_death(trial))


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
    """Node, pid and `retire_reason` of the slot that has the trial; None where it died just now."""
    try:
        place = ray.get(trial.temporary_state.ray_actor.describe.remote(), timeout=LOCATION_TIMEOUT_SECONDS)
    except (ray.exceptions.RayError, TimeoutError):
        return None
    return dict(place)


def slot_death(trial: Any) -> Failure:
    """The failure of a trial whose slot's or workers' processes died, from the error file that Tune keeps of it."""
    text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
    last = text[text.rfind("Failure # ") :].partition("\n")[2].strip()
    _, workers_lost, how = last.rpartition(f"{WorkersLostError.__name__}: ")
    if workers_lost:
        return Failure(kind=WorkersLostError.__name__, message=how, where="the workers' processes", traceback=text)
    message = last or "the slot's process died, and Ray does not say why"
    kind = OUT_OF_MEMORY if message.startswith(OUT_OF_MEMORY) else "SlotDied"
    return Failure(kind=kind, message=message, where="the slot's process", traceback=text or message)
