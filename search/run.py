"""Search the hyperparameters of a CLIP-style emotion model.

    python search/run.py --algo asha --trials 16 --max-epochs 8 --name demo
    python search/run.py --resume results/demo

Exit status: 0 when the search ended in order and has a best trial; 1 when no trial succeeded, the first ones all
failed alike, the best one could not be tested, or an error in the program ended the search; 2 when what was asked
cannot be done, or the disk is full; 130 after Ctrl-C. Whatever ends the trials, everything that ran is kept.
"""

import contextlib
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.errors import run_command

if TYPE_CHECKING:
    from search.driver import Request, Search
    from search.ending import Ending
    from search.experiment import Experiment
    from search.options import SearchOptions
    from search.quiet import Quiet
    from search.recorder import Recorder
    from trainable.data.store import Store
    from trainable.data.unseen import UnseenClasses
    from trainable.slot.cluster import Node, TrialResources


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    from search.command_line import parse_options

    options = parse_options(argv)
    space = options.build_space()

    from rich.console import Console

    from search.driver import Request
    from search.finish import exit_status, print_summary
    from search.head_start import HeadStart
    from search.place import open_place
    from search.quiet import Quiet
    from search.trackers import require_usable

    require_usable(options.logger)
    with open_place(options) as place:
        head_start = HeadStart.read(options, space)
        if options.resume is None:
            place.require_usable(options.name)
        store, unseen = _open_data(options)
        request = Request(
            options=options,
            space=space,
            head_start=head_start,
            store=store,
            unseen=unseen,
            place=place,
            argv=argv,
        )
        with Quiet(place.folder) as quiet:
            search, recorder, ending, untested = _search(request, quiet)
    with contextlib.suppress(OSError, SystemExit):  # the standard output may be gone; rich exits then
        print_summary(Console(), search, recorder, ending.state, untested)
    if ending.broken is not None:
        print(f"error: {ending.broken.sentence}", file=sys.stderr)
        return ending.broken.exit_status
    return exit_status(ending.state, search.experiment.best_path.exists() and untested is None)


def _open_data(options: "SearchOptions") -> "tuple[Store, UnseenClasses]":
    """The data of a search, prepared where they are not yet, and which classes it does not train.

    Those of one that goes on are what it began with.
    """
    from search.experiment import Experiment
    from trainable.data.preparation import prepare_store
    from trainable.data.store import Store
    from trainable.data.unseen import choose_unseen
    from trainable.provenance import recorded_unseen, reopen_data

    if options.resume is None:
        store = Store.open(prepare_store(options.dataset, options.data_path))
        unseen = choose_unseen(options.unseen, store.manifest)
    else:
        experiment = Experiment.open(Path(options.resume))
        experiment.read_best()  # what is torn is said before anything runs
        store = reopen_data({**experiment.read_dataset(), "path": options.data_path})
        unseen = recorded_unseen(experiment.read_dataset())
    options.require_measured(unseen)
    store.verify()
    return store, unseen


def _search(request: "Request", quiet: "Quiet") -> "tuple[Search, Recorder, Ending, dict[str, Any] | None]":
    """Check that the search can work, run the trials, and test the best one, unless an error ended them."""
    from search.budget import slot_of
    from search.ending import files_usable, terminable
    from search.finish import awaits_confirmation, measure_on_test
    from search.ledger import LedgerWriter
    from search.passes import run_passes
    from search.ray_patches import local_cluster_apart
    from trainable.slot.cluster import connected

    with ExitStack() as stack:
        stack.enter_context(files_usable())
        stack.enter_context(terminable())
        with local_cluster_apart():
            nodes = stack.enter_context(connected(quiet.say, dashboard=request.options.workers_per_trial > 1))
        stack.enter_context(terminable())
        stack.enter_context(request.place.connected(quiet.say))
        search = _prepare(request, nodes, quiet)
        quiet.keep(search.experiment.log / "ray.log")
        stack.enter_context(request.place.mirrored(search.experiment, quiet.say))
        with LedgerWriter(search.experiment.ledger_path) as ledger:
            if request.options.resume is not None:
                search.experiment.note_resume(search.manifest)
            ledger.search_started(slot_of(search.resources))
            recorder, ending = run_passes(search, ledger, quiet)
        untested = None if ending.broken is not None or awaits_confirmation(search) else measure_on_test(search)
    return search, recorder, ending, untested


def _prepare(request: "Request", nodes: "list[Node]", quiet: "Quiet") -> "Search":
    """Fit the search to the cluster, try it, and make the experiment's folder."""
    from search.confirm import asks_more
    from search.driver import Search
    from search.manifest import build_manifest
    from search.points import to_manifest
    from trainable.slot.cluster import current_nodes

    options, space, store, unseen = request.options, request.space, request.store, request.unseen
    earlier = request.head_start.earlier_trials(options, space, store, unseen, quiet.say)
    resources, slots = _try_out(request, nodes, quiet)
    nodes = current_nodes()
    manifest = build_manifest(
        options, space, store, unseen, nodes=nodes, resources=resources, slots=slots, argv=request.argv
    )
    manifest["points"] = to_manifest(request.head_start.points, space)
    experiment = _open_experiment(request, manifest)
    return Search(
        **vars(request),
        nodes=nodes,
        resources=resources,
        slots=slots,
        experiment=experiment,
        manifest=manifest,
        earlier=earlier,
        more_asked=options.resume is not None and asks_more(options, experiment.read_manifest()["options"]),
    )


def _try_out(request: "Request", nodes: "list[Node]", quiet: "Quiet") -> "tuple[TrialResources, int]":
    """What a trial takes and how many run at one time, once a batch of each kind has been trained where they will."""
    from search.cluster import count_slots, explain_wait, resources_of, slots_on
    from search.growth import find_growth
    from search.preflight import preflight
    from trainable.data.fetched import reference
    from trainable.slot.stored_tasks import fetch_on_nodes
    from trainable.storage.storage import is_remote

    options = request.options
    growth = find_growth(nodes, quiet.say)
    resources = resources_of(
        nodes,
        growth,
        workers=options.workers_per_trial,
        cpus_per_worker=options.cpus_per_worker,
        gpus_per_worker=options.gpus_per_worker,
        accelerator=options.accelerator_type,
    )
    slots = min(count_slots(nodes, resources, growth), options.max_concurrent or options.trials, options.trials)
    data = reference(request.store, options.data_path, request.place.desk)
    if is_remote(data):
        fetch_on_nodes(data, quiet.say)
    quiet.say(f"checking that a trial works ({resources}; {slots} at a time)")
    if slots_on(nodes, resources) == 0:
        quiet.say(explain_wait(nodes, resources, growth))
    preflight(request.space, data, nodes, resources, seed=options.seed, unseen=request.unseen.to_dict())
    return resources, slots


def _open_experiment(request: "Request", manifest: "dict[str, Any]") -> "Experiment":
    """A new folder that holds the manifest, or that of the search that goes on."""
    from search.experiment import Experiment

    if request.options.resume is not None:
        return Experiment.open(Path(request.options.resume))
    return Experiment.create(request.place.folder, request.options.name, manifest)


if __name__ == "__main__":
    sys.exit(main())
