"""Parts of a picture of a self-explanation: a text with what was selected of it, bars with names, a quotation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lightning_interpret.cards import Bar, Bars, Mark, Passage
from lightning_interpret.palette import AGAINST, FOR, background
from lightning_interpret.report.canvas import Canvas, Pen
from lightning_interpret.report.frame import BODY, GREY, INK, MARGIN, RULE, SMALL, TINY
from lightning_interpret.report.parts import GAP, Part, heading, text_of, wrapped, written
from lightning_interpret.texts import printable

_LINES, _QUOTE_LINES, _NAME_LINES, _BESIDE_LINES, _BARS = 16, 12, 2, 3, 10  # at most; the last is a number of bars
_PITCH, _SPACE, _BOLD = 24, 4, 1.5  # from one line of words to the next, between words, by which bold is wider
_NUMBER = 64  # width of the column of numbers
_WASH = background(0.22)


@dataclass(frozen=True)
class _Placed:
    """A word, or a piece of one, at its place on a line."""

    mark: Mark
    text: str
    x: float
    width: float


def passage(shown: Passage, pen: Pen, room: float) -> Iterator[Part]:
    """Yield a text: selected words bold on a wash, those that people selected underlined, the others grey."""
    lines, left_out = _laid_out(shown, pen, room)
    height = _PITCH * len(lines) + 6

    def draw(canvas: Canvas, top: float) -> None:
        for number, line in enumerate(lines):
            for placed in line:
                x = placed.x if not shown.right_to_left else room - placed.x - placed.width
                _draw(canvas, placed, MARGIN + x, top + _PITCH * number)

    yield Part(height, draw)
    said = "bold: selected" + ("; underlined: selected by people" if shown.agreement is not None else "")
    yield text_of(f"… {left_out} more words; {said}" if left_out else said, pen, TINY, GREY, room, 1, below=4)


def quote(name: str, text: str, pen: Pen, room: float) -> Iterator[Part]:
    """Yield a quotation beside a rule."""
    yield heading(name, "", pen, room)
    lines = wrapped(text, pen, BODY, room - 14, _QUOTE_LINES)
    height = 20 * len(lines) + 8

    def draw(canvas: Canvas, top: float) -> None:
        canvas.box(MARGIN, top + 2, 3, height - 8, FOR)
        written(canvas, lines, top, BODY, INK, MARGIN + 14)

    yield Part(height, draw)


def bars(found: Bars, pen: Pen, room: float) -> Iterator[Part]:
    """Yield the foremost bars, those left out counted."""
    yield heading(found.title, found.meaning, pen, room)
    yield from (_bar(bar, pen, room) for bar in found.bars[:_BARS])
    left_out = len(found.bars) - _BARS
    for text in ([f"… {left_out} more"] if left_out > 0 else []) + ([found.rest] if found.rest else []):
        yield text_of(text, pen, SMALL, GREY, room, 2)
    if not found.bars:
        yield text_of(found.none, pen, SMALL, GREY, room, 1)


def _bar(bar: Bar, pen: Pen, room: float) -> Part:
    left = MARGIN + _NUMBER + GAP
    names = wrapped(bar.name, pen, SMALL, room - _NUMBER - GAP, _NAME_LINES)
    beside = " · ".join(f"{name} {value}" for name, value in bar.beside)
    below = wrapped(beside, pen, SMALL, room - _NUMBER - GAP, _BESIDE_LINES) if beside else []
    height = 16 * max(2, len(names) + len(below)) + 4

    def draw(canvas: Canvas, top: float) -> None:
        number = pen.clipped(printable(bar.number), SMALL, _NUMBER)
        canvas.text(MARGIN + _NUMBER, top + 12, number, SMALL, INK, align="r")
        canvas.box(MARGIN, top + 18, _NUMBER, 6, RULE)
        if bar.strength:
            size = max(1.0, _NUMBER * abs(bar.strength))
            canvas.box(MARGIN, top + 18, size, 6, FOR if bar.strength > 0 else AGAINST)
        written(canvas, names, top, SMALL, INK, left)
        written(canvas, below, top + 16 * len(names), SMALL, GREY, left)

    return Part(height, draw)


def _laid_out(shown: Passage, pen: Pen, room: float) -> tuple[Sequence[Sequence[_Placed]], int]:
    """Return the words on at most so many lines, and how many are left out."""
    lines: list[list[_Placed]] = [[]]
    x = 0.0
    for number, mark in enumerate(shown.marks):
        x += _SPACE * (mark.space and bool(lines[-1]))
        for text in pen.pieces(printable(mark.text), BODY, room - _BOLD):
            width = pen.width(text, BODY) + _BOLD * mark.selected
            if lines[-1] and x + width > room:
                lines.append([])
                x = 0.0
            if len(lines) > _LINES:
                return lines[:-1], sum(mark.word for mark in shown.marks[number:])
            lines[-1].append(_Placed(mark, text, x, width))
            x += width
    return lines, 0


def _draw(canvas: Canvas, placed: _Placed, x: float, top: float) -> None:
    mark = placed.mark
    if mark.selected:
        canvas.box(x - 2, top + 1, placed.width + 4, 20, _WASH, radius=3)
    canvas.text(x, top + 16, placed.text, BODY, INK if mark.selected else GREY, bold=mark.selected)
    if mark.gold:
        canvas.box(x, top + 20, placed.width, 2, INK)
