"""The passes of a search: its trials first, then, where that was asked, the best configs again."""

from collections.abc import Callable, Collection

from rich.console import Console

from search import driver
from search.confirm import CONFIRM_SEEDS, NOT_CONFIRMED, ConfirmationSource, begin_confirmation, is_under_way
from search.console import Display, Plan
from search.driver import Search
from search.ending import Ending, conclude
from search.finish import recover_undelivered
from search.ledger import LedgerWriter
from search.listeners import listeners
from search.quiet import Quiet
from search.recorder import Listener, Recorder
from search.resume import settle
from search.retention import Retention
from search.source import TrialSource
from search.trials import TrialRecord, searched, unconfirming
from trainable.files import remove_folder


def run_passes(search: Search, ledger: LedgerWriter, quiet: Quiet) -> tuple[Recorder, Ending]:
    """Run the trials, confirm the best, and keep what ran, whatever ends them.

    A search that was cut off while it confirmed goes on with that, unless it is asked for more.
    """
    options, experiment = search.options, search.experiment
    metric = options.metrics[0]
    keep_best = max(options.keep_best, options.confirm)
    retention = Retention(
        experiment.checkpoints,
        keep_best=keep_best,
        metric=metric,
        mode=options.mode,
        removed=lambda path: search.place.removed(path, experiment),
    )
    retention.restore(ledger.trials.values())
    with listeners(search, ledger.trials.values(), quiet.say) as following:
        recorder = Recorder(
            ledger,
            following,
            retained=retention.ended,
            trials=options.trials,
            time_budget_seconds=options.time_budget_seconds,
            budget_hours=options.budget_hours,
        )
        ended_by: BaseException | None = None
        try:
            if not is_under_way(search, ledger.trials.values()):
                _search(search, recorder, quiet)
            recorder = _confirm(search, ledger, recorder, following, retention, quiet)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            ended_by = error
        ending = conclude(search, recorder, ledger, ended_by)
    going_on = [trial.trial_id for trial in ledger.trials.values() if not trial.ended]
    search.place.tidy([trial.trial_id for trial in retention.kept], going_on, experiment)
    if ending.state == "COMPLETED":
        remove_folder(experiment.population)
    return recorder, ending


def _search(search: Search, recorder: Recorder, quiet: Quiet) -> None:
    """Run the trials of the search itself."""
    options = search.options
    plan = Plan(
        trials=options.trials,
        max_epochs=options.max_epochs,
        metric=options.metrics[0],
        mode=options.mode,
        stops_early=options.scheduler not in ("none", "pbt"),
        time_budget_seconds=options.time_budget_seconds,
        budget_hours=options.budget_hours,
    )
    _run(
        search,
        recorder,
        quiet,
        plan,
        source=lambda: driver.build_source(search, recorder),
        shown=lambda: searched(recorder.trials.values()),
    )


def _confirm(
    search: Search,
    ledger: LedgerWriter,
    recorder: Recorder,
    following: list[Listener],
    retention: Retention,
    quiet: Quiet,
) -> Recorder:
    """Train the best configs again; returns the recorder that knows how the search ended.

    The budgets were the search's: what is confirmed runs to its end, and only Ctrl-C ends it.
    """
    options, state = search.options, recorder.stop_state
    if options.confirm == 0 or state in NOT_CONFIRMED:
        return recorder
    confirming = Recorder(ledger, following, retained=retention.ended, trials=options.trials)
    trial_ids = begin_confirmation(search, ledger, confirming)
    if trial_ids:
        quiet.say(
            f"confirming the best of {len(searched(ledger.trials.values()))} trials: {len(trial_ids)} trials more, "
            f"{CONFIRM_SEEDS} for each config, with further seeds"
        )
        plan = Plan(
            trials=len(trial_ids),
            max_epochs=options.max_epochs,
            metric=options.metrics[0],
            mode=options.mode,
            stops_early=False,
        )
        _run(
            search,
            confirming,
            quiet,
            plan,
            source=lambda: _confirmation_source(search, confirming, trial_ids),
            shown=lambda: [unconfirming(ledger.trials[trial_id]) for trial_id in trial_ids],
        )
    return confirming if state is None or confirming.stop_state else recorder


def _confirmation_source(search: Search, recorder: Recorder, trial_ids: list[str]) -> TrialSource:
    source = ConfirmationSource(search, recorder, trial_ids)
    settle(source, [recorder.trials[trial_id] for trial_id in trial_ids])
    return source


def _run(
    search: Search,
    recorder: Recorder,
    quiet: Quiet,
    plan: Plan,
    *,
    source: Callable[[], TrialSource],
    shown: Callable[[], Collection[TrialRecord]],
) -> None:
    """Run one pass under a display of its own."""
    with Display(plan, Console(file=quiet.terminal)) as display:
        try:
            driver.run_trials(search, source(), recorder, tick=lambda: display.update(shown()))
            recover_undelivered(recorder, search.experiment.checkpoints)
        finally:
            display.update(shown(), final=True)
