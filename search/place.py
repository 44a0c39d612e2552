"""Where the experiments of a search lie: in a folder that all nodes see, or in a bucket."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from search.experiment import Experiment, require_usable
from search.trials import TrialRecord
from trainable.files import json_object
from trainable.slot.node_data import new_desk_name
from trainable.slot.tasks import evaluate_model
from trainable.storage.storage import is_remote

if TYPE_CHECKING:
    from search.options import SearchOptions

Say = Callable[[str], None]


class Place(Protocol):
    """What a search asks of the place where its experiment lies.

    The experiment is worked on in a folder of this machine in any case; its ledger, report and search know no other.
    """

    @property
    def folder(self) -> Path:
        """The folder that holds the experiments' folders."""
        ...

    @property
    def desk(self) -> str:
        """Name of the actor that leads nodes to buckets; empty where neither results nor data lie in one."""
        ...

    def require_usable(self, name: str | None) -> None:
        """Raise an error where the place cannot be written, or holds an experiment of that name."""
        ...

    def connected(self, say: Say) -> AbstractContextManager[None]:
        """Let the nodes of the cluster reach the place; raises `StorageError` where one does not."""
        ...

    def mirrored(self, experiment: Experiment, say: Say) -> AbstractContextManager[None]:
        """Keep the experiment in the place from here on; at the end wait until all of it is there."""
        ...

    def slot_settings(self, experiment: Experiment) -> dict[str, str]:
        """The fields of `SlotOptions` that say where trials are kept."""
        ...

    def address(self, experiment: Experiment) -> str:
        """How a person names the experiment."""
        ...

    def gather(self, trials: Iterable[TrialRecord], experiment: Experiment) -> None:
        """Put into the experiment's folder what trials that were cut off have left and not reported."""
        ...

    def bring_best(self, trial_id: str, experiment: Experiment) -> None:
        """Put the best weights of a trial into the experiment's folder."""
        ...

    def removed(self, path: Path, experiment: Experiment) -> None:
        """What lay at a path of the experiment's folder is not needed any more."""
        ...

    def tidy(self, kept: Iterable[str], going_on: Iterable[str], experiment: Experiment) -> None:
        """Remove the checkpoints of all trials but those: of the first the best weights stay, of the second all."""
        ...

    def evaluation(self, experiment: Experiment) -> tuple[Any, ...]:
        """The task that measures the experiment's best weights, and its first arguments."""
        ...


@dataclass(frozen=True)
class FolderPlace:
    """A folder of this machine, or one that all nodes share: everything is where it is written."""

    folder: Path = Path("results")
    desk: str = ""

    def require_usable(self, name: str | None) -> None:
        """Make the folder."""
        require_usable(self.folder, name)

    def connected(self, say: Say) -> AbstractContextManager[None]:
        """Nodes need no more than their file system, except to data in a bucket."""
        if not self.desk:
            return contextlib.nullcontext()
        from trainable.slot.storage_actors import data_desk

        return data_desk(self.desk)

    def mirrored(self, experiment: Experiment, say: Say) -> AbstractContextManager[None]:
        """It is there."""
        return contextlib.nullcontext()

    def slot_settings(self, experiment: Experiment) -> dict[str, str]:
        """Slots write into the experiment."""
        return {
            "checkpoints": str(experiment.checkpoints.resolve()),
            "population": str(experiment.population.resolve()),
        }

    def address(self, experiment: Experiment) -> str:
        """Its path."""
        return str(experiment.path)

    def gather(self, trials: Iterable[TrialRecord], experiment: Experiment) -> None:
        """It is there."""

    def bring_best(self, trial_id: str, experiment: Experiment) -> None:
        """They are there."""

    def removed(self, path: Path, experiment: Experiment) -> None:
        """It is gone."""

    def tidy(self, kept: Iterable[str], going_on: Iterable[str], experiment: Experiment) -> None:
        """What is removed in the folder is gone."""

    def evaluation(self, experiment: Experiment) -> tuple[Any, ...]:
        """A task reads the experiment."""
        return evaluate_model, str(experiment.best.resolve())


@contextlib.contextmanager
def open_place(options: "SearchOptions") -> Iterator[Place]:
    """The place that `--storage` or `--resume` names, for as long as the search lasts.

    A search that goes on in a bucket has its working copy brought up to date first.
    """
    if not is_remote(options.storage):
        in_bucket = options.data_path is not None and is_remote(options.data_path)
        yield FolderPlace(Path(options.storage), new_desk_name() if in_bucket else "")
        return
    from search.bucket import BucketPlace

    place = BucketPlace(options.storage)
    try:
        if options.resume is not None:
            place.go_on_with(Path(options.resume).name)
        yield place
    finally:
        place.close()


def begun(where: str) -> tuple[Path, str, dict[str, Any]]:
    """Of the experiment that `--resume` names: its folder on this machine, the place above it, and its manifest.

    Of one in a bucket the folder may be out of date, or not be there; the manifest is the bucket's.
    """
    if not is_remote(where):
        folder = Path(where)
        return folder, str(folder.parent), Experiment.open(folder).read_manifest()
    from search.bucket import working_folder
    from trainable.storage.storage import open_storage, split_uri
    from trainable.storage.working_copy import read_manifest

    place, name = split_uri(where)
    manifest = json_object(read_manifest(open_storage(place), name), f"{where.rstrip('/')}/experiment.json")
    return working_folder(place) / name, place, manifest
