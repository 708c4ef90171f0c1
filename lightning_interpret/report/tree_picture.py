"""Parts of a picture of a tree of spans: lines of words, below each the spans that lie on them, level by level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lightning_interpret.cards import Tree
from lightning_interpret.palette import background, foreground
from lightning_interpret.report.canvas import Canvas, Pen
from lightning_interpret.report.frame import GREY, INK, MARGIN, RULE, SMALL, TINY
from lightning_interpret.report.parts import Part, heading, text_of
from lightning_interpret.texts import printable, signed

_LINES, _ROWS, _FEWEST = 8, 60, 3  # lines of words, rows of spans in all, levels of a long text
_PITCH, _WORDS, _BELOW, _PAD, _NARROWEST = 15, 20, 10, 8, 24  # heights of a row and a line, widths around a word


@dataclass(frozen=True)
class _Line:
    """Words ``start`` to ``end`` on one line, and where each begins; the last place is where the last ends."""

    start: int
    end: int
    texts: tuple[str, ...]
    places: tuple[float, ...]


def tree(shown: Tree, pen: Pen, room: float) -> Iterator[Part]:
    """Yield the words in lines with their spans below; what is left out is said."""
    yield heading("Spans", printable(shown.meaning), pen, room)
    every = list(_laid_out(shown, pen, room))
    lines = every[:_LINES]
    levels = max(_FEWEST, _ROWS // len(lines)) if lines else 0
    for line in lines:
        yield _line(shown, line, levels, pen, room)
    hidden = 1 + max((cell.level for cell in shown.cells), default=-1) - levels
    said = [f"blue: for, orange: against; full colour at {signed(shown.largest)}"]
    said += [f"… {len(shown.words) - lines[-1].end} more words"] if len(every) > len(lines) else []
    said += [f"… {hidden} more levels"] if hidden > 0 else []
    said += [f"… {shown.unseen}"] if shown.unseen else []
    yield text_of("; ".join(said), pen, TINY, GREY, room, 2, below=4)


def _laid_out(shown: Tree, pen: Pen, room: float) -> Iterator[_Line]:
    texts: list[str] = []
    places, start = [0.0], 0
    for number, word in enumerate(shown.words):
        text = pen.clipped(printable(word), SMALL, room - _PAD)
        wide = max(_NARROWEST, pen.width(text, SMALL) + _PAD)
        if texts and places[-1] + wide > room:
            yield _Line(start, number, tuple(texts), tuple(places))
            texts, places, start = [], [0.0], number
        texts.append(text)
        places.append(places[-1] + wide)
    if texts:
        yield _Line(start, len(shown.words), tuple(texts), tuple(places))


def _line(shown: Tree, line: _Line, levels: int, pen: Pen, room: float) -> Part:
    cells = [cell for cell in shown.cells if cell.level < levels and cell.start < line.end and cell.end > line.start]
    rows = 1 + max((cell.level for cell in cells), default=-1)

    def across(start: int, end: int) -> tuple[float, float]:
        first, last = (line.places[min(max(at, line.start), line.end) - line.start] for at in (start, end))
        return (room - last, room - first) if shown.right_to_left else (first, last)

    def draw(canvas: Canvas, top: float) -> None:
        for number, text in enumerate(line.texts, line.start):
            left, right = across(number, number + 1)
            canvas.text(MARGIN + (left + right) / 2, top + 14, text, SMALL, INK, align="m")
        for cell in cells:
            left, right = across(cell.start, cell.end)
            y = top + _WORDS + _PITCH * cell.level
            canvas.box(MARGIN + left + 1, y, right - left - 2, _PITCH - 2, RULE, radius=2)
            canvas.box(MARGIN + left + 1.5, y + 0.5, right - left - 3, _PITCH - 3, background(cell.strength), radius=2)
            if pen.width(cell.number, TINY) <= right - left - 4:
                colour = foreground(cell.strength)
                canvas.text(MARGIN + (left + right) / 2, y + 10, cell.number, TINY, colour, align="m")

    return Part(_WORDS + _PITCH * rows + _BELOW, draw)
