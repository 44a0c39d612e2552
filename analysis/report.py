"""Write the report of an experiment: report.html, which opens offline, and figures/*.png.

    python analysis/report.py results/demo
    glance-report results/demo --out somewhere/else

Works on a search that is still running, too.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.errors import ExperimentError, run_command

if TYPE_CHECKING:
    from analysis.frames import Experiment
    from analysis.plot import Plot

DOTS_PER_INCH = 150


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="glance-report", description="Write the report of an experiment.")
    parser.add_argument("experiment", type=Path, help="the experiment's folder, such as results/demo")
    parser.add_argument("--out", type=Path, help="folder for report.html and figures/ (default: the experiment's own)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _report(arguments.experiment, arguments.out))


def write_report(experiment: Path, out: Path | None = None) -> Path:
    """Write report.html and figures/*.png into `out`, by default the experiment's folder; returns the page's path.

    Raises `ExperimentError` where the folder holds no experiment, or `out` cannot be written.
    """
    from analysis.frames import load_experiment

    return _write(load_experiment(experiment), experiment if out is None else out)


def _report(path: Path, out: Path | None) -> int:
    from analysis.frames import load_experiment
    from analysis.summary import verdict

    experiment = load_experiment(path)
    page = _write(experiment, path if out is None else out)
    for sentence in verdict(experiment)[:3]:
        print(sentence)
    print(f"report   {page}")
    print(f"figures  {page.parent / 'figures'}")
    return 0


def _write(experiment: "Experiment", out: Path) -> Path:
    from analysis.figures import plots_of
    from analysis.page import render

    plots = plots_of(experiment)
    page, figures = out / "report.html", out / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        _replace(page, render(experiment, plots).encode())
        _draw([plot for section in plots.values() for plot in section], figures)
    except OSError as error:
        raise ExperimentError(
            f"the report's folder must be writable, but {out}: {error.strerror}. Choose another with --out."
        ) from error
    return page


def _draw(plots: "list[Plot]", folder: Path) -> None:
    """Draw every plot as a PNG."""
    for plot in plots:
        unfinished = folder / f".{plot.name}.tmp"
        plot.matplotlib().savefig(unfinished, format="png", dpi=DOTS_PER_INCH)
        unfinished.replace(folder / f"{plot.name}.png")


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
