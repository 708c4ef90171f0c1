"""Fonts that can draw a text: Pillow's own where it suffices, else what the machine has."""

from __future__ import annotations

from functools import cache, lru_cache

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

_OWN = ""  # Pillow's built-in font: always there, little beyond ASCII
# By file name, searched in the system's font folders. Broad coverage first; a font for one script covers its readers.
_KNOWN = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "NotoEmoji-Regular.ttf",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "segoeui.ttf",
    "seguisym.ttf",
    "msyh.ttc",
    "wqy-microhei.ttc",
    "FreeSans.ttf",
)
_NO_FONT_DRAWS = "\uffff"  # never a character, so its glyph is the font's mark for a missing one
_JOINERS = "\u200c\u200d"  # the layout engine takes them out
_VARIANTS = {ord(selector): None for selector in "\ufe0e\ufe0f"}  # text or emoji style: we draw one of them anyway


def ranked(text: str) -> tuple[str, ...]:
    """Return the names of the fonts to draw a text with: the fewest missing characters first.

    One order for a whole picture keeps its words in one face.
    """
    characters = set(text)
    if not _missing(_OWN, characters):
        return (_OWN,)
    return tuple(sorted((_OWN, *_installed()), key=lambda name: _missing(name, characters)))


@lru_cache(maxsize=4096)
def fit(text: str, size: int, names: tuple[str, ...]) -> tuple[str, FreeTypeFont]:
    """Return a font for a text, and the text with the characters that the font lacks written as ``[U+1F600]``.

    Args:
        text: The text to draw.
        size: Size in pixels.
        names: Fonts to choose from, as :func:`ranked` gives them.
    """
    text = text.translate(_VARIANTS)
    name = min(names, key=lambda name: _missing(name, set(text)))
    return "".join(c if _draws(name, c) else f"[U+{ord(c):04X}]" for c in text), _font(name, size)


def _missing(name: str, characters: set[str]) -> int:
    return sum(not _draws(name, character) for character in characters)


@lru_cache(maxsize=1 << 16)
def _draws(name: str, character: str) -> bool:
    if character.isspace() or character in _JOINERS:
        return True
    return _glyph(name, character) != _glyph(name, _NO_FONT_DRAWS)


def _glyph(name: str, character: str) -> tuple[tuple[int, int], bytes]:
    mask = _probe(name).getmask(character)
    return mask.size, bytes(mask)


@cache
def _probe(name: str) -> FreeTypeFont:
    # The basic layout looks at one glyph; the complex one would add a dotted circle to a lone combining mark.
    return _font(name, 24).font_variant(layout_engine=ImageFont.Layout.BASIC)


@cache
def _font(name: str, size: int) -> FreeTypeFont:
    font = ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    assert isinstance(font, FreeTypeFont)  # given a size, Pillow's default is one
    return font


@cache
def _installed() -> tuple[str, ...]:
    """Return the paths of the known fonts that this machine has."""
    paths = []
    for name in _KNOWN:
        try:
            paths.append(str(ImageFont.truetype(name).path))
        except OSError:
            continue
    return tuple(paths)
