"""Sheets of pictures with their labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainable.data import contact_sheet
from trainable.data.contact_sheet import Cell, Row, hangul_font, write_sheet

ROWS = (Row("happy", "행복", 0.75), Row("sad", "슬픔", 0.25))


def cell(title: str = "a.png", level: int = 200, rows: tuple[Row, ...] = ROWS) -> Cell:
    return Cell(title, np.full((48, 48), level, np.uint8), rows)


def drawn(folder: Path, *cells: Cell, font: Path | None = None) -> np.ndarray:
    write_sheet(folder / "sheet.png", cells, font)
    with Image.open(folder / "sheet.png") as sheet:
        return np.asarray(sheet.convert("RGB"))


def test_pictures_stand_in_rows_of_three(tmp_path: Path) -> None:
    sheet = drawn(tmp_path, *(cell(level=20 * n) for n in range(5)))
    height = sheet.shape[0] // 2
    assert sheet.shape[1] == 3 * contact_sheet.WIDTH
    for n in range(5):
        row, column = divmod(n, 3)
        assert sheet[row * height + 80, column * contact_sheet.WIDTH + 60].tolist() == [20 * n] * 3
    assert (sheet[height:, 2 * contact_sheet.WIDTH :] == 255).all()


def test_a_bar_is_as_long_as_its_label_is_likely(tmp_path: Path) -> None:
    sheet = drawn(tmp_path, cell())
    bar = tuple(int(contact_sheet.BAR[at : at + 2], 16) for at in (1, 3, 5))
    lengths = [int((sheet[y] == bar).all(axis=-1).sum()) for y in (29, 49)]  # above the letters
    assert lengths[0] == pytest.approx(3 * lengths[1], abs=4)


def test_many_labels_make_a_higher_cell(tmp_path: Path) -> None:
    assert drawn(tmp_path, cell(rows=ROWS * 10)).shape[0] > drawn(tmp_path, cell()).shape[0]


def test_korean_is_drawn_where_a_font_has_it_and_left_away_elsewhere(tmp_path: Path) -> None:
    english, other = (cell(rows=(Row("happy", korean, 0.5),)) for korean in ("행복", "슬픔"))
    assert np.array_equal(drawn(tmp_path, english), drawn(tmp_path, other))
    font = hangul_font()
    if font is None:
        pytest.skip("needs a font with Hangul")
    assert not np.array_equal(drawn(tmp_path, english, font=font), drawn(tmp_path, other, font=font))


def test_of_a_long_name_the_end_is_shown(tmp_path: Path) -> None:
    long, same_end, other_end = ("x" * 90 + "/a.png", "y" + "x" * 89 + "/a.png", "x" * 90 + "/b.png")
    assert np.array_equal(drawn(tmp_path, cell(long)), drawn(tmp_path, cell(same_end)))
    assert not np.array_equal(drawn(tmp_path, cell(long)), drawn(tmp_path, cell(other_end)))
