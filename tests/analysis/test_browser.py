"""The report in a real browser. Pictures of what was seen stay in `test-output/`, for people to look at."""

import os
import re
import shutil
from pathlib import Path

import pytest

from analysis.figures import plots_of
from analysis.frames import load_experiment
from analysis.page import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")]

OUTPUT = Path(__file__).parents[2] / "test-output"
RECORDED = Path(__file__).parent / "recorded"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
SECTIONS = (
    *("found", "asked", "best", "best-model", "hyperparameters", "curves", "progress"),
    *("failures", "trials", "cost", "reproduce"),
)
LIGHT, DARK = "rgb(246, 247, 249)", "rgb(16, 19, 24)"


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a real search, recorded; its address."""
    path = tmp_path_factory.mktemp("browser") / "report.html"
    experiment = load_experiment(RECORDED)
    path.write_text(render(experiment, plots_of(experiment)))
    OUTPUT.mkdir(exist_ok=True)
    return path.as_uri()


@pytest.fixture
def visit(browser, report):
    """Opens the report; whatever the page then says or asks for fails the test."""
    contexts, said, asked = [], [], []

    def open_page(size=DESKTOP, **options):
        context = browser.new_context(viewport=size, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert {address for address in asked if not address.startswith(("data:", "blob:"))} == {report}


def see_all(page):
    """Scroll to each plot until it is drawn; returns how many there are."""
    plots = page.locator(".plot")
    for plot in plots.all():
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for()
    page.evaluate("scrollTo(0, 0)")
    return plots.count()


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def ink(page):
    return page.evaluate("getComputedStyle(document.querySelector('.plot .xtick text')).fill")


def wait_for_other_ink(page, before):
    """A plot is painted anew when it is near what is seen."""
    tick = page.locator(".plot .xtick text").first
    tick.scroll_into_view_if_needed()
    pytest.importorskip("playwright.sync_api").expect(tick).not_to_have_css("fill", before)


def shoot(page, name):
    page.screenshot(path=OUTPUT / f"{name}.png", full_page=True)


def column(page, index):
    return page.locator(f"table.sortable tbody tr td:nth-child({index + 1})").all_text_contents()


def test_every_section_and_every_plot_is_seen(visit):
    page = visit()
    assert all(page.locator(f"section#{name}").is_visible() for name in SECTIONS)
    assert see_all(page) >= 10
    assert not page.locator("text=undefined").count()
    shoot(page, "report-desktop")


def test_a_plot_is_drawn_when_it_comes_near(visit):
    page = visit()
    far = page.locator(".plot").last
    assert not far.locator(".main-svg").count()
    far.scroll_into_view_if_needed()
    far.locator(".main-svg").first.wait_for()


def test_hovering_tells_the_config(visit):
    page = visit()
    plot = page.locator("#plot-val_accuracy_against_learning_rate")
    plot.scroll_into_view_if_needed()
    plot.locator(".points path.point").first.wait_for()
    point = plot.locator(".points path.point").last.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    told = plot.locator(".hoverlayer .hovertext").first
    told.wait_for()
    assert re.search(
        r"trial \d+.*learning rate: 0\.\d+.*embedding dim: \d+.*weight initialisation: \w+", told.text_content()
    )
    page.screenshot(path=OUTPUT / "report-hover.png")


def test_the_table_sorts_by_number(visit):
    page = visit()
    trials = len(load_experiment(RECORDED).trials)
    number, value = page.locator("table.sortable th button").nth(1), page.locator("table.sortable th button").nth(3)
    number.click()
    assert column(page, 1) == [str(i) for i in range(trials)]
    number.click()
    assert column(page, 1) == [str(i) for i in reversed(range(trials))]
    value.click()
    texts = column(page, 3)
    values = [float(text) for text in texts if text != "–"]
    assert values == sorted(values)
    assert len(values) > 3
    assert texts[len(values) :] == ["–"] * (trials - len(values))


def test_the_table_shows_the_trials_of_one_state(visit):
    page = visit()
    page.locator(".chips button", has_text="failed").click()
    assert set(page.locator("table.sortable tbody tr:visible td:nth-child(3)").all_text_contents()) == {"failed"}
    page.locator(".chips button", has_text="all").click()
    assert page.locator("table.sortable tbody tr:visible").count() == len(load_experiment(RECORDED).trials)


def test_it_is_as_dark_as_the_system_and_as_the_button_says(visit):
    page = visit(color_scheme="dark")
    see_all(page)
    dark_ink = ink(page)
    assert ground(page) == DARK
    shoot(page, "report-dark")
    page.get_by_role("button", name="Light").click()
    assert ground(page) == LIGHT
    wait_for_other_ink(page, dark_ink)
    page.reload()
    assert ground(page) == LIGHT
    page.get_by_role("button", name="Dark").click()
    assert ground(page) == DARK


def test_the_plots_follow_the_system(visit):
    page = visit(color_scheme="light")
    see_all(page)
    light_ink = ink(page)
    page.emulate_media(color_scheme="dark")
    wait_for_other_ink(page, light_ink)


def test_nothing_overflows_a_phone(visit):
    page = visit(PHONE, has_touch=True, is_mobile=True)
    see_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    wide = page.evaluate(
        "[...document.querySelectorAll('section, figure, .plot, table.pairs, pre')]"
        ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.id || e.className || e.tagName)"
    )
    assert wide == []
    shoot(page, "report-phone")


def test_paper_is_light_and_has_every_plot(visit):
    page = visit(color_scheme="dark")
    page.pdf(path=OUTPUT / "report.pdf", format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), "12mm"))
    assert page.evaluate("[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))")
    page.emulate_media(media="print")
    assert ground(page) == "rgb(255, 255, 255)"
    assert not page.locator(".theme").is_visible()
