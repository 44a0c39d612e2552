import math
import multiprocessing
import os
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis import fonts
from analysis.figures import against, curves, failure_counts
from analysis.figures.files import DOTS_PER_INCH, FigureWriter, write_figures
from analysis.frames import load_experiment
from analysis.plot import Axis, HeatMap, Note, Plot, Series
from analysis.theme import LIGHT, LIGHT_SCALE

HOSTILE = "<script>alert('x')</script> $x^{$ 분노"


@pytest.fixture(scope="module")
def experiment(demo):
    return load_experiment(demo)


@pytest.fixture
def hostile():
    series = Series(name=HOSTILE, style="points", x=[0.0], y=[0.5], hover=[f"{HOSTILE}\nsecond line"])
    axis = Axis(label=HOSTILE, categories=(HOSTILE,), bounds=(-0.5, 0.5))
    return Plot(name="hostile", title=HOSTILE, x=axis, y=Axis(label=HOSTILE), series=(series,))


def test_plotly_draws_the_series_it_is_given(experiment):
    plot = against(experiment.trials, "learning_rate", experiment.hyperparameters["learning_rate"])
    drawn = {trace.name: trace for trace in plot.plotly().data if trace.x[0] is not None}
    for series in plot.series:
        np.testing.assert_allclose(drawn[series.name].x, series.x, rtol=1e-6)
        np.testing.assert_allclose(drawn[series.name].y, series.y, rtol=1e-6)
    assert drawn["stopped early"].marker.symbol == "circle-open"
    assert list(drawn["to the end"].marker.color) == [8, 8, 8, 8, 8]


def test_plotly_legend_names_every_series_once(experiment):
    plot = against(experiment.trials, "learning_rate", experiment.hyperparameters["learning_rate"])
    shown = [trace.name for trace in plot.plotly().data if trace.showlegend is not False]
    assert shown == ["stopped early", "to the end", "failed", "best"]


def test_plotly_log_axes_take_logarithms_as_range(experiment):
    axis = (
        against(experiment.trials, "learning_rate", experiment.hyperparameters["learning_rate"]).plotly().layout.xaxis
    )
    assert axis.type == "log"
    assert axis.range == pytest.approx((-4.06, -1.94))


def test_plotly_breaks_lines_between_trials(experiment):
    figure = curves(experiment.reports, experiment.trials, "val_accuracy", rungs=(1, 3), chance=1 / 7).plotly()
    assert np.isnan(figure.data[0].y).sum() == 7
    assert figure.data[0].connectgaps is False
    assert [shape.x0 for shape in figure.layout.shapes] == [1, 3, 0]


def test_plotly_escapes_every_text(hostile):
    text = hostile.plotly().to_json()
    assert "<script" not in text
    assert "\\u003cscript" not in text
    assert text.count("&lt;script&gt;") >= 5
    assert "second line" in text


def test_matplotlib_draws_the_series_it_is_given(experiment):
    plot = against(experiment.trials, "learning_rate", experiment.hyperparameters["learning_rate"])
    axes = plot.matplotlib().axes[0]
    assert axes.get_xscale() == "log"
    for series, drawn in zip(plot.series, axes.collections, strict=True):
        np.testing.assert_allclose(drawn.get_offsets(), np.column_stack([series.x, series.y]))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [series.name for series in plot.series]


def test_trials_that_all_trained_to_the_end_have_the_strongest_colour(experiment):
    plot = against(experiment.trials[experiment.trials["state"] == "FINISHED"], "learning_rate")
    assert (plot.plotly().layout.coloraxis.cmin, plot.plotly().layout.coloraxis.cmax) == (0, 8)
    faces = plot.matplotlib().axes[0].collections[0].get_facecolors()
    np.testing.assert_allclose(faces, [to_rgba(LIGHT_SCALE[-1])] * 5, atol=0.01)


def test_matplotlib_draws_lines_and_marks(experiment):
    plot = curves(experiment.reports, experiment.trials, "val_accuracy", rungs=(1, 3), chance=1 / 7)
    lines = plot.matplotlib().axes[0].lines
    np.testing.assert_allclose(lines[0].get_ydata(), plot.series[0].y)
    assert len(lines) == len(plot.series) + 3


def test_matplotlib_draws_bars(experiment):
    (bar,) = failure_counts(experiment.trials).matplotlib().axes[0].patches
    assert bar.get_width() == 3


def test_matplotlib_reads_no_mathematics_and_misses_no_glyph(hostile):
    if fonts.hangul_font() is None:
        pytest.skip("no installed font has Hangul")
    figure = hostile.matplotlib()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FigureCanvasAgg(figure).draw()
    assert figure.axes[0].get_title(loc="left") == HOSTILE


def test_hangul_turns_latin_only_where_no_font_has_it():
    assert fonts.legible("분노 <b> 행복 값", lambda: "a font") == "분노 <b> 행복 값"
    assert fonts.legible("분노 <b> 행복 값", lambda: None) == "bunno <b> haengbok gap"


def test_every_syllable_has_a_romanisation():
    assert fonts.legible("아", lambda: None) == "a"
    assert all(fonts.legible(chr(code), lambda: None).isascii() for code in range(0xAC00, 0xD7A4))


@pytest.fixture
def heat_map():
    return HeatMap(
        name="pairs",
        title="Pairs",
        columns=("low", "high"),
        rows=("a", "b", "c"),
        column_label="rate",
        row_label="kind",
        values=[[0.1, 0.9], [math.nan, 0.5], [0.3, 0.2]],
        scale="accuracy",
        texts=[["0.1", "0.9"], ["", "0.5"], ["0.3", "0.2"]],
    )


def test_plotly_draws_the_cells_it_is_given(heat_map):
    figure = heat_map.plotly()
    (trace,) = figure.data
    np.testing.assert_allclose(trace.z, heat_map.values, rtol=1e-6)
    assert [list(row) for row in trace.text] == heat_map.texts
    assert trace.hovertext[0][1] == "a, high: 0.9"
    assert (figure.layout.xaxis.ticktext, figure.layout.yaxis.ticktext) == (heat_map.columns, heat_map.rows)
    assert figure.layout.yaxis.range == (2.5, -0.5)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0.1, 0.9)


def test_matplotlib_draws_the_cells_it_is_given(heat_map):
    axes, bar = heat_map.matplotlib().axes
    (image,) = axes.images
    np.testing.assert_allclose(image.get_array()[0, 1], to_rgba(LIGHT_SCALE[-1]), atol=0.01)
    assert image.get_array()[1, 0, 3] == 0
    inks = {text.get_text(): text.get_color() for text in axes.texts if text.get_text()}
    assert inks == {"0.1": LIGHT["ink"], "0.9": "white", "0.5": "white", "0.3": LIGHT["ink"], "0.2": LIGHT["ink"]}
    assert [label.get_text() for label in axes.get_yticklabels()] == list(heat_map.rows)
    assert axes.get_ylim() == (2.5, -0.5)
    assert bar.get_ylabel() == "accuracy"


@pytest.mark.parametrize(
    ("values", "bounds", "ends"),
    [([[0.2, 0.4]], None, (0.2, 0.4)), ([[2.0, 2.0]], None, (1.5, 2.5)), ([[math.nan] * 2], None, (0.0, 1.0))],
)
def test_the_colours_of_a_heat_map_span_its_values(heat_map, values, bounds, ends):
    assert replace(heat_map, values=values, bounds=bounds).ends == ends


def test_a_heat_map_escapes_every_text(heat_map):
    hostile = replace(
        heat_map, title=HOSTILE, columns=(HOSTILE, HOSTILE), rows=(HOSTILE,) * 3, texts=[[HOSTILE] * 2] * 3
    )
    text = hostile.plotly().to_json()
    assert "<script" not in text
    assert "\\u003cscript" not in text
    assert hostile.matplotlib().axes[0].get_title(loc="left") == fonts.legible(HOSTILE)


def test_figures_are_written_as_png_and_svg(heat_map, hostile, tmp_path):
    written = write_figures([heat_map, hostile], tmp_path)
    assert sorted(written) == sorted(tmp_path.iterdir())
    assert sorted(path.name for path in written) == ["hostile.png", "hostile.svg", "pairs.png", "pairs.svg"]
    assert (tmp_path / "pairs.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "hostile.svg").read_text()
    assert "<script" not in svg
    assert "<path" in svg
    write_figures([hostile], tmp_path)
    assert (tmp_path / "hostile.svg").read_text() == svg


def test_a_figure_that_is_laid_out_once_has_its_parts_where_savefig_puts_them(heat_map, tmp_path):
    write_figures([heat_map], tmp_path)
    heat_map.matplotlib().savefig(tmp_path / "expected.png", dpi=DOTS_PER_INCH)
    np.testing.assert_array_equal(imread(tmp_path / "pairs.png"), imread(tmp_path / "expected.png"))


def test_several_processes_write_the_same_figures(plots, tmp_path):
    alone = write_figures(plots, tmp_path / "alone")
    with FigureWriter(tmp_path / "together", processes=3) as writer:
        writer.add(plots[:5])
        writer.add(plots[5:])
        together = writer.finish()
    assert [path.name for path in together] == [path.name for path in alone]
    assert [path.read_bytes() for path in together] == [path.read_bytes() for path in alone]


def test_what_a_process_could_not_write_is_written_again_or_raises(plots, tmp_path, monkeypatch, capfd):
    parent = os.getpid()
    monkeypatch.setattr(type(plots[0]), "matplotlib", lambda plot: _only_in(parent))
    with FigureWriter(tmp_path / "there", processes=2) as writer:
        writer.add(plots)
        until(multiprocessing.active_children, 0)
        assert all(path.exists() for path in writer.finish())
    (tmp_path / "taken").write_bytes(b"")
    with FigureWriter(tmp_path / "taken", processes=2) as writer:
        writer.add(plots)
        with pytest.raises(OSError, match="taken"):
            writer.finish()
    assert capfd.readouterr().err == ""


def test_others_draw_while_this_process_does_something_else_and_stop_when_it_fails(plots, tmp_path):
    with FigureWriter(tmp_path / "drawn", processes=2) as writer:
        writer.add(plots)
        until(lambda: list((tmp_path / "drawn").glob("[!.]*.svg")), len(plots))
    with pytest.raises(ValueError, match="no page"):
        fail_while_drawing(plots * 20, tmp_path / "cut")
    assert not multiprocessing.active_children()
    assert len(list((tmp_path / "cut").glob("[!.]*.svg"))) < len(plots)


def fail_while_drawing(plots, folder):
    with FigureWriter(folder, processes=2) as writer:
        writer.add(plots)
        raise ValueError("no page")


@pytest.fixture
def plots(hostile):
    return [replace(hostile, name=f"plot-{number}") for number in range(10)]


def until(found, count):
    limit = time.monotonic() + 60
    while len(found()) != count and time.monotonic() < limit:
        time.sleep(0.01)
    assert len(found()) == count


def _only_in(process: int) -> Figure:
    if os.getpid() != process:
        raise OSError("the disk is full")
    return Figure()


def test_bars_begin_at_their_base_and_areas_are_filled():
    bars = Series(name="busy", style="bars", x=[2.0, 1.0], y=[0, 1], base=[1.0, 4.0], thickness=0.4)
    area = Series(name="band", style="area", x=[0, 1, 1, math.nan, 2, 3, 3], y=[0, 0, 1, math.nan, 0, 0, 1])
    plot = Plot(
        name="b", title="b", x=Axis(label=""), y=Axis(label=""), series=(bars, area), notes=(Note(1.0, 0.5, "<b>"),)
    )
    drawn, band = plot.plotly().data
    assert (list(drawn.base), list(drawn.x), drawn.width) == ([1.0, 4.0], [2.0, 1.0], 0.4)
    assert (band.fill, list(band.x)[4:]) == ("toself", [2, 3, 3])
    assert plot.plotly().layout.annotations[0].text == "&lt;b&gt;"
    first, second, *areas = plot.matplotlib().axes[0].patches
    assert (first.get_x(), first.get_width(), second.get_x(), first.get_height()) == (1.0, 2.0, 4.0, 0.4)
    assert [area.get_xy().tolist()[:3] for area in areas] == [
        [[0, 0], [1, 0], [1, 1]],
        [[2, 0], [3, 0], [3, 1]],
    ]


@pytest.fixture
def known_fonts(monkeypatch):
    """matplotlib's list of fonts, of which a test may take some away."""
    fonts.hangul_font.cache_clear()
    listed = list(font_manager.fontManager.ttflist)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
    yield listed
    fonts.hangul_font.cache_clear()


def test_a_font_that_was_installed_since_is_found(known_fonts, monkeypatch):
    latin = next(font for font in known_fonts if font.name == "DejaVu Sans")
    monkeypatch.setattr(fonts, "HANGUL_FONTS", ("DejaVu Sans",))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [latin.fname])
    known_fonts.clear()
    assert fonts.hangul_font() == "DejaVu Sans"


def test_a_font_that_was_removed_since_does_not_count(known_fonts, monkeypatch):
    gone = font_manager.FontEntry(fname="nowhere/NanumGothic.ttf", name="NanumGothic")
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    known_fonts[:] = [gone]
    assert fonts.hangul_font() is None
