"""A row as text for a terminal, and plain tables."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TextIO

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.locations import Grid
from lightning_interpret.palette import background, foreground
from lightning_interpret.report.words import Shade, not_given, scale, sections, shades
from lightning_interpret.texts import printable, signed

_MATTERS = 0.2  # share of the largest score from which a word carries its number
_LISTED = 10  # locations of an image
_RESET, _DIM = "\x1b[0m", "\x1b[2m"
_NUMBER = re.compile(r"[+\-−]?(\d[\d,]*(\.\d+)?(e[+-]?\d+)?|inf|nan)( ?%)?")


def render(row: AttributionRow, *, colour: bool, width: int = 100) -> str:
    """Return a row for a terminal: a head line, the words with their weight, then what is missing and the notes.

    Of an image the strongest locations are listed.

    Args:
        row: The row to show.
        colour: Whether to colour the words with ANSI escape codes; if not, the words that matter carry their score.
        width: Columns at which the words are wrapped.
    """
    lines = [printable(row.summary())]
    if row.units == "location":
        lines += ["; ".join(row.locations().said()), _locations(row.locations())]
    else:
        for name, words in sections(row, shades(row)):
            lines += _wrapped([(f"{name}:", "")] * bool(name) + [_cell(word, colour) for word in words], width)
        lines += [_legend(row)] if colour else []
    if row.absorbed:
        lines.append("absorbed: " + ", ".join(f"{printable(name)} {signed(v)}" for name, v in row.absorbed.items()))
    return "\n".join(lines + [printable(line) for line in not_given(row)])


def colour_wanted(stream: TextIO) -> bool:
    """Return whether ANSI colours suit a stream: a terminal, unless the environment says otherwise.

    ``FORCE_COLOR`` wins over ``NO_COLOR``, which wins over the kind of terminal.
    """
    if os.environ.get("FORCE_COLOR"):
        return os.environ["FORCE_COLOR"] != "0"
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a plain aligned table; a column of nothing but numbers is aligned to the right.

    Args:
        headers: Name of each column.
        rows: The cells of each row. Floats are shown in four significant digits, ``None`` as a dash.
    """
    cells = [[printable(str(name)) for name in headers], *([_text(value) for value in row] for row in rows)]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(display_width, column)) for column in columns]
    right = [all(cell == "–" or _NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns]
    lines = ["  ".join(map(_aligned, line, widths, right)).rstrip() for line in cells]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def display_width(text: str) -> int:
    """Return how many terminal columns a text takes: two for wide characters, none for combining marks."""
    return sum(_width_of(character) for character in text)


def _width_of(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def _aligned(cell: str, width: int, right: bool) -> str:
    space = " " * (width - display_width(cell))
    return space + cell if right else cell + space


def _locations(grid: Grid) -> str:
    strongest = grid.strongest(_LISTED)
    size = grid.size or 1.0
    lines = [(at.row, at.column, signed(at.score), f"{abs(at.score) / size:.1%}") for at in strongest]
    return table(["row", "column", "score", "share"], lines)


def _cell(word: Shade, colour: bool) -> tuple[str, str]:
    scored = f"{word.text}({signed(word.score)})" if word.matters(_MATTERS) else word.text
    if not colour:
        return scored, ""
    return (scored, _DIM) if word.special else (word.text, _style(word.strength))


def _style(strength: float) -> str:
    (r, g, b), (red, green, blue) = foreground(strength), background(strength)
    return f"\x1b[38;2;{r};{g};{b}m\x1b[48;2;{red};{green};{blue}m"


def _legend(row: AttributionRow) -> str:
    ends = signed(-scale(row.merged())), signed(scale(row.merged()))
    against, in_favour = (f"{_style(strength)} {end} {_RESET}" for strength, end in zip((-1, 1), ends, strict=True))
    return f"against {against} … {in_favour} for {printable(row.target_name)}"


def _wrapped(cells: Sequence[tuple[str, str]], width: int) -> list[str]:
    lines: list[list[str]] = [[]]
    used = 0
    for text, style in cells:
        for piece in _pieces(text, width):
            if lines[-1] and used + 1 + display_width(piece) > width:
                lines.append([])
            used = (used + 1 if lines[-1] else 0) + display_width(piece)
            lines[-1].append(f"{style}{piece}{_RESET}" if style else piece)
    return [" ".join(line) for line in lines]


def _pieces(text: str, width: int) -> Iterator[str]:
    start = used = 0
    for end, character in enumerate(text):
        if end > start and used + _width_of(character) > width:
            yield text[start:end]
            start, used = end, 0
        used += _width_of(character)
    yield text[start:]
