"""Parts of a picture of several targets: a grid of targets by words in bands, and texts in the colours of scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lightning_interpret.cards import Aim, Coloured, Cross, Outline, Piece, Section
from lightning_interpret.palette import background, foreground
from lightning_interpret.report.canvas import Canvas, Pen
from lightning_interpret.report.frame import ALARM, BODY, GREY, INK, MARGIN, RULE, SMALL, TINY
from lightning_interpret.report.parts import Part, heading, text_of
from lightning_interpret.texts import printable, signed

_NAME, _CELL, _ROW, _PART = 76, 17, 18, 6  # widths of a name and a cell, height of a row, gap between parts
_WORD, _LABEL = 112, 16  # heights of a word that is read from below, of the name of a part
_ROWS = 16  # targets of a grid
_LINES, _PITCH, _SPACE, _PAD = 20, 26, 4, 2  # lines of a text, their pitch, width of a gap and beside a word


def cross(found: Cross, pen: Pen, room: float) -> Iterator[Part]:
    """Yield targets, a row each, by the words that they are read from: in bands as wide as the picture, sums last."""
    yield heading("Targets", printable(found.meaning), pen, room)
    for start, end in _bands(found, room):
        yield _band(found, start, end, pen, room)
    yield _sums(found, pen, room)
    hidden = len(found.aims) - _ROWS
    said = [f"blue: for, orange: against; full colour at {signed(found.largest).lstrip('+')}; empty: not read"]
    said += [f"… {hidden} more targets here"] if hidden > 0 else []
    yield text_of("; ".join([*said, found.rest] if found.rest else said), pen, TINY, GREY, room, 2, below=4)


def _bands(found: Cross, room: float) -> Iterator[tuple[int, int]]:
    """Yield which columns stand side by side: as many in each band, as far as that goes."""
    turns = len(found.spans()) - 1
    most = max(1, int((room - _NAME - _PART * min(turns, 2)) // _CELL))
    count = -(-len(found.columns) // most)
    edges = [len(found.columns) * i // count for i in range(count + 1)] if count else []
    yield from pairwise(edges)


def _band(found: Cross, start: int, end: int, pen: Pen, room: float) -> Part:
    places, x = [], 0.0
    for i in range(start, end):
        x += _PART * (i > start and found.columns[i].segment != found.columns[i - 1].segment)
        places.append(x)
        x += _CELL
    sizes = [TINY if found.columns[i].special else SMALL for i in range(start, end)]
    texts = [
        pen.clipped(printable(found.columns[i].text), size, _WORD)
        for i, size in zip(range(start, end), sizes, strict=True)
    ]
    high = max(pen.width(text, size) for text, size in zip(texts, sizes, strict=True)) + 6
    label = _LABEL if len(found.parts) > 1 else 0
    aims = found.aims[:_ROWS]

    def left(at: float) -> float:
        return MARGIN + (room - _NAME - at - _CELL if found.right_to_left else _NAME + at)

    def draw(canvas: Canvas, top: float) -> None:
        for i, place in zip(range(start, end), places, strict=True):
            column = found.columns[i]
            if label and (i == start or column.segment != found.columns[i - 1].segment):
                _part_name(canvas, found, i, end, left(place), top, pen)
            colour = GREY if column.special else INK
            canvas.upright(left(place) + _CELL / 2, top + label + high, texts[i - start], sizes[i - start], colour)
        for number, aim in enumerate(aims):
            y = top + label + high + 2 + _ROW * number
            _name(canvas, aim, y, pen, room, found.right_to_left)
            for i, place in zip(range(start, end), places, strict=True):
                cell = aim.cells[i]
                if cell is not None:
                    canvas.box(left(place), y, _CELL - 1, _ROW - 1, RULE, radius=2)
                    canvas.box(left(place) + 0.5, y + 0.5, _CELL - 2, _ROW - 2, background(cell.strength), radius=2)

    return Part(label + high + 2 + _ROW * len(aims) + 10, draw)


def _part_name(canvas: Canvas, found: Cross, i: int, end: int, x: float, top: float, pen: Pen) -> None:
    size = next((n - i for n in range(i, end) if found.columns[n].segment != found.columns[i].segment), end - i)
    text = pen.clipped(printable(found.part(found.columns[i].segment)), TINY, max(44.0, _CELL * size))
    canvas.text(
        x + _CELL if found.right_to_left else x, top + 11, text, TINY, GREY, align="r" if found.right_to_left else "l"
    )


def _name(canvas: Canvas, aim: Aim, y: float, pen: Pen, room: float, right: bool) -> None:
    text = pen.clipped(printable(aim.name), SMALL, _NAME - 6)
    x = MARGIN + (room - _NAME + 6 if right else _NAME - 6)
    canvas.text(x, y + 13, text, SMALL, ALARM if aim.wrong else INK, align="l" if right else "r")


def _sums(found: Cross, pen: Pen, room: float) -> Part:
    """Return what each target's scores sum to, part by part, with its value and its error."""
    many = len(found.parts) > 1
    heads = [*(f"Σ {name}".strip() for name in (found.parts if many else ("",))), "value", "error"]
    heads += ["gold"] if any(aim.gold for aim in found.aims[:_ROWS]) else []
    wide = min(86.0, (room - _NAME) / len(heads))
    aims = found.aims[:_ROWS]

    def draw(canvas: Canvas, top: float) -> None:
        for column, head in enumerate(heads, 1):
            x = MARGIN + _NAME + wide * column - 4
            canvas.text(x, top + 12, pen.clipped(printable(head), TINY, wide - 8), TINY, GREY, align="r")
        canvas.box(MARGIN, top + 17, room, 1, RULE)
        for number, aim in enumerate(aims):
            y = top + 20 + _ROW * number
            _name(canvas, aim, y, pen, room, False)
            count = heads.index("value")
            sums = [*aim.sums, *["–"] * count][:count]
            for column, text in enumerate([*sums, aim.value, aim.error, *([aim.gold] if aim.gold else [])], 1):
                failed = aim.failed and column == count + 2
                x = MARGIN + _NAME + wide * column - 4
                shown = pen.clipped(printable(text + " !" * failed), SMALL, wide - 8)
                canvas.text(x, y + 13, shown, SMALL, ALARM if failed else INK, align="r")

    return Part(26 + _ROW * len(aims), draw)


@dataclass(frozen=True)
class _Placed:
    """A word, a piece of one, or the name of what is outlined (no ``piece``), at its place on a line."""

    piece: Piece | None
    text: str
    x: float
    width: float
    outline: Outline | None


def coloured(text: Coloured, pen: Pen, room: float) -> Iterator[Part]:
    """Yield a text under its title, each part of it under its name, what is outlined in a frame with its name."""
    facts = [*text.facts, *([f"full colour at {signed(text.largest).lstrip('+')}"] if text.largest else [])]
    yield heading(text.heading, " · ".join(facts), pen, room, ALARM if text.wrong else INK)
    for section in text.sections:
        if section.name:
            yield text_of(section.name, pen, TINY, GREY, room, 1)
        lines, left_out = _laid_out(section, text, pen, room)
        yield _lines(lines, text, room)
        if left_out:
            yield text_of(f"… {left_out} more words", pen, TINY, GREY, room, 1)


def _laid_out(section: Section, text: Coloured, pen: Pen, room: float) -> tuple[list[list[_Placed]], int]:
    lines: list[list[_Placed]] = [[]]
    x, shown = 0.0, 0
    for number, run in section.runs():
        outline = None if number is None else text.outlines[number]
        words: list[tuple[Piece | None, str, bool]] = [(piece, printable(piece.text), piece.space) for piece in run]
        if outline is not None:
            words.append((None, printable(outline.name), True))
        for piece, word, space in words:
            size = SMALL if piece is None or piece.special else BODY
            x += _SPACE * (space and bool(lines[-1]))
            for cut in pen.pieces(word, size, room - 2 * _PAD):
                width = pen.width(cut, size) + 2 * _PAD
                if lines[-1] and x + width > room:
                    lines.append([])
                    x = 0.0
                if len(lines) > _LINES:
                    return lines[:-1], len(section.pieces) - shown
                lines[-1].append(_Placed(piece, cut, x, width, outline))
                x += width
            shown += piece is not None
    return lines, 0


def _lines(lines: Sequence[Sequence[_Placed]], text: Coloured, room: float) -> Part:
    def left(x: float, width: float) -> float:
        return MARGIN + (room - x - width if text.right_to_left else x)

    def draw(canvas: Canvas, top: float) -> None:
        for number, line in enumerate(lines):
            y = top + _PITCH * number
            for placed in line:
                _word(canvas, placed, left(placed.x, placed.width), y)
            for outline, start, end in _framed(line):
                canvas.frame(left(start, end - start), y, end - start, 22, ALARM if outline.wrong else INK)

    return Part(_PITCH * len(lines) + 2, draw)


def _word(canvas: Canvas, placed: _Placed, x: float, y: float) -> None:
    piece, middle = placed.piece, x + placed.width / 2
    if piece is None:
        wrong = placed.outline is not None and placed.outline.wrong
        canvas.text(middle, y + 15, placed.text, SMALL, ALARM if wrong else INK, align="m", bold=True)
    elif piece.special or piece.score is None:
        size = SMALL if piece.special else BODY
        canvas.text(middle, y + 16, placed.text, size, GREY if piece.special else INK, align="m")
    else:
        canvas.box(x + 0.5, y + 1, placed.width - 1, 20, background(piece.strength), radius=3)
        canvas.text(middle, y + 16, placed.text, BODY, foreground(piece.strength), align="m")


def _framed(line: Sequence[_Placed]) -> Iterator[tuple[Outline, float, float]]:
    """Yield what is outlined on a line, and from where to where."""
    before: Outline | None = None
    start = end = 0.0
    for placed in (*line, None):
        outline = None if placed is None else placed.outline
        if before is not None and outline is not before:
            yield before, start, end
        if placed is not None:
            start = placed.x if outline is not before else start
            end = placed.x + placed.width
        before = outline
