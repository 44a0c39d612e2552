"""Keeps the trials of one node in a storage: takes their snapshots, uploads them in the background, fetches them."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trainable.storage.retry import PATIENCE_SECONDS, persist
from trainable.storage.storage import Storage
from trainable.storage.trial_objects import Snapshot, TrialObjects, TrialState, marked_epoch
from trainable.storage.uploader import Uploader

LOOK_AGAIN_SECONDS = 0.5


class Keeper:
    """The trials of one node, named by their keys in the storage, such as demo/checkpoints/trial_0001."""

    def __init__(self, storage: Storage, uploader: Uploader) -> None:
        self.objects = TrialObjects(storage)
        self._uploader = uploader
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._waiting: dict[str, Snapshot] = {}

    def hand_over(self, trial: str, snapshot: Snapshot) -> None:
        """Upload a trial's files in the background; they are removed once that is done or a newer version came."""
        with self._lock:
            self._waiting[trial] = snapshot
        self._uploader.submit(trial, _Upload(self, trial, snapshot))

    def waiting_epoch(self, trial: str) -> float:
        """The epoch of a trial that is still to be uploaded; 0 where nothing is."""
        with self._lock:
            snapshot = self._waiting.get(trial)
            return snapshot.epoch if snapshot else 0

    def fetch(
        self, trial: str, folder: Path, epochs: float, elsewhere: Callable[[str], float] = lambda trial: 0
    ) -> float:
        """Bring a trial's folder to its newest state; returns the epoch of that, 0 where there is none.

        Nothing is asked where the folder holds `epochs`, which is what the search knows of. Where the storage has
        fewer, but another node is still to upload more (`elsewhere` gives its epoch), that is waited for.
        """
        with self._lock:
            fetching = self._fetching.setdefault(trial, threading.Lock())
        with fetching:
            return self._fetch(trial, folder, epochs, elsewhere)

    def _fetch(self, trial: str, folder: Path, epochs: float, elsewhere: Callable[[str], float]) -> float:
        if epochs == 0 or marked_epoch(folder) >= epochs:
            return marked_epoch(folder)
        if self._take_back(trial, folder, epochs):
            return marked_epoch(folder)
        state = self._newest(trial, epochs, elsewhere)
        if state is not None and state.epoch > marked_epoch(folder):
            self.objects.fetch(trial, folder)
        return marked_epoch(folder)

    def flush(self, timeout: float) -> dict[str, str]:
        """Wait until all is uploaded, at most so many seconds; trial -> folder of what is not."""
        left = self._uploader.flush(timeout)
        with self._lock:
            return {trial: str(self._waiting[trial].folder) for trial in left if trial in self._waiting}

    def _take_back(self, trial: str, folder: Path, epochs: float) -> bool:
        """Take the files from what waits to be uploaded on this node; says whether that reaches `epochs`."""
        with self._lock:
            snapshot = self._waiting.get(trial)
            if snapshot is None or snapshot.epoch < epochs:
                return False
            shutil.rmtree(folder, ignore_errors=True)
            snapshot.copy_to(folder)
            return True

    def _newest(self, trial: str, epochs: float, elsewhere: Callable[[str], float]) -> TrialState | None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            held = elsewhere(trial)
            state = persist(lambda: self.objects.state(trial))
            reached = state.epoch if state else 0
            if reached >= epochs or held <= reached or time.monotonic() > deadline:
                return state
            time.sleep(LOOK_AGAIN_SECONDS)

    def done(self, trial: str, snapshot: Snapshot) -> None:
        """A snapshot was uploaded, or gave way to a newer one."""
        with self._lock:
            if self._waiting.get(trial) == snapshot:
                del self._waiting[trial]
            snapshot.remove()


class _Upload:
    """The upload of one snapshot."""

    def __init__(self, keeper: Keeper, trial: str, snapshot: Snapshot) -> None:
        self._keeper = keeper
        self._trial = trial
        self._snapshot = snapshot

    def run(self) -> None:
        self._keeper.objects.upload(self._trial, self._snapshot)

    def discard(self) -> None:
        self._keeper.done(self._trial, self._snapshot)
