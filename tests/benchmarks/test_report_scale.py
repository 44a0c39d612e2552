import pytest

from benchmarks.report_scale import figure_bytes, generate, measure, peak_memory

PLOTLY_BYTES = 5_000_000
"""Of plotly's script, which every page has once."""


@pytest.mark.e2e
def test_the_page_of_a_large_search_is_thinned_and_says_so(tmp_path):
    experiment = tmp_path / "large"
    generate(experiment, 2_200, epochs=4)
    written = measure(experiment, tmp_path / "report")
    page = tmp_path / "report" / "report.html"
    text = page.read_text()
    assert "Shows 2,000 of 2,200 trials: the best 500 and an even sample of the rest." in text
    assert "The best 1,000 of 2,200." in text
    assert written.page_bytes == page.stat().st_size < PLOTLY_BYTES + 5_000_000
    assert 50e6 < peak_memory(experiment, tmp_path / "report") < 1e9
    figures = figure_bytes(page)
    assert len(figures) >= 10
    assert max(figures.values()) < 700_000
