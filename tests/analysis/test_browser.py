"""The report in a real browser: it draws, logs no error, fits a phone, and its table sorts."""

import html
import json
import re
import shutil
import subprocess

import pytest

from analysis.figures import plots_of
from analysis.frames import load_experiment
from analysis.page import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")]

PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const rows = () => [...document.querySelectorAll("table.sortable tbody tr")];
  const column = (index) => rows().map((row) => row.cells[index].textContent);
  const click = (index) => document.querySelectorAll("table.sortable th button")[index].click();
  const seen = { width: innerWidth, scroll: document.documentElement.scrollWidth };
  seen.drawn = document.querySelectorAll(".plot .main-svg").length > 0
    && [...document.querySelectorAll(".plot")].every((plot) => plot.querySelector(".main-svg"));
  seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  seen.ground = getComputedStyle(document.body).backgroundColor;
  seen.ink = document.querySelector(".plot .xtick text").style.fill;
  click(1); seen.up = column(1);
  click(1); seen.down = column(1);
  click(3); seen.accuracy = column(3);
  parent.postMessage(seen, "*");
}, 500));
</script>"""
FRAME = """<!doctype html><body><iframe src="report.html" style="width:{width}px;height:3000px;border:0"></iframe>
<script>addEventListener("message", (event) => {{ document.title = JSON.stringify(event.data); }});</script>"""


def visit(folder, width, *flags):
    """What the probe saw in a frame of that width, and what the console said."""
    (folder / "frame.html").write_text(FRAME.format(width=width))
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [
        "--virtual-time-budget=20000",
        "--window-size=1400,3000",
        "--enable-logging=stderr",
        *flags,
        "--dump-dom",
    ]
    done = subprocess.run([*command, f"file://{folder / 'frame.html'}"], capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr
    return json.loads(html.unescape(title[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def folder(demo, tmp_path_factory):
    path = tmp_path_factory.mktemp("browser")
    experiment = load_experiment(demo)
    (path / "report.html").write_text(render(experiment, plots_of(experiment)).replace("</body>", PROBE + "</body>"))
    return path


def test_draws_every_plot_without_an_error_or_a_request(folder):
    seen, console = visit(folder, 1300)
    assert seen["drawn"]
    assert console == []
    assert seen["requests"] == []
    assert seen["ground"] == "rgb(246, 247, 249)"


def test_fits_a_phone(folder):
    seen, console = visit(folder, 375)
    assert seen["width"] == 375
    assert seen["scroll"] <= 375
    assert console == []


def test_the_table_sorts_by_number(folder):
    seen, _ = visit(folder, 1300)
    assert seen["up"] == [str(number) for number in range(16)]
    assert seen["down"] == seen["up"][::-1]
    values = [float(text) for text in seen["accuracy"] if text != "–"]
    assert values == sorted(values)
    assert seen["accuracy"][-2:] == ["–", "–"]


def test_dark_mode_darkens_the_page_and_the_plots(folder):
    light, _ = visit(folder, 1300)
    dark, _ = visit(folder, 1300, "--blink-settings=preferredColorScheme=0")
    assert dark["ground"] == "rgb(16, 19, 24)"
    assert dark["ink"] != light["ink"]
