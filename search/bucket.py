"""Experiments in a bucket: worked on in a folder of this machine, and mirrored while they are."""

import contextlib
import hashlib
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from search.experiment import CHECKPOINTS, Experiment, require_usable
from search.place import Say
from search.trials import TrialRecord
from trainable.data.store import stores_folder
from trainable.errors import ExperimentError, StorageError
from trainable.slot.node_data import new_desk_name
from trainable.storage.lease import LEASE_NAME, Lease
from trainable.storage.mirror import Mirror
from trainable.storage.probe import probe
from trainable.storage.retry import PATIENCE_SECONDS, persist
from trainable.storage.storage import open_storage
from trainable.storage.trial_objects import TrialObjects, TrialState
from trainable.storage.uploader import Uploader
from trainable.storage.working_copy import MANIFEST, bring_up_to_date

WITHOUT = (CHECKPOINTS, "log/tune")
"""What of an experiment's folder is not mirrored: slots keep their trials themselves, and nobody reads Tune's files."""
QUIET_SECONDS = 3.0
"""Uploads that take longer at the end are spoken of."""
THREADS = 16


class BucketPlace:
    """Everything below an address. One search at a time may write to an experiment there."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self.folder = working_folder(uri)
        self._storage = open_storage(self.uri)
        self._trials = TrialObjects(self._storage)
        self.desk = new_desk_name()
        self._desk: Any = None
        self._lease: Lease | None = None
        self._mirror: Mirror | None = None
        self._scratch = ""
        self._say: Say = print

    def require_usable(self, name: str | None) -> None:
        """Try the bucket from here; raises `StorageError`, or `ExperimentError` where the name is taken."""
        require_usable(self.folder, None)
        persist(lambda: probe(self._storage), QUIET_SECONDS)
        if name is not None and persist(lambda: self._storage.sizes(f"{name}/{MANIFEST}")):
            raise ExperimentError(
                f"an experiment must have a place of its own, but {self.uri}/{name} holds one. Choose another --name, "
                f"or go on with it by --resume {self.uri}/{name}."
            )
        require_usable(self.folder, name)

    def go_on_with(self, name: str) -> None:
        """Take an experiment over, and bring its folder on this machine up to date."""
        self.require_usable(None)
        self._take(name)
        bring_up_to_date(self._storage, name, self.folder / name, WITHOUT)

    def close(self) -> None:
        """Let others have the experiment."""
        if self._lease is not None:
            self._lease.release()

    @contextlib.contextmanager
    def connected(self, say: Say) -> Iterator[None]:
        """Start the actors that lead to the bucket, and try it from every node."""
        from trainable.slot.storage_actors import close_desk, start_desk
        from trainable.slot.stored_tasks import probe_nodes

        self._desk = start_desk(self.desk, self.uri)
        try:
            troubles = probe_nodes(self._desk)
            if troubles:
                more = f" (and from {len(troubles) - 1} more)" if len(troubles) > 1 else ""
                raise StorageError(f"every node that trains must be able to use the storage, but {troubles[0]}{more}")
            yield
        finally:
            self._clean_nodes()
            close_desk(self._desk)

    @contextlib.contextmanager
    def mirrored(self, experiment: Experiment, say: Say) -> Iterator[None]:
        """Mirror the experiment's folder until the end, and wait there for what is not uploaded yet."""
        self._say = say
        self._take(experiment.name)
        self._mirror = Mirror(self._storage, experiment.name, experiment.path, Uploader(say=say), without=WITHOUT)
        self._mirror.start()
        try:
            yield
        finally:
            self._deliver(experiment)

    def slot_settings(self, experiment: Experiment) -> dict[str, str]:
        """Slots write to a folder of their node, the same path on all, and their agents into the bucket."""
        scratch = scratch_folder() / f"{experiment.name}-{_slug(f'{self.uri}/{experiment.name}')[-8:]}"
        self._scratch = str(scratch)
        return {
            "checkpoints": str(scratch),
            "desk": self.desk,
            "prefix": f"{experiment.name}/{CHECKPOINTS}",
        }

    def address(self, experiment: Experiment) -> str:
        """Its address."""
        return f"{self.uri}/{experiment.name}"

    def gather(self, trials: Iterable[TrialRecord], experiment: Experiment) -> None:
        """Wait for what nodes have still to upload, and fetch what trials that were cut off have not reported."""
        if not self._is_ours():
            return
        self._flush_nodes()

        def fetch(trial: TrialRecord) -> None:
            key = self._key(trial.trial_id, experiment)
            state = persist(lambda: self._trials.state(key))
            if state is not None and _best_epoch(state) == int(state.epoch) > trial.epochs:
                folder = experiment.checkpoints / trial.trial_id
                self._trials.fetch(key, folder, parts=("report.json", "best", "best.json"))

        cut_off = [trial for trial in trials if not trial.ended and trial.attempts]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(fetch, cut_off))

    def bring_best(self, trial_id: str, experiment: Experiment) -> None:
        """Fetch the best weights of a trial."""
        if not self._is_ours():
            raise ExperimentError(f"only one search may write to {self.address(experiment)}, and another one does.")
        key = self._key(trial_id, experiment)
        found = self._trials.fetch(key, experiment.checkpoints / trial_id, parts=("report.json", "best", "best.json"))
        if found is None:
            raise ExperimentError(
                f"the weights of {trial_id} must lie in {self.uri}/{key}, but do not: its node could not deliver them. "
                f"Train it again by --resume {self.address(experiment)}."
            )

    def removed(self, path: Path, experiment: Experiment) -> None:
        """Remove it in the bucket, in the background."""
        if self._mirror is not None:
            self._mirror.remove(path.relative_to(experiment.path).as_posix())

    def tidy(self, kept: Iterable[str], going_on: Iterable[str], experiment: Experiment) -> None:
        """Remove what uploads that were late have left of trials that had ended."""
        if not self._is_ours():
            return
        kept, going_on = set(kept), set(going_on)
        prefix = f"{experiment.name}/{CHECKPOINTS}/"
        with contextlib.suppress(StorageError):  # it costs room, and the next search that goes on does it
            keys = self._storage.sizes(prefix)
            self._storage.delete([key for key in keys if not _is_needed(key.removeprefix(prefix), kept, going_on)])

    def evaluation(self, experiment: Experiment) -> tuple[Any, ...]:
        """A task fetches the weights to wherever it runs."""
        from trainable.slot.stored_tasks import evaluate_stored

        if self._mirror is not None:
            self._mirror.flush(PATIENCE_SECONDS)
        return evaluate_stored, self.desk, f"{experiment.name}/{experiment.best.name}"

    def _key(self, trial_id: str, experiment: Experiment) -> str:
        return f"{experiment.name}/{CHECKPOINTS}/{trial_id}"

    def _is_ours(self) -> bool:
        """Whether no other search has taken the experiment."""
        return self._lease is None or self._lease.held

    def _take(self, name: str) -> None:
        if self._lease is None:
            self._lease = Lease(self._storage, f"{name}/{LEASE_NAME}", self._lost)

    def _lost(self, line: str) -> None:
        """Another search writes to the experiment by now: leave it to that one, and end as after Ctrl-C."""
        self._say(f"error: {line}; this one ends, and uploads no more")
        if self._mirror is not None:
            self._mirror.abandon()
        if self._desk is not None:
            from trainable.slot.storage_actors import close_desk

            close_desk(self._desk)
        os.kill(os.getpid(), signal.SIGTERM)

    def _flush_nodes(self) -> None:
        """Wait for the uploads of all nodes, and name what could not be delivered."""
        import ray

        from trainable.slot.storage_actors import answered

        agents = ray.get(self._desk.agents.remote()).values()
        calls = [agent.flush.remote(PATIENCE_SECONDS) for agent in agents]
        _, late = ray.wait(calls, num_returns=len(calls), timeout=QUIET_SECONDS) if calls else ([], [])
        if late:
            self._say(f"waiting for the checkpoints that {len(late)} nodes have still to upload")
        for left in answered(calls, PATIENCE_SECONDS + QUIET_SECONDS):
            for trial, folder in (left or {}).items():
                self._say(f"warning: {trial} could not be delivered; it lies in {folder} on its node")

    def _clean_nodes(self) -> None:
        """Remove what slots that were ended from outside left on their nodes."""
        import ray

        from trainable.slot.storage_actors import answered

        with contextlib.suppress(ray.exceptions.RayError):
            agents = ray.get(self._desk.agents.remote()).values() if self._scratch else ()
            answered([agent.clean.remote(self._scratch) for agent in agents], QUIET_SECONDS)

    def _deliver(self, experiment: Experiment) -> None:
        """Upload what is left of the experiment's folder, and say what could not be."""
        if self._mirror is None or not self._is_ours():
            return
        left = self._mirror.close(QUIET_SECONDS, end=False)
        if left:
            self._say(f"waiting for {len(left)} uploads to {self.address(experiment)}; Ctrl-C leaves them")
            began = time.monotonic()
            with contextlib.suppress(KeyboardInterrupt):
                left = self._mirror.close(PATIENCE_SECONDS)
            waited = time.monotonic() - began
        if left:
            self._say(
                f"warning: {len(left)} could not be delivered to {self.address(experiment)} within {waited:.0f} s "
                f"({', '.join(left[:3])}{' …' if len(left) > 3 else ''}); they lie in {experiment.path}, and go there "
                f"by --resume {self.address(experiment)} on this machine"
            )


def working_folder(uri: str) -> Path:
    """Where on this machine experiments of an address are worked on: below $GLANCE_CACHE, or the user's cache."""
    return stores_folder().parent / "experiments" / _slug(uri)


def scratch_folder() -> Path:
    """Where slots write trials that a bucket keeps: among the temporary files, so below $TMPDIR where that is set here.

    The same path serves on all nodes, and is best a disk of each: so it is none of the user's home, and no cache.
    """
    return Path(tempfile.gettempdir()) / f"glance-{os.getuid()}" / "trials"


def _slug(uri: str) -> str:
    """A folder's name for an address."""
    name = re.sub(r"[^\w.]+", "-", uri.rstrip("/")).strip("-")[-60:]
    return f"{name}-{hashlib.sha256(uri.rstrip('/').encode()).hexdigest()[:8]}"


def _best_epoch(state: TrialState) -> object:
    return state.document("best.json").get("epoch")


def _is_needed(path: str, kept: set[str], going_on: set[str]) -> bool:
    """Whether an object of a trial, `<trial_id>/<part>/...`, is still of use."""
    trial_id, _, rest = path.partition("/")
    return trial_id in going_on or (trial_id in kept and not rest.startswith("last/"))
