"""A sheet of pictures with what was said of them: one PNG to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainable.files import write_atomically

HANGUL = "행복"
"""Two syllables; a font of last resort has one glyph for all."""
COLUMNS = 3
SIDE = 112
"""Of a picture on the sheet, in pixels."""
WIDTH, LINE, MARGIN = 440, 20, 8
"""Of a cell, of a line of text and around both, in pixels."""
TEXT, TITLE = 14, 12
"""Sizes of the letters, in pixels."""
INK, FAINT, BAR = "#1f2933", "#7b8794", "#bcd7ee"

MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 1 << 26
"""Pictures of more than these Pillow itself takes for an attack where it reads them."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Row:
    """One label of a picture."""

    english: str
    korean: str
    probability: float
    """0 to 1."""


@dataclass(frozen=True)
class Cell:
    """One picture, with what was said of it."""

    title: str
    image: np.ndarray
    """uint8 (S, S) or (S, S, 3), as the model saw it."""
    rows: Sequence[Row]


@cache
def hangul_font() -> Path | None:
    """The file of an installed font of ordinary weight that has Hangul; None where there is none.

    The files themselves are looked at: matplotlib's list of fonts is as old as its cache.
    """
    from matplotlib.font_manager import findSystemFonts

    return next((file for file in sorted(map(Path, findSystemFonts())) if _has_hangul(file)), None)


def _has_hangul(file: Path) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
    except (OSError, RuntimeError):  # gone meanwhile, or of a format that FreeType cannot read
        return False
    glyphs = {font.get_char_index(ord(letter)) for letter in HANGUL}
    return font.style_name == "Regular" and len(glyphs - {0}) == len(HANGUL)


def sheet_size(pictures: int, labels: int) -> tuple[int, int]:
    """Width and height of a sheet, in pixels."""
    columns = _columns(pictures)
    return columns * WIDTH, -(-pictures // columns) * _height(labels)


def write_sheet(path: Path, cells: Sequence[Cell], font: Path | None) -> None:
    """Write the cells as a PNG; see `draw_sheet`."""
    sheet = draw_sheet(cells, font)
    write_atomically(path, lambda temporary: sheet.save(temporary, "PNG", optimize=True))


def draw_sheet(cells: Sequence[Cell], font: Path | None) -> Image.Image:
    """Draw the cells, row by row; labels are in English alone where `font`, which draws all text, is None."""
    labels = max((len(cell.rows) for cell in cells), default=0)
    columns, height = _columns(len(cells)), _height(labels)
    sheet = Image.new("RGB", sheet_size(len(cells), labels), "white")
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        _draw(sheet, column * WIDTH + MARGIN, row * height + MARGIN, cell, font)
    return sheet


def _columns(pictures: int) -> int:
    return max(1, min(COLUMNS, pictures))


def _height(labels: int) -> int:
    """Of a cell, in pixels."""
    return 2 * MARGIN + LINE + max(SIDE, LINE * labels)


def _draw(sheet: Image.Image, left: int, top: int, cell: Cell, font: Path | None) -> None:
    draw = ImageDraw.Draw(sheet)
    small, normal = _font(font, TITLE), _font(font, TEXT)
    width = WIDTH - 2 * MARGIN
    draw.text((left, top), _shortened(cell.title, small, width), FAINT, small)
    top += LINE
    sheet.paste(Image.fromarray(cell.image).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top))
    start, room = left + SIDE + MARGIN, width - SIDE - MARGIN
    for row in cell.rows:
        draw.rectangle((start, top, start + room * row.probability, top + LINE - 3), BAR)
        share = f"{row.probability:.2f}"
        label = f"{row.english} {row.korean}" if font and row.korean != row.english else row.english
        draw.text((start + 2, top + 1), _shortened(label, normal, room - normal.getlength(share) - 8), INK, normal)
        draw.text((start + room - normal.getlength(share), top + 1), share, INK, normal)
        top += LINE


@cache
def _font(font: Path | None, size: int) -> Font:
    """The font in a file, or the one that Pillow brings along, which has Latin letters alone."""
    return ImageFont.truetype(font, size) if font else ImageFont.load_default(size)


def _shortened(text: str, font: Font, width: float) -> str:
    """The end of a text, which is where names differ, as long as it fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"
