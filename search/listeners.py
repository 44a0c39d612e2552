"""Who follows the trials of a search beside the ledger and the display."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from search.aside import Aside, snapshot
from search.driver import Search, scheduler_options, searcher_options
from search.event_files import EventFiles
from search.recorder import Expendable, Listener
from search.study_file import StudyFile
from search.trackers import TITLES, Tracked, builder_of, identity_of
from search.trials import TrialRecord


@contextlib.contextmanager
def listeners(search: Search, trials: Iterable[TrialRecord], say: Callable[[str], None]) -> Iterator[list[Listener]]:
    """All of them, for as long as the search lasts; it can do without each, whose first error `say` gets.

    `trials` are those of before.
    """
    experiment, options = search.experiment, search.options
    changing = list(scheduler_options(options, search.space).ranges)
    before = [snapshot(trial) for trial in trials]
    with contextlib.ExitStack() as stack:
        files = partial(EventFiles, experiment.tensorboard, search.space, options.metrics[0], changing)
        following: list[Listener] = [stack.enter_context(Expendable("the event files for TensorBoard", files, say))]
        if options.algo != "optuna":
            study = partial(StudyFile, searcher_options(search), before)
            following.append(stack.enter_context(Aside("the study for optuna-dashboard", study, say)))
        tracked = Tracked(
            name=experiment.name,
            identity=identity_of(experiment.read_manifest()),
            folder=experiment.path,
            drawn=tuple(search.space.draws()),
            changing=changing,
            trials=before,
        )
        for tool in options.logger:
            what = f"the runs in {TITLES[tool]}"
            following.append(stack.enter_context(Aside(what, builder_of(tool, tracked), say)))
        yield following
