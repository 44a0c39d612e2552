"""What a search begins with: the configs to try first, and what earlier experiments found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from search.experiment import Experiment
from search.options import SearchOptions
from search.points import Point, from_manifest, read_points
from search.spaces import Space
from search.trials import TrialRecord
from search.warm_start import Asked, Earlier, learn, read_earlier
from trainable.data.store import Store
from trainable.data.unseen import UnseenClasses
from trainable.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class HeadStart:
    """What was given to a search beside its space."""

    points: Sequence[Point] = ()
    experiments: Sequence[Earlier] = ()
    gone: Sequence[str] = ()
    """A line for each earlier experiment that a search which goes on cannot read any more."""

    @classmethod
    def read(cls, options: SearchOptions, space: Space) -> Self:
        """Read `--points` and `--warm-start`; raises `ConfigError` and `ExperimentError`."""
        experiments, gone = read_earlier(
            options.warm_start, options.metrics[0], options.mode, resumed=options.resume is not None
        )
        return cls(points=_points(options, space), experiments=experiments, gone=gone)

    def earlier_trials(
        self, options: SearchOptions, space: Space, store: Store, unseen: UnseenClasses, say: Callable[[str], None]
    ) -> list[TrialRecord]:
        """The trials of earlier experiments that the searcher gets; `say` gets what a person should know of them."""
        asked = Asked(
            space=space,
            max_epochs=options.max_epochs,
            seed=options.seed,
            dataset=store.manifest.dataset,
            content_hash=store.manifest.content_hash,
            unseen=unseen,
            learns=options.algo not in ("asha", "random"),
        )
        trials, lines = learn(self.experiments, asked)
        for line in (*self.gone, *lines):
            say(line)
        return trials


def _points(options: SearchOptions, space: Space) -> list[Point]:
    """Of a search that goes on, what its manifest kept: the file may be another one by now."""
    if options.points is None:
        return []
    if options.resume is not None:
        return from_manifest(Experiment.open(Path(options.resume)).read_manifest().get("points", []), space)
    points = read_points(Path(options.points), space, options.seed)
    if len(points) > options.trials:
        raise ConfigError(
            f"--trials must be at least the {len(points)} of {options.points}, which come first, but got "
            f"{options.trials}."
        )
    return points
