"""Training the best configs again (`--confirm`): the best of many noisy values flatters.

A search takes the best of N values, each with the luck of one seed, so that the value it chose by is too good. The best
K configs are therefore trained again, to the end and with further seeds. A config's value is then the mean of those
further values, which nothing was chosen by, and the best config is that of the best mean; its weights are those that
the search had trained. Only then is it tested.

Such trials stand in the same ledger, created with `confirms`. Nothing stops them, and no ranking, scheduler or searcher
hears of them. The ledger alone says what is still to train, so that a search whose driver died goes on with it.
"""

import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.driver import Search
from search.ledger import LedgerWriter
from search.options import SearchOptions
from search.recorder import Recorder
from search.retention import rank
from search.schedulers import RunAll
from search.searchers import RandomSearcher
from search.source import TrialSource
from search.trials import Report, TrialRecord, best_report, searched, unconfirming
from trainable.config import TrialConfig

CONFIRM_SEEDS = 3
"""So many further seeds each config is trained with."""
NOT_CONFIRMED = ("INTERRUPTED", "ABORTED")
"""States of a search after which nothing is confirmed."""


BOUNDS = ("trials", "max_epochs", "time_budget", "budget_hours")
"""What bounds the search itself; where that is asked anew, the search goes on before anything is confirmed."""


class ConfirmationSource(TrialSource):
    """Hands out the given trials, and no others; tells scheduler and searcher nothing, and none is ever stopped."""

    def __init__(self, search: Search, recorder: Recorder, trial_ids: Iterable[str]) -> None:
        metric = search.options.metrics[0]
        nobody = RandomSearcher(search.space, 0)
        super().__init__(nobody, RunAll(), recorder, TrialConfig(), metric=metric, trials=0)
        self._unfinished = deque(trial_ids)

    def end_paused(self) -> None:
        """Trials of the search that wait at a rung are none of these."""


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A config that was trained again."""

    trial: TrialRecord
    """The trial of the search."""
    chosen: Report
    """What the search chose it by: its best epoch."""
    seeds: Sequence[int]
    values: Sequence[float]
    """The metric of each further trial that did not fail, at its best epoch."""

    @property
    def failed(self) -> int:
        """How many further trials failed."""
        return len(self.seeds) - len(self.values)

    @property
    def mean(self) -> float | None:
        """None where all failed."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Standard deviation of the sample (n - 1); None of fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def to_dict(self, metric: str) -> dict[str, Any]:
        """As `best.json` has it."""
        numbers = {"mean": self.mean, "std": self.std, "values": list(self.values)}
        return {"chosen_by": self.chosen[metric], **numbers, "seeds": list(self.seeds), "failed": self.failed}


def is_under_way(search: Search, trials: Iterable[TrialRecord]) -> bool:
    """Whether a search that goes on had come to its confirmation, and is not asked for more than that."""
    unended = any(trial.confirms is not None and not trial.ended for trial in trials)
    return bool(search.options.confirm) and unended and not search.more_asked


def asks_more(options: SearchOptions, before: Mapping[str, Any]) -> bool:
    """Whether a search that goes on is asked for other trials, epochs, time or hours than it was `before`."""
    return any(getattr(options, name) != before.get(name) for name in BOUNDS)


def best_configs(search: Search, trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials whose configs are to be confirmed, best first: of those that have their weights still."""
    options, checkpoints = search.options, search.experiment.checkpoints
    kept = [trial for trial in searched(trials) if (checkpoints / trial.trial_id / "best").is_dir()]
    return rank(kept, options.metrics[0], options.mode, options.confirm)[0]


def begin_confirmation(search: Search, ledger: LedgerWriter, recorder: Recorder) -> list[str]:
    """Create the trials that are missing, and end those that confirm nothing any more; returns whom to train."""
    wanted = []
    for trial in best_configs(search, ledger.trials.values()):
        for config in _further_configs(search, trial):
            found = _find(ledger.trials.values(), trial, config)
            wanted.append(found.trial_id if found else _create(ledger, trial, config))
    for other in list(ledger.trials.values()):
        if other.confirms is not None and not other.ended and other.trial_id not in wanted:
            recorder.completed(other.trial_id)
    return [trial_id for trial_id in wanted if not ledger.trials[trial_id].ended]


def confirmed_configs(search: Search, trials: Iterable[TrialRecord]) -> list[Confirmed]:
    """The best configs, those with the fewest failures and the best mean first.

    Empty where none was to be confirmed, or a further trial has not ended yet.
    """
    trials = list(trials)
    confirmed = [_confirmed(search, trial, trials) for trial in best_configs(search, trials)]
    whole = [one for one in confirmed if one is not None]
    sign = -1.0 if search.options.mode == "max" else 1.0
    whole.sort(key=lambda one: (one.failed, 0.0 if one.mean is None else sign * one.mean))
    return whole if len(whole) == len(confirmed) else []


def to_document(search: Search, confirmed: Sequence[Confirmed], trials: Iterable[TrialRecord]) -> dict[str, Any]:
    """What `confirmation.json` holds."""
    metric = search.options.metrics[0]
    configs = [
        {
            "trial_id": one.trial.trial_id,
            "number": one.trial.number,
            "epoch": one.chosen["epoch"],
            **one.to_dict(metric),
        }
        for one in confirmed
    ]
    return {"metric": metric, "mode": search.options.mode, "searched": len(searched(trials)), "configs": configs}


def confirmation_lines(document: Mapping[str, Any]) -> list[str]:
    """`confirmation.json` in plain words."""
    configs = document["configs"]
    first = configs[0]
    what = "The best config was" if len(configs) == 1 else f"The best {len(configs)} configs were"
    lines = [
        f"The best of {document['searched']} noisy values flatters. {what} trained again to the end with "
        f"{len(first['seeds'])} further seeds; {document['metric']}, mean ± standard deviation:"
    ]
    lines += [
        f"  trial {one['number']}: {_spread(one)}; chosen by {one['chosen_by']:.4f} at epoch {one['epoch']}"
        for one in configs
    ]
    if first["mean"] is not None:
        lines.append(f"Trained anew, the best config, trial {first['number']}, gives {first['mean']:.4f} on average.")
    return lines


def _spread(one: Mapping[str, Any]) -> str:
    failed = f"{one['failed']} of {len(one['seeds'])} failed"
    if one["mean"] is None:
        return failed
    values = ", ".join(f"{value:.4f}" for value in one["values"])
    spread = "" if one["std"] is None else f" ± {one['std']:.4f}"
    return f"{one['mean']:.4f}{spread} ({values}{f'; {failed}' if one['failed'] else ''})"


def _further_configs(search: Search, trial: TrialRecord) -> list[dict[str, Any]]:
    """A trial's config at the search's full length, with each of its further seeds."""
    seeds = [(trial.config["seed"] + further) % 2**32 for further in range(1, CONFIRM_SEEDS + 1)]
    return [{**trial.config, "max_epochs": search.options.max_epochs, "seed": seed} for seed in seeds]


def _find(trials: Iterable[TrialRecord], trial: TrialRecord, config: Mapping[str, Any]) -> TrialRecord | None:
    return next((one for one in trials if one.confirms == trial.trial_id and one.config == config), None)


def _create(ledger: LedgerWriter, trial: TrialRecord, config: Mapping[str, Any]) -> str:
    number = len(ledger.trials)
    trial_id = f"trial_{number:04d}"
    ledger.created(trial_id, number, config, confirms=trial.trial_id)
    return trial_id


def _confirmed(search: Search, trial: TrialRecord, trials: list[TrialRecord]) -> Confirmed | None:
    """A trial with its further ones; None where one of those is missing or has not ended."""
    metric, mode = search.options.metrics[0], search.options.mode
    chosen = best_report([trial], metric, mode)
    further = [_find(trials, trial, config) for config in _further_configs(search, trial)]
    ended = [one for one in further if one is not None and one.ended]
    if chosen is None or len(ended) < len(further):
        return None
    found = [best_report([unconfirming(one)], metric, mode) for one in ended]
    return Confirmed(
        trial=trial,
        chosen=chosen[1],
        seeds=[one.config["seed"] for one in ended],
        values=[float(best[1][metric]) for best in found if best is not None],
    )
