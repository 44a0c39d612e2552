"""Search the hyperparameters of a CLIP-style emotion model.

    python search/run.py --algo asha --trials 16 --max-epochs 8 --name demo

Exit status: 0 when the search ended in order and has a best trial; 1 when no trial succeeded, the first ones all
failed alike, or the best one could not be tested; 2 when what was asked cannot be done; 130 after Ctrl-C, with
everything that ran kept and reported.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.errors import ConfigError, run_command

if TYPE_CHECKING:
    from search.cluster import Node
    from search.driver import Search
    from search.ledger import LedgerWriter
    from search.options import SearchOptions
    from search.quiet import Quiet
    from search.recorder import Recorder
    from search.spaces import Space
    from trainable.data.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    from search.options import parse_options

    options = parse_options(argv)
    space = options.build_space()

    from rich.console import Console

    from search.experiment import require_usable
    from search.finish import exit_status, print_summary
    from search.quiet import Quiet
    from trainable.data.preparation import prepare_store
    from trainable.data.store import Store

    require_usable(Path(options.storage), options.name)
    store = Store.open(prepare_store(options.dataset, options.data_path))
    with Quiet(Path(options.storage)) as quiet:
        search, recorder, state, untested = _search(options, space, store, quiet, argv)
    print_summary(Console(), search, recorder, state, untested)
    return exit_status(state, search.experiment.best_path.exists() and untested is None)


def _search(
    options: "SearchOptions", space: "Space", store: "Store", quiet: "Quiet", argv: Sequence[str] | None
) -> "tuple[Search, Recorder, str, dict[str, Any] | None]":
    """Check that the search can work, run the trials, and test the best one."""
    from search.cluster import connected
    from search.finish import keep_best, measure_on_test
    from search.ledger import LedgerWriter

    with connected() as nodes:
        search = _prepare(options, space, store, nodes, quiet, argv)
        quiet.keep(search.experiment.log / "ray.log")
        with LedgerWriter(search.experiment.ledger_path) as ledger:
            ledger.search_started()
            recorder = _run_trials(search, ledger, quiet)
            keep_best(search, recorder)
            state = recorder.stop_state or "COMPLETED"
            ledger.search_ended(state)
        untested = measure_on_test(search)
    return search, recorder, state, untested


def _prepare(
    options: "SearchOptions",
    space: "Space",
    store: "Store",
    nodes: "list[Node]",
    quiet: "Quiet",
    argv: Sequence[str] | None,
) -> "Search":
    """Fit the search to the cluster, try it, and make the experiment's folder."""
    from search.cluster import count_slots, resources_of
    from search.driver import Search
    from search.experiment import Experiment
    from search.manifest import build_manifest
    from search.preflight import preflight

    resources = resources_of(
        nodes,
        workers=options.workers_per_trial,
        cpus_per_worker=options.cpus_per_worker,
        gpus_per_worker=options.gpus_per_worker,
    )
    slots = min(count_slots(nodes, resources), options.max_concurrent or options.trials, options.trials)
    if resources.workers > 1:
        raise ConfigError(f"--workers-per-trial 1 must hold in this version, but got {resources.workers}.")
    print(f"checking that a trial works ({resources}; {slots} at a time)", file=quiet.terminal)
    preflight(space, store.path.resolve(), nodes, resources, seed=options.seed)
    manifest = build_manifest(options, space, store, nodes=nodes, resources=resources, slots=slots, argv=argv)
    experiment = Experiment.create(Path(options.storage), options.name, manifest)
    return Search(
        options=options,
        space=space,
        store=store,
        nodes=nodes,
        resources=resources,
        slots=slots,
        experiment=experiment,
    )


def _run_trials(search: "Search", ledger: "LedgerWriter", quiet: "Quiet") -> "Recorder":
    from rich.console import Console

    from search.console import Display, Plan
    from search.driver import run_trials
    from search.event_files import EventFiles
    from search.finish import recover_undelivered
    from search.recorder import Recorder
    from search.retention import Retention

    options, experiment = search.options, search.experiment
    plan = Plan(
        trials=options.trials,
        max_epochs=options.max_epochs,
        metric=options.metric,
        mode=options.mode,
        stops_early=options.scheduler != "none",
        time_budget_seconds=options.time_budget_seconds,
    )
    retention = Retention(experiment.checkpoints, keep_best=options.keep_best, metric=options.metric, mode=options.mode)
    with (
        EventFiles(experiment.tensorboard, search.space, options.metric) as event_files,
        Display(plan, Console(file=quiet.terminal)) as display,
    ):
        recorder = Recorder(
            ledger,
            [event_files],
            retained=retention.ended,
            trials=options.trials,
            max_epochs=options.max_epochs,
            time_budget_seconds=options.time_budget_seconds,
        )
        run_trials(search, recorder, tick=lambda: display.update(recorder.trials.values()))
        recover_undelivered(recorder, experiment.checkpoints)
        display.update(recorder.trials.values(), final=True)
    return recorder


if __name__ == "__main__":
    sys.exit(main())
