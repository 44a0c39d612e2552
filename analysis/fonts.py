"""Fonts for matplotlib: Hangul from a font that has it, in Latin letters where no such font is installed."""

import contextlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from matplotlib import font_manager

HANGUL_FONTS = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "NanumBarunGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "UnDotum",
    "Baekmuk Dotum",
)
"""Families that hold Hangul, in the order of preference; matplotlib knows a font collection by its first face."""

_INITIALS, _VOWELS, _FINALS = (
    [letters.strip("-") for letters in row.split()]
    for row in (
        "g kk n d tt r m b pp s ss - j jj ch k t p h",
        "a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i",
        "- k k k n n n t l k m p l l p l m p p t t ng t t k t p t",
    )
)
_FIRST, _LAST = 0xAC00, 0xD7A3


@cache
def hangul_font() -> str | None:
    """The installed family that draws Hangul best; None where there is none.

    matplotlib keeps a list of fonts from when it first ran. One that was removed since does not count, and where none
    is left of those with Hangul, the ones that were installed since are looked through.
    """
    return _best(font_manager.fontManager.ttflist) or _best(_installed_since())


def _best(fonts: Iterable[font_manager.FontEntry]) -> str | None:
    there = {font.name for font in fonts if font.name in HANGUL_FONTS and Path(font.fname).exists()}
    return next((name for name in HANGUL_FONTS if name in there), None)


def _installed_since() -> list[font_manager.FontEntry]:
    """The fonts of the system that matplotlib does not know yet; it knows them afterwards."""
    manager = font_manager.fontManager
    known = len(manager.ttflist)
    listed = {font.fname for font in manager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - listed):
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            manager.addfont(path)
    return manager.ttflist[known:]


def families() -> list[str]:
    """Font families in the order of fallback, glyph by glyph."""
    korean = hangul_font()
    return ["DejaVu Sans", korean] if korean else ["DejaVu Sans"]


def legible(text: str, font: Callable[[], str | None] = hangul_font) -> str:
    """The text as the installed fonts can draw it: unchanged, or with Hangul in Latin letters."""
    return text if font() else "".join(map(_romanised, text))


def _romanised(letter: str) -> str:
    """One syllable block after the Revised Romanization of Korean (2000), without assimilation between blocks."""
    if not _FIRST <= ord(letter) <= _LAST:
        return letter
    initial, rest = divmod(ord(letter) - _FIRST, 21 * 28)
    vowel, final = divmod(rest, 28)
    return _INITIALS[initial] + _VOWELS[vowel] + _FINALS[final]
