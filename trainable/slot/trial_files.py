"""Where the files of a slot's trials are kept: where the slot writes them, or in a storage as well."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from trainable.files import write_text
from trainable.slot.runner import InProcessRunner, WorkersLostError
from trainable.storage.trial_objects import Snapshot

T = TypeVar("T")


class TrialFiles(Protocol):
    """Asked by a slot around each trial; `folder` is where it writes the trial's files."""

    def bring(self, trial_id: str, folder: Path, epochs: float | None) -> None:
        """Let the folder hold the trial's newest state; `epochs` are known, None: it was never started."""
        ...

    def keep(self, trial_id: str, folder: Path, epochs: float) -> None:
        """The folder holds the state after so many epochs, a part of one counted as a fraction."""
        ...

    def leave(self, trial_id: str, folder: Path) -> None:
        """The slot has done with the trial for now."""
        ...


class LocalFiles:
    """All nodes see the folders that slots write to."""

    def bring(self, trial_id: str, folder: Path, epochs: float | None) -> None:
        """They are there."""

    def keep(self, trial_id: str, folder: Path, epochs: float) -> None:
        """They are there."""

    def leave(self, trial_id: str, folder: Path) -> None:
        """They stay there."""


class StoredFiles:
    """The folders are this node's own, and the trials lie in a storage below `prefix`.

    `desk` is the name of the actor that leads there. To keep a trial costs the slot a few hard links and a message.
    """

    def __init__(self, desk: str, prefix: str) -> None:
        self._desk = desk
        self._prefix = prefix
        self._agent: Any = None

    def bring(self, trial_id: str, folder: Path, epochs: float | None) -> None:
        """Fetch what another node left; raises `StorageError` where the storage cannot be reached for long."""
        if epochs is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            self._ask("fetch", self._key(trial_id), str(folder), epochs)

    def keep(self, trial_id: str, folder: Path, epochs: float) -> None:
        """Hand a snapshot to the node's agent."""
        snapshot = Snapshot.take(folder, epochs)
        self._ask("hand_over", self._key(trial_id), str(snapshot.folder), epochs)

    def leave(self, trial_id: str, folder: Path) -> None:
        """Remove the node's copy: a snapshot holds what is not uploaded yet."""
        shutil.rmtree(folder, ignore_errors=True)

    def _key(self, trial_id: str) -> str:
        return f"{self._prefix}/{trial_id}"

    def _ask(self, verb: str, *arguments: Any) -> Any:
        import ray

        from trainable.slot.storage_actors import agent_here, answer_of

        try:
            if self._agent is None:
                self._agent = agent_here(self._desk)
            return answer_of(getattr(self._agent, verb).remote(*arguments))
        except ray.exceptions.RayActorError as error:
            self._agent = None
            raise WorkersLostError(f"the storage's agent on this node was lost: {error}") from error


class GroupFiles:
    """The files of a trial that several workers train, whose first rank writes checkpoints on its own node.

    The slot's node has report.json and best.json, which go to the first rank to be kept with the rest. `order` lets all
    ranks carry out a verb of `StoredRunner`.
    """

    def __init__(self, own: TrialFiles, order: Callable[..., Any]) -> None:
        self._own = own
        self._order = order

    def bring(self, trial_id: str, folder: Path, epochs: float | None) -> None:
        """Fetch on the slot's node, and on that of each rank."""
        self._own.bring(trial_id, folder, epochs)
        self._order("bring", trial_id, folder, epochs)

    def keep(self, trial_id: str, folder: Path, epochs: float) -> None:
        """Let the first rank hand over all."""
        documents = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("[!.]*.json")}
        self._order("keep", trial_id, folder, epochs, documents)

    def leave(self, trial_id: str, folder: Path) -> None:
        """Remove the copy of the slot's node; each rank removes its own when it stops."""
        self._own.leave(trial_id, folder)


class StoredRunner(InProcessRunner):
    """One worker of a group whose trials lie in a storage: a runner with two more verbs."""

    def __init__(self, store: str, files: TrialFiles, *, first: bool, **training: Any) -> None:
        super().__init__(store, **training)
        self._files = files
        self._first = first
        self._trial: tuple[str, Path] | None = None

    def bring(self, trial_id: str, folder: Path, epochs: float | None) -> None:
        """Let this node have the trial's newest state."""
        self._trial = trial_id, folder
        self._files.bring(trial_id, folder, epochs)

    def keep(self, trial_id: str, folder: Path, epochs: float, documents: Mapping[str, str]) -> None:
        """On the first rank: keep what it wrote, with the slot's documents (name -> text)."""
        if not self._first:
            return
        for name, text in documents.items():
            write_text(folder / name, text)
        self._files.keep(trial_id, folder, epochs)

    def stop(self) -> str | None:
        """Forget the trial, also its files on this node."""
        leak = super().stop()
        if self._trial is not None:
            self._files.leave(*self._trial)
            self._trial = None
        return leak
