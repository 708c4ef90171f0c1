"""Parts of a picture of a card, one below the other: texts in lines, headings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_interpret.report.canvas import Canvas, Colour, Pen
from lightning_interpret.report.frame import BODY, GREY, INK, MARGIN, SMALL, TINY
from lightning_interpret.texts import printable

LEADING = {BODY: 20, SMALL: 16, TINY: 13}  # from one base line to the next
GAP = 10  # between columns


@dataclass(frozen=True)
class Part:
    """Something of a height, to be drawn from a place on."""

    height: float
    draw: Callable[[Canvas, float], None]


def wrapped(text: str, pen: Pen, size: int, room: float, most: int) -> list[str]:
    """Return a text in at most so many lines that fit, broken between words where it has any; the last may be cut."""
    lines: list[str] = []
    rest = printable(text)
    while rest and len(lines) < most - 1:
        piece = next(pen.pieces(rest, size, room))
        if len(piece) < len(rest) and not rest[len(piece)].isspace():
            piece = piece[: piece.rfind(" ") + 1] or piece
        lines.append(piece.strip())
        rest = rest[len(piece) :].lstrip()
    return [*lines, pen.clipped(rest, size, room)] if rest else lines


def text_of(
    text: str, pen: Pen, size: int, colour: Colour, room: float, most: int, above: float = 0, below: float = 0
) -> Part:
    """Return a text in at most so many lines."""
    lines = wrapped(text, pen, size, room, most)
    height = above + LEADING[size] * len(lines) + below
    return Part(height, lambda canvas, top: written(canvas, lines, top + above, size, colour))


def written(canvas: Canvas, lines: Sequence[str], top: float, size: int, colour: Colour, x: float = MARGIN) -> None:
    """Draw lines one below the other."""
    for number, line in enumerate(lines, 1):
        canvas.text(x, top + LEADING[size] * number - 4, line, size, colour)


def heading(title: str, meaning: str, pen: Pen, room: float, colour: Colour = INK) -> Part:
    """Return a heading with what it means beside it."""

    def draw(canvas: Canvas, top: float) -> None:
        used = canvas.text(MARGIN, top + 22, pen.clipped(printable(title), BODY, room), BODY, colour) + 8
        if used < room:
            canvas.text(MARGIN + used, top + 22, pen.clipped(printable(meaning), TINY, room - used), TINY, GREY)

    return Part(28, draw)
