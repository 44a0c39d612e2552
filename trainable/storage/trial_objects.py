"""A trial's files in a storage, where one object says which of the others belong together.

    <trial>/state.json                       epoch, the small files themselves, and the key of each large one
    <trial>/last/<version>/<file>            the checkpoint
    <trial>/best/<version>/<file>            the best weights

An object is never written twice: a new version has new keys, and `state.json`, which is replaced in one step, is
written after them and before the old ones are removed. So whoever reads it finds the files of one epoch, whole, at any
time, whatever was uploading when what died.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from trainable.errors import StorageError
from trainable.files import link_or_copy, write_text
from trainable.storage.retry import persist
from trainable.storage.storage import MissingObjectError, Storage

STATE_NAME = "state.json"
INLINE_BYTES = 1 << 16
"""A JSON file up to this size is kept in `state.json`: a request costs more than the bytes."""
MARKER = ".kept.json"
"""In a trial's folder: the epoch whose files were whole there. Names that begin with a dot are never uploaded."""
OUTBOX = ".outbox"
"""Beside the trials' folders: what is still to be uploaded."""
FETCH_ATTEMPTS = 5
"""A version may be replaced while it is read."""

_LAST_WRITTEN = ("last", "best", "best.json")
"""Of a trial's files on a node, so that one that dies in between leaves a state to go on from."""


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """What `state.json` holds."""

    epoch: float
    """Epochs done; a fraction where the checkpoint was written within one."""
    documents: dict[str, str] = field(default_factory=dict)
    """Relative path -> text of a small file."""
    objects: dict[str, str] = field(default_factory=dict)
    """Relative path -> key, below the trial's, of a large file."""

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """Raises `StorageError` for what is no such object."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise StorageError(f"{where} must hold a trial's state as a search writes it, but: {error}.") from error

    def document(self, name: str) -> dict[str, object]:
        """A small file as JSON; empty where there is none."""
        return dict(json.loads(self.documents[name])) if name in self.documents else {}


@dataclass(frozen=True)
class Snapshot:
    """A trial's files as they were after one epoch: hard links, or copies where the file system has no links.

    They cost no room while the trial's own files are the same, and stay what they were when those are replaced.
    """

    folder: Path
    epoch: float

    @classmethod
    def take(cls, trial: Path, epoch: float) -> Self:
        """Link what lies in a trial's folder now; only who writes there may call this."""
        folder = trial.parent / OUTBOX / f"{trial.name}.{uuid.uuid4().hex}"
        for path in visible_files(trial):
            _link(path, folder / path.relative_to(trial))
        mark(trial, epoch)
        return cls(folder, epoch)

    def copy_to(self, trial: Path) -> None:
        """Put the files into an empty trial's folder."""
        for path in visible_files(self.folder):
            _link(path, trial / path.relative_to(self.folder))
        mark(trial, self.epoch)

    def remove(self) -> None:
        """Remove the links."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class _Known:
    """What this process knows of a trial's objects."""

    files: dict[str, tuple[object, str]] = field(default_factory=dict)
    """Relative path -> signature of the file that was sent last, and its key."""
    keys: set[str] = field(default_factory=set)
    """Every key that may lie there."""
    looked: bool = False
    """Whether what other processes left is among them."""


class TrialObjects:
    """Writes and reads trials. A trial is named by its key in the storage, such as demo/checkpoints/trial_0001."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._known: dict[str, _Known] = {}

    def upload(self, trial: str, snapshot: Snapshot) -> None:
        """Let the storage hold this version of a trial, and no other. Repeated after an error it goes on.

        A file that did not change since its last upload is not sent again.
        """
        known = self._known.setdefault(trial, _Known())
        if not known.looked:
            known.keys = {key.removeprefix(f"{trial}/") for key in self.storage.sizes(f"{trial}/")} - {STATE_NAME}
            known.looked = True
        version = f"e{int(snapshot.epoch):05d}-{uuid.uuid4().hex[:8]}"
        documents, objects = {}, {}
        for path in visible_files(snapshot.folder):
            name = path.relative_to(snapshot.folder).as_posix()
            if path.suffix == ".json" and path.stat().st_size <= INLINE_BYTES:
                documents[name] = path.read_text(encoding="utf-8")
            else:
                objects[name] = self._upload_file(trial, name, path, version)
        state = {"epoch": snapshot.epoch, "documents": documents, "objects": objects}
        self.storage.put(f"{trial}/{STATE_NAME}", json.dumps(state, ensure_ascii=False).encode())
        unwanted = known.keys - set(objects.values())
        if unwanted:
            self.storage.delete([f"{trial}/{key}" for key in sorted(unwanted)])
        self._known[trial] = _Known({name: known.files[name] for name in objects}, set(objects.values()), looked=True)

    def state(self, trial: str) -> TrialState | None:
        """What the storage holds of a trial; None where it holds nothing."""
        key = f"{trial}/{STATE_NAME}"
        try:
            return TrialState.parse(self.storage.get(key), f"{self.storage.uri}/{key}")
        except MissingObjectError:
            return None

    def fetch(self, trial: str, folder: Path, parts: tuple[str, ...] | None = None) -> TrialState | None:
        """Replace a folder by the files of a trial, or by those `parts` of them; None where the storage has none.

        Waits for a storage that does not answer, as `persist` does.
        """
        for attempt in range(FETCH_ATTEMPTS):
            state = persist(lambda: self.state(trial))
            if state is None:
                return None
            try:
                self._fetch_state(trial, state, folder, parts)
            except MissingObjectError:
                if attempt == FETCH_ATTEMPTS - 1:
                    raise
            else:
                return state
        return None

    def _upload_file(self, trial: str, name: str, path: Path, version: str) -> str:
        """The key of a file, which is sent unless it was before."""
        known, status = self._known[trial], path.stat()
        signature = (status.st_ino, status.st_size, status.st_mtime_ns)
        if name in known.files and known.files[name][0] == signature:
            return known.files[name][1]
        part, _, rest = name.partition("/")
        key = f"{part}/{version}/{rest}" if rest else f"files/{version}/{part}"
        known.keys.add(key)
        self.storage.put_file(f"{trial}/{key}", path)
        known.files[name] = (signature, key)
        return key

    def _fetch_state(self, trial: str, state: TrialState, folder: Path, parts: tuple[str, ...] | None) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        names = (*state.documents, *state.objects)
        for name in sorted((name for name in names if parts is None or _part(name) in parts), key=_turn):
            target = folder / name
            if name in state.documents:
                write_text(target, state.documents[name])
            else:
                key = f"{trial}/{state.objects[name]}"
                persist(_reader(self.storage, key, target))
        mark(folder, state.epoch)


def _part(name: str) -> str:
    return name.partition("/")[0]


def _turn(name: str) -> tuple[int, str]:
    part = _part(name)
    return _LAST_WRITTEN.index(part) if part in _LAST_WRITTEN else -1, name


def visible_files(folder: Path) -> list[Path]:
    """Every file below a folder, without those that are not finished or not meant for others."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root) / name for name in sorted(names) if not name.startswith(".")]
    return found


def mark(trial: Path, epoch: float) -> None:
    """Note that a trial's folder holds the files of an epoch."""
    write_text(trial / MARKER, json.dumps({"epoch": epoch}))


def marked_epoch(trial: Path) -> float:
    """The epoch of the files in a trial's folder; 0 where they are not known to be whole."""
    try:
        return float(json.loads((trial / MARKER).read_text(encoding="utf-8"))["epoch"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(path, target)


def _reader(storage: Storage, key: str, path: Path) -> Callable[[], None]:
    return lambda: storage.get_file(key, path)
