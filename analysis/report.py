"""Write the report of an experiment: report.html, which opens offline, and figures/*.png and *.svg.

    python analysis/report.py results/demo
    glance-report results/demo --out somewhere/else
    glance-report s3://bucket/results/demo

Works on a search that is still running, too.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.errors import CommandParser, ExperimentError, run_command
from trainable.storage.storage import is_remote, open_storage
from trainable.storage.working_copy import fetch_to_read

if TYPE_CHECKING:
    from analysis.frames import Experiment


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(lambda: _run(argv))


def write_report(experiment: Path, out: Path | None = None) -> Path:
    """Write report.html and figures/ into `out`, by default the experiment's folder; returns the page's path.

    Raises `ExperimentError` where the folder holds no experiment, or `out` cannot be written.
    """
    from analysis.frames import load_experiment

    return _write(load_experiment(experiment), experiment if out is None else out)


def _run(argv: Sequence[str] | None) -> int:
    parser = CommandParser(prog="glance-report", description="Write the report of an experiment.")
    parser.add_argument("experiment", help="the experiment's folder or address, such as results/demo")
    parser.add_argument("--out", type=Path, help="folder for report.html and figures/ (default: the experiment's own)")
    arguments = parser.read(argv)
    place, out = arguments.experiment, arguments.out
    return _report_remote(place, out) if is_remote(place) else _report(Path(place), out)


def _report(path: Path, out: Path | None) -> int:
    from analysis.frames import load_experiment
    from analysis.verdict import verdict

    experiment = load_experiment(path)
    page = _write(experiment, path if out is None else out)
    _tell(verdict(experiment), str(page.parent))
    return 0


def _report_remote(address: str, out: Path | None) -> int:
    """The report of an experiment that lies in a bucket, and goes there unless `out` is given."""
    from analysis.frames import load_experiment
    from analysis.verdict import verdict

    with tempfile.TemporaryDirectory(prefix="glance-") as temporary:
        folder = Path(temporary)
        fetch_to_read(address, folder)
        experiment = load_experiment(folder, address.rstrip("/"))
        page = _write(experiment, folder if out is None else out)
        if out is None:
            storage = open_storage(address)
            for path in (page, *(page.parent / "figures").iterdir()):
                storage.put_file(path.relative_to(folder).as_posix(), path)
    _tell(verdict(experiment), experiment.address if out is None else str(out))
    return 0


def _tell(verdict: Sequence[str], place: str) -> None:
    for sentence in verdict[:3]:
        print(sentence)
    print(f"report   {place}/report.html")
    print(f"figures  {place}/figures")


def _write(experiment: "Experiment", out: Path) -> Path:
    from analysis.figures import plots_of
    from analysis.figures.files import write_figures
    from analysis.page import render

    plots = plots_of(experiment)
    page, figures = out / "report.html", out / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        _replace(page, render(experiment, plots).encode())
        write_figures([plot for section in plots.values() for plot in section], figures)
    except OSError as error:
        raise ExperimentError(
            f"the report's folder must be writable, but {out}: {error.strerror}. Choose another with --out."
        ) from error
    return page


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
