"""How a search goes on after its driver died: scheduler and searcher are rebuilt from the ledger alone."""

from collections.abc import Iterable, Mapping
from typing import Any

from search.ledger import fold_trials
from search.schedulers import Decision, Scheduler
from search.searchers import Searcher
from search.source import DIVERGED, TrialSource
from search.trials import TrialRecord, searched


def rebuild(
    events: Iterable[Mapping[str, Any]], scheduler: Scheduler, searcher: Searcher, *, metric: str
) -> list[TrialRecord]:
    """Tell a fresh scheduler and a fresh searcher what an earlier run of the search did; returns its trials.

    The scheduler gets reports, promotions and ends in the order of the ledger, the searcher the trials in the order in
    which they were drawn. Trials that only confirm others are neither told nor returned.
    """
    events = list(events)
    trials = searched(fold_trials(events))
    known = {trial.trial_id: trial for trial in trials}
    for event in events:
        if event["trial_id"] in known:
            _replay(event, known[event["trial_id"]], scheduler, metric)
    for trial in trials:
        searcher.restore(trial)
    return trials


def settle(source: TrialSource, trials: Iterable[TrialRecord]) -> None:
    """Record what the driver had decided of a trial, and did not come to write."""
    for trial in trials:
        if trial.ended or trial.state == "PAUSED" or not trial.reports:
            continue
        decision = source.decide(trial.trial_id, trial.reports[-1])
        if trial.epochs >= trial.config["max_epochs"] or decision is Decision.STOP:
            source.completed(trial.trial_id)
        elif decision is Decision.PAUSE:
            source.paused(trial.trial_id)


def _replay(event: Mapping[str, Any], trial: TrialRecord, scheduler: Scheduler, metric: str) -> None:
    trial_id = trial.trial_id
    match event["event"]:
        case "report":
            scheduler.on_report(trial_id, event["epoch"], event.get(metric))
        case "promoted":
            scheduler.on_promote(trial_id)
        case "ended":
            if trial.failure is not None and trial.failure["kind"] == DIVERGED:
                scheduler.on_report(trial_id, trial.epochs + 1, None)
            scheduler.on_end(trial_id)
