from pathlib import Path

import pytest

from analysis import load
from analysis.columns import REPORTS, TRIALS, as_markdown, find

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("which", "columns"), [(0, REPORTS), (1, TRIALS)])
def test_every_column_of_a_frame_is_documented_and_every_documented_one_is_there(demo, which, columns):
    frame = load(demo)[which]
    assert [name for name in frame if find(str(name), columns) is None] == []
    assert [column.name for column in columns if "<" not in column.name and column.name not in frame] == []


def test_a_stranger_is_no_column():
    assert find("nonsense", REPORTS) is None
    assert find("config/anything", REPORTS).name == "config/<name>"


def test_a_number_of_seconds_says_its_unit():
    units = {column.name: column.unit for column in (*REPORTS, *TRIALS) if column.name.endswith("_seconds")}
    assert len(units) > 6
    assert all(unit.endswith("s") for unit in units.values())


@pytest.mark.parametrize("columns", [REPORTS, TRIALS])
def test_the_documentation_has_the_tables(columns):
    assert as_markdown(columns) in (ROOT / "docs/analysis.md").read_text(), f"put this there:\n{as_markdown(columns)}"


def test_figure_functions_can_be_had_from_the_package(demo):
    import analysis

    assert all(callable(getattr(analysis, name)) for name in analysis.FIGURES)
    assert set(analysis.FIGURES) < set(dir(analysis))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        analysis.nonsense  # noqa: B018
