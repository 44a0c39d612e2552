"""What comes after the last trial: the best one's weights, its test accuracy, and the summary."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.budget import cost_lines, slot_of
from search.cluster import run_like_a_trial
from search.confirm import confirmation_lines, confirmed_configs, to_document
from search.console import failure_table
from search.driver import Search
from search.experiment import Experiment
from search.failures import group_failures, record_failure
from search.ledger_file import plain
from search.lineage import schedule_lines, schedule_of
from search.recorder import Recorder
from search.spaces import Space
from search.trials import best_report, searched
from trainable.errors import CheckpointError
from trainable.files import read_json, write_json
from trainable.slot.failure import Failure, describe_failure
from trainable.slot.tasks import Look
from trainable.training.evaluation_file import write_evaluation
from trainable.training.report import prefixed

EXIT_STATUS = {"COMPLETED": 0, "TIME_BUDGET": 0, "BUDGET": 0, "ABORTED": 1, "INTERRUPTED": 130, "FAILED": 1}


def recover_undelivered(recorder: Recorder, checkpoints: Path) -> None:
    """Record the last report of each trial that was cut off after its best weights were saved, and not delivered."""
    for trial_id, trial in recorder.trials.items():
        folder = checkpoints / trial_id
        report = read_json(folder / "report.json")
        if not trial.ended and report and report["epoch"] == _weights_epoch(folder / "best") > trial.epochs:
            recorder.reported(trial_id, report)


def keep_best(search: Search, recorder: Recorder) -> None:
    """Copy the best trial's weights to `best/` and write `best.json`; nothing where none has any, or it is there.

    The best is that of the best mean once the best few are confirmed. `best.json` comes last, so that where it exists
    `best/` is whole.
    """
    experiment, trials = search.experiment, recorder.trials.values()
    metric = search.options.metrics[0]
    found = best_report(trials, metric, search.options.mode)
    if found is None:
        return
    (trial, report), confirmation = found, None
    if confirmed := confirmed_configs(search, trials):
        write_json(experiment.confirmation_path, plain(to_document(search, confirmed, trials)))
        trial, report, confirmation = confirmed[0].trial, confirmed[0].chosen, confirmed[0].to_dict(metric)
    best = experiment.read_best()
    if best is None or (best["trial_id"], best["epoch"]) != (trial.trial_id, report["epoch"]):
        search.place.bring_best(trial.trial_id, experiment)
        _replace_folder(experiment.checkpoints / trial.trial_id / "best", experiment.best)
        schedule = schedule_of(recorder.trials, trial, report["epoch"])
        experiment.write_best(trial, report, experiment.read_dataset(), confirmation, schedule)
    elif confirmation is not None:
        experiment.confirm_best(confirmation)  # found by an earlier run of the search, and perhaps tested


def awaits_confirmation(search: Search) -> bool:
    """Whether another trial may still turn out to be the best, so that none is tested yet."""
    best = search.experiment.read_best()
    return best is not None and search.options.confirm > 0 and "confirmation" not in best


def measure_on_test(search: Search) -> dict[str, Any] | None:
    """Measure `best/` on the test split, once, and add that to `best.json`; nothing where there is none, or it was.

    Then `best/evaluation.json` and TensorBoard show what there is to see of it. Where one of the two fails everything
    else is kept; returns the failure as a ledger would hold it, with its traceback on file.
    """
    experiment = search.experiment
    best = experiment.read_best()
    if best is None or "test_accuracy" in best["metrics"]:
        return None
    try:
        task = search.place.evaluation(experiment)
        measured = run_like_a_trial(*task, search.data, "test", nodes=search.nodes, resources=search.resources)
    except Exception as error:
        return record_failure(experiment.path, describe_failure(error))
    experiment.add_to_best(prefixed("test", measured["metrics"]), measured["unseen"])
    failure = _show(experiment, best, measured["look"])
    return None if failure is None else record_failure(experiment.path, failure)


def _show(experiment: Experiment, best: Mapping[str, Any], look: Look) -> Failure | None:
    """Write what there is to see of the best trial, or return why that cannot be."""
    if isinstance(look, dict):
        return look
    from search.tested_run import write_tested_run

    try:
        evaluation, points = look
        write_evaluation(experiment.best, evaluation)
        write_tested_run(experiment.tensorboard, best["number"], best["epoch"], evaluation, points)
    except Exception as error:
        return describe_failure(error)
    return None


def exit_status(state: str, succeeded: bool) -> int:
    """0 where the search ended in order with a best trial and its test, 1 without or aborted, 130 for Ctrl-C."""
    return EXIT_STATUS[state] or (0 if succeeded else 1)


def print_summary(
    console: Console, search: Search, recorder: Recorder, state: str, untested: Mapping[str, Any] | None = None
) -> None:
    """What was found, failed and paid, and where to look further.

    `untested` is why the best trial was not tested, or not shown after it was.
    """
    experiment = search.experiment
    causes = group_failures(recorder.trials.values())
    best = experiment.read_best()
    if best is not None:
        console.print(_best_table(best, search.space, search.options.metrics))
        if len(search.options.metrics) > 1:
            console.print(Text(_front_line(search.options.metrics)))
        for line in schedule_lines(best.get("schedule", ())):
            console.print(Text(line))
    for line in _confirmation_lines(search, best):
        console.print(Text(line))
    if causes:
        console.print(failure_table(causes))
    if causes and (best is None or state == "ABORTED"):
        cause = recorder.abort_cause or causes[0]
        _print_as_it_is(console, _traceback(experiment, cause.traceback_file))
    if untested is not None:
        done = "shown" if best is not None and "test_accuracy" in best["metrics"] else "tested"
        why = f"{untested['kind']}: {untested['message']} [{untested['where']}]"
        _print_as_it_is(console, f"The best trial could not be {done}: {why}; traceback: {untested['traceback_file']}")
    for line in cost_lines(recorder.trials.values(), slot_of(search.resources).unit, search.options.price_per_hour):
        _print_as_it_is(console, line)
    drawn = len(searched(recorder.trials.values()))
    if state == "COMPLETED" and drawn < search.options.trials:
        console.print(Text(f"Every config of the space is tried, {drawn} in this search: widen it for more trials."))
    _print_as_it_is(console, _verdict(experiment, search.place.address(experiment), state, best))


def _print_as_it_is(console: Console, text: str) -> None:
    """Print lines that are to be copied, or that a program may read: none is broken at the terminal's width."""
    console.print(Text(text), soft_wrap=True)


def _confirmation_lines(search: Search, best: Mapping[str, Any] | None) -> list[str]:
    if best is not None and "confirmation" in best:
        return confirmation_lines(read_json(search.experiment.confirmation_path) or {})
    if not awaits_confirmation(search):
        return []
    return ["The best configs are not confirmed, so none is tested yet: go on with --resume."]


def command(name: str) -> str:
    """A program of this environment as it is called from this folder, such as `.venv/bin/tensorboard`.

    Its name alone where a shell finds it by that, or where the environment has none.
    """
    program, here = Path(sys.executable).parent / name, Path.cwd()
    if not program.exists() or shutil.which(name) == str(program):
        return name
    return str(program.relative_to(here) if here in program.parent.parents else program)


def _best_table(best: Mapping[str, Any], space: Space, ranking: Sequence[str]) -> Table:
    """The best trial's config, then the metrics that the search went by, what validation gave, and the test."""
    view = Table(title=f"Best: trial {best['number']}, epoch {best['epoch']}", title_justify="left", show_header=False)
    for name in space.draws():
        view.add_row(name, Text(_short(best["config"][name])))
    view.add_section()
    metrics = best["metrics"]
    shown = [name for name in metrics if name.startswith(("val_", "test_")) and "generalised" not in name]
    for name in [*(name for name in ranking if name in metrics and name not in shown), *shown]:
        view.add_row(name, _short(metrics[name]))
    return view


def _front_line(metrics: Sequence[str]) -> str:
    others = " and ".join(metrics[1:])
    return f"It is the best by {metrics[0]} alone; the Pareto front in the report shows what others give for {others}."


def _verdict(experiment: Experiment, address: str, state: str, best: Mapping[str, Any] | None) -> str:
    how = {
        "COMPLETED": "The search is complete.",
        "TIME_BUDGET": "The time budget is used up; trials that still ran were cut off.",
        "BUDGET": "The budget of hours is used up; trials that still ran were cut off.",
        "ABORTED": "The search was stopped: its first trials all failed alike. The traceback stands above.",
        "INTERRUPTED": "The search was interrupted; what ran is kept.",
        "FAILED": "The search broke off; what ran is kept.",
    }[state]
    if best is None:
        how += " No trial succeeded."
    return (
        f"{how}\n"
        f"  report:       {command('glance-report')} {address}\n"
        f"  all trials:   {command('tensorboard')} --logdir {experiment.tensorboard}\n"
        f"  everything:   {address}"
    )


def _traceback(experiment: Experiment, file: str | None) -> str:
    return "" if file is None else (experiment.path / file).read_text(encoding="utf-8")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _weights_epoch(folder: Path) -> int:
    """The epoch of the weights in `folder`; 0 where there are none. The file itself says it, not one beside it."""
    from trainable.training.predictor import saved_epoch

    try:
        return saved_epoch(folder)
    except CheckpointError:
        return 0


def _replace_folder(source: Path, target: Path) -> None:
    fresh = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
