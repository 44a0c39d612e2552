"""Population-based training (Jaderberg et al., arXiv 1711.09846): bad trials go on from good ones' checkpoints.

Every `grace_epochs` epochs a trial is compared with all trials that reached that epoch before it. Where it is in the
lowest quarter it pauses, and goes on, at the same epoch, from the checkpoint that a trial of the highest quarter left
there (truncation selection, section 4.1.1), with that trial's learning rate, weight decay and augmentation, each
multiplied by 1.2 or 0.8 (perturb, section 4.1.1) and kept within the range of the space. So the hyperparameters of a
trial become a schedule. No trial is stopped but one that diverges.

All of it is ours. Ray's `PopulationBasedTraining` works through Tune's checkpoints, which Glance's slots leave empty,
and through Tune's trials, whose configs it changes in place; it draws from the global, unseeded `random`, and compares
trials by their last scores, at whatever epochs they stand. Here a trial and its source have seen as many epochs, so
that the learning rate's schedule goes on where it was; and source and factors follow from the reports before, the seed,
the trial and the epoch, so that the ledger brings the same population back.

A population is at its best where all its trials run at one time, at about one speed: who reaches an epoch first has
nobody to be compared with. Where there are fewer slots, trials that begin later are compared with those that passed.
"""

import zlib
from collections.abc import Iterator

import numpy as np

from search.asha import Rung
from search.dimensions import LogUniform, Uniform
from search.schedulers import Decision, Inheritance, Kept, RunAll, SchedulerOptions
from search.spaces import Space
from trainable.errors import ConfigError
from trainable.storage.storage import is_remote

PERTURBED = ("learning_rate", "weight_decay", "augmentation")
"""What may change in the middle of training."""
FACTORS = (0.8, 1.2)
QUANTILE = 0.25
"""The share of the population that is replaced, and the share that replaces it."""


def ranges_of(space: Space) -> dict[str, tuple[float, float]]:
    """The ranges of the hyperparameters that population-based training changes: those of `PERTURBED` that vary.

    Raises `ConfigError` where none does.
    """
    dimensions = {name: space.dimensions.get(name) for name in PERTURBED}
    ranges = {name: dim.edges() for name, dim in dimensions.items() if isinstance(dim, Uniform | LogUniform)}
    if not ranges:
        raise ConfigError(
            f"--scheduler pbt must have {', '.join(PERTURBED[:-1])} or {PERTURBED[-1]} to vary over a range, but the "
            "space fixes all of them: use --set learning_rate=loguniform(1e-4,1e-2)."
        )
    return ranges


def require_population(algorithm: str, confirm: int, storage: str) -> None:
    """Raise `ConfigError` where an algorithm, a number of configs to confirm, or a storage does not go with it."""
    if algorithm != "random":
        raise ConfigError(
            "--scheduler pbt needs --algo random, because what learns from results would take a trial's schedule for "
            f"one config, but got --algo {algorithm}."
        )
    if confirm:
        raise ConfigError(
            "--scheduler pbt needs --confirm 0, because a schedule is no config that could be trained again, but got "
            f"--confirm {confirm}."
        )
    if is_remote(storage):
        raise ConfigError(
            "--scheduler pbt needs --storage to be a folder that all nodes share, because a trial goes on from what "
            f"another left there, but got {storage}."
        )


class PopulationBased(RunAll):
    """Pauses a trial in the lowest quarter of its population until it is handed out as a copy of a better one."""

    def __init__(self, options: SchedulerOptions) -> None:
        super().__init__()
        epochs = range(options.grace_epochs, options.max_epochs, options.grace_epochs)
        self.populations = {epoch: Rung(epoch) for epoch in epochs}
        self._options = options
        self._sign = 1.0 if options.mode == "max" else -1.0
        self._epochs: dict[str, int] = {}
        self._ended: set[str] = set()
        self._waiting: dict[str, None] = {}
        self._inheritances: dict[str, Inheritance] = {}

    def on_end(self, trial_id: str) -> None:
        """A trial that did not reach its last epoch failed, and is no example to others."""
        self._go_on(trial_id)
        self._ended.add(trial_id)
        if self._epochs.get(trial_id, 0) < self._options.max_epochs:
            self._leave_populations(trial_id)

    def promotable(self) -> str | None:
        """The trial that waits the longest; none waits for another."""
        return next(iter(self._waiting), None)

    def on_promote(self, trial_id: str) -> None:
        """It goes on from what it inherits."""
        self._waiting.pop(trial_id, None)
        self._verdicts.resume(trial_id)

    def inherits(self, trial_id: str) -> Inheritance | None:
        """What was decided at a trial's last report, until it reports again or ends."""
        return self._inheritances.get(trial_id)

    def inheritable(self) -> set[Kept]:
        """What was decided and waits, and at each epoch that a trial may still come to, whatever may be a source there.

        Those ahead of a source may fail and leave the population, unless they finished: so it is those that finished
        which put a trial out of the best quarter for good.
        """
        pending = {(one.source, one.epoch) for one in self._inheritances.values()}
        open_epochs = (epoch for epoch in self.populations if self._may_come_to(epoch))
        return pending.union(*(self._possible_sources(self.populations[epoch]) for epoch in open_epochs))

    def _may_come_to(self, epoch: int) -> bool:
        """Whether a trial may still be compared at an epoch."""
        if self._options.trials is None:
            return True
        passed = sum(reached >= epoch or trial_id in self._ended for trial_id, reached in self._epochs.items())
        unheard = sum(trial_id not in self._epochs for trial_id in self._ended)
        return passed + unheard < self._options.trials

    def _possible_sources(self, population: Rung) -> Iterator[Kept]:
        """The trials that can still come to be among the best quarter of all."""
        trials = self._options.trials
        finished = 0
        for rank in range(len(population)):
            if trials is not None and finished >= int(trials * QUANTILE):
                return
            yield population.at(rank), population.epoch
            finished += population.at(rank) in self._ended

    def _decide(self, trial_id: str, epoch: int, value: float) -> Decision:
        self._go_on(trial_id)
        self._epochs[trial_id] = epoch
        population = self.populations.get(epoch)
        if population is None:
            return Decision.CONTINUE
        population.record(trial_id, self._sign * value)
        quarter = int(len(population) * QUANTILE)
        if population.better_than(trial_id) < len(population) - quarter:
            return Decision.CONTINUE
        self._inheritances[trial_id] = self._inheritance(trial_id, population, quarter)
        self._waiting[trial_id] = None
        return Decision.PAUSE

    def _diverged(self, trial_id: str) -> None:
        self._go_on(trial_id)
        self._leave_populations(trial_id)

    def _inheritance(self, trial_id: str, population: Rung, quarter: int) -> Inheritance:
        rng = np.random.default_rng((self._options.seed, zlib.crc32(trial_id.encode()), population.epoch))
        source = population.at(int(rng.integers(quarter)))
        factors = {name: float(rng.choice(FACTORS)) for name in sorted(self._options.ranges)}
        return Inheritance(source=source, epoch=population.epoch, factors=factors, ranges=self._options.ranges)

    def _go_on(self, trial_id: str) -> None:
        """Whatever a trial waited for or inherited is behind it."""
        self._waiting.pop(trial_id, None)
        self._inheritances.pop(trial_id, None)

    def _leave_populations(self, trial_id: str) -> None:
        for population in self.populations.values():
            population.remove(trial_id)
