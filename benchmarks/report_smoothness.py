"""How smooth the page of a large search is: frames while it is scrolled and hovered, and what a click takes.

    python benchmarks/report_scale.py --trials 10000 --runs 1 --keep /tmp/searches
    python analysis/report.py /tmp/searches/none-10000 --out /tmp/report
    python benchmarks/report_smoothness.py /tmp/report/report.html

Opens the page in headless Chromium, which draws without a graphics card, so a person's own browser is quicker. Each run
has a browser of its own:

- opening: from asking for the page until its script has run;
- first scroll: from the top to the foot, each plot being drawn as it comes near; then scroll: the same again;
- hover: the mouse goes slowly across each plot;
- click: sorting the table of trials, filtering it, and the change to the dark theme.

Of each the times between two frames in milliseconds: the median, the 95th percentile and the longest; of a click the
time until the frame after it. Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from search.experiment import hardware
from trainable.errors import ConfigError, run_command

SMOOTH, PROMPT = 33.4, 200.0
"""Milliseconds: frames at 30 a second, and from a click to what it shows, as web.dev calls a page responsive (INP)."""
WINDOW = {"width": 1280, "height": 900}
RECORD = """() => {
  window.frames_seen = [];
  let last = performance.now(), going = true;
  const next = (now) => { window.frames_seen.push(now - last); last = now; if (going) requestAnimationFrame(next); };
  requestAnimationFrame(next);
  window.stop_recording = () => { going = false; return window.frames_seen.slice(1); };
}"""
SCROLL = """async () => {
  const foot = () => document.documentElement.scrollHeight - window.innerHeight;
  for (let at = 0; at < foot(); at += 60) {
    window.scrollTo({ top: at, behavior: "instant" });
    await new Promise(requestAnimationFrame);
  }
}"""
CLICK = """async (chosen) => {
  const start = performance.now();
  document.querySelector(chosen).click();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""
CLICKS = {
    "sort": "table.sortable thead button",
    "filter": ".chips button:last-child",
    "dark": "button.theme",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="How smooth the page of a large search is.")
    parser.add_argument("page", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None or not arguments.page.exists():
        raise ConfigError("a report.html must be given, and chromium be on the PATH.")
    runs = []
    with sync_playwright() as playwright:
        for _ in range(arguments.runs):
            browser = playwright.chromium.launch(
                executable_path=chromium, args=[] if os.geteuid() else ["--no-sandbox"]
            )
            runs.append(measure(browser.new_page(viewport=WINDOW), arguments.page))
            browser.close()
    return _tell(arguments, runs)


def measure(page: Any, path: Path) -> dict[str, list[float]]:
    """One visit: milliseconds of each frame, or of each click, by what was done."""
    start = time.perf_counter()
    page.goto(path.resolve().as_uri())
    found = {"opening": [1000 * (time.perf_counter() - start)]}
    found["first scroll"] = _frames(page, lambda: page.evaluate(SCROLL))
    found["scroll"] = _frames(page, lambda: page.evaluate(SCROLL))
    found["hover"] = [frame for plot in page.locator(".plot").all() for frame in _hover(page, plot)]
    for name, chosen in CLICKS.items():
        found[name] = [page.evaluate(CLICK, chosen) for _ in range(2)]
    return found


def _hover(page: Any, plot: Any) -> list[float]:
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)

    def across() -> None:
        page.mouse.move(box["x"] + box["width"] - 60, box["y"] + box["height"] - 60, steps=40)

    return _frames(page, across)


def _frames(page: Any, action: Callable[[], Any]) -> list[float]:
    page.evaluate(RECORD)
    action()
    return [float(frame) for frame in page.evaluate("() => window.stop_recording()")]


def _tell(arguments: argparse.Namespace, runs: Sequence[dict[str, list[float]]]) -> int:
    table = Table("ms", "median", "95 %", "longest", "frames", title="over all runs")
    summary = {}
    for name in runs[0]:
        every = [value for run in runs for value in run[name]]
        ends = (statistics.median(every), float(np.percentile(every, 95)), max(every))
        summary[name] = dict(zip(("median", "p95", "longest"), ends, strict=True), count=len(every))
        table.add_row(name, *(f"{value:,.0f}" for value in ends), str(len(every)))
    Console(width=100).print(table)
    smooth = all(summary[name]["median"] <= SMOOTH for name in ("first scroll", "scroll", "hover"))
    prompt = all(summary[name]["median"] <= PROMPT for name in CLICKS)
    document = {
        "page_bytes": arguments.page.stat().st_size,
        "runs": len(runs),
        "milliseconds": summary,
        "smooth": smooth,
        "prompt": prompt,
        "hardware": hardware(),
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
