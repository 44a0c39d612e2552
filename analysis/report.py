"""Write the report of an experiment: report.html, which opens offline, and figures/. Of several: compare them.

    python analysis/report.py results/demo
    glance-report results/demo --out somewhere/else
    glance-report s3://bucket/results/demo
    glance-report results/demo --format md --out -
    glance-report results/a results/b --out comparison
    glance-report results/demo --watch

Works on a search that is still running, too; `--watch` serves its report and keeps it up to date.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.errors import CommandParser, ConfigError, ExperimentError, run_command
from trainable.files import user_path
from trainable.storage.storage import is_remote, open_storage

if TYPE_CHECKING:
    from analysis.figures.files import FigureWriter
    from analysis.formats import Report
    from analysis.frames import Experiment

FORMATS = ("html", "md", "json", "csv", "parquet")
PRINTED = ("md", "json")
"""Formats of one text, which can also be printed."""
DRAWN = ("html", "md", "json")
"""Formats that have figures, or what is in them."""
FIGURES = "figures"
LOOPBACK = "127.0.0.1"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(lambda: _run(argv))


def write_report(experiment: Path, out: Path | None = None) -> Path:
    """Write report.html and the figures into `out`, by default the experiment's folder; returns the page's path.

    Raises `ExperimentError` where the folder holds no experiment, or `out` cannot be written.
    """
    from analysis.figures.files import FigureWriter
    from analysis.formats import report_of
    from analysis.frames import load_experiment

    folder = experiment if out is None else out
    with FigureWriter(folder / FIGURES) as figures:
        _write(report_of(load_experiment(experiment), "html", begin=figures.add), figures, folder)
    return folder / "report.html"


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().read(argv)
    _check(arguments)
    if arguments.watch:
        from analysis.live import watch

        return watch(arguments.experiments, arguments.host or LOOPBACK, arguments.port or 0)
    with ExitStack() as stack:
        return _report(arguments, stack)


def _parser() -> CommandParser:
    parser = CommandParser(prog="glance-report", description="Write the report of an experiment, or compare several.")
    parser.add_argument(
        "experiments",
        nargs="+",
        metavar="EXPERIMENT",
        help="an experiment's folder or address, such as results/demo; of several, one page compares them",
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="FOLDER",
        help="where the files go (default: the experiment's own folder or address; a comparison must name one); "
        "- prints what is one text (md, json)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="html (default), md (verdict, tables, links to the figures), json (all that the page says, as data), "
        "csv or parquet (the trials and the reports as tables)",
    )
    parser.add_argument("--watch", action="store_true", help="serve the report and refresh it while the search runs")
    parser.add_argument(
        "--host", help=f"with --watch: the address to serve at (default: {LOOPBACK}, this machine alone)"
    )
    parser.add_argument("--port", type=int, help="with --watch: the port, which is printed (default: 0, a free one)")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would be passed over."""
    if arguments.watch and (arguments.out or arguments.format):
        raise ConfigError("--watch serves a page and writes nothing: give it without --out and --format.")
    if not arguments.watch and (arguments.host is not None or arguments.port is not None):
        raise ConfigError("--host and --port must go with --watch. Add it, or leave them out.")
    if arguments.port is not None and not 0 <= arguments.port < 2**16:
        raise ConfigError(f"--port must be from 0 to {2**16 - 1}, but got {arguments.port}.")
    form = arguments.format or "html"
    if arguments.out == "-" and form not in PRINTED:
        raise ConfigError(f"--out - must go with --format {' or '.join(PRINTED)}, but got {form}. Name a folder.")
    if len(arguments.experiments) > 1 and not (arguments.watch or arguments.out):
        raise ConfigError("a comparison must be told where to go: add --out FOLDER.")


def _report(arguments: argparse.Namespace, stack: ExitStack) -> int:
    from analysis.loading import load_beside, no_collection
    from analysis.sources import opened

    form, printed = arguments.format or "html", arguments.out == "-"
    load = load_beside if form in DRAWN else None
    stack.enter_context(no_collection())
    experiments = [stack.enter_context(opened(place, load)) for place in arguments.experiments]

    from analysis.comparison import compare  # what draws is imported while a fork reads
    from analysis.figures.files import FigureWriter
    from analysis.formats import comparison_of, report_of

    folder = user_path(arguments.out) if arguments.out else experiments[0].path
    figures = stack.enter_context(FigureWriter(folder / FIGURES, processes=os.cpu_count() or 1))
    if len(experiments) > 1:
        report = comparison_of(compare(experiments), form, printed=printed, begin=figures.add)
    else:
        report = report_of(experiments[0], form, printed=printed, begin=figures.add)
    if printed:
        sys.stdout.write(next(iter(report.files.values())).decode())
        return 0
    written = _write(report, figures, folder)
    if not arguments.out and is_remote(arguments.experiments[0]):
        _put(experiments[0], written)
    _tell(report, arguments.out or experiments[0].place)
    return 0


def _put(experiment: "Experiment", written: Iterable[Path]) -> None:
    """Put what was written where the experiment lies."""
    storage = open_storage(experiment.address)
    for path in written:
        storage.put_file(path.relative_to(experiment.path).as_posix(), path)


def _tell(report: "Report", place: str) -> None:
    for sentence in report.verdict[:3]:
        print(sentence)
    for name in report.files:
        print(f"{Path(name).stem:<8} {place}/{name}")
    if report.plots:
        print(f"figures  {place}/{FIGURES}")


def _write(report: "Report", figures: "FigureWriter", out: Path) -> list[Path]:
    """Write the files of a report, and finish its figures; returns their paths."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in report.files.items():
            unfinished = out / f".{name}.tmp"
            unfinished.write_bytes(content)
            unfinished.replace(out / name)
        return [*(out / name for name in report.files), *figures.finish()]
    except OSError as error:
        raise ExperimentError(
            f"the report's folder must be writable, but {out}: {error.strerror}. Choose another with --out."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
