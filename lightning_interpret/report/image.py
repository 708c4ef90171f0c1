"""A row as a picture: what was explained, the words in their colours, and the scale of the colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

from PIL import Image
from tensorboard.compat.proto import summary_pb2

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.palette import AGAINST, background, foreground
from lightning_interpret.report.canvas import SCALE, Canvas, Colour, Pen
from lightning_interpret.report.fonts import ranked
from lightning_interpret.report.words import Shade, printable, scale, shades, signed

_MARGIN, _NARROWEST = 16, 240
_TITLE, _BODY, _SMALL, _TINY = 18, 15, 12, 10  # sizes of type
_INK, _GREY, _RULE, _ALARM = (28, 30, 33), (108, 112, 118), (224, 226, 229), (176, 32, 37)
_HEADER, _FACT, _LEGEND = 84, 20, 64  # heights: without facts, of a line of facts, of the scale
_CELL, _PITCH = 24, 42  # height of a word, and from one line of words to the next
_PAD, _GAP = 5, 3  # beside the text in a word, and between words
_LINES = 40
_MATTERS = 0.1  # share of the largest score from which a word carries its number


@dataclass(frozen=True)
class _Fact:
    text: str
    colour: Colour
    x: float


@dataclass(frozen=True)
class _Placed:
    word: Shade
    text: str
    score: str
    x: float
    width: float


def render(row: AttributionRow, *, width: int = 440) -> Image.Image:
    """Return a picture of a row, at most 40 lines of words; the words left out are counted.

    Args:
        row: The row to show.
        width: Width in points, of two pixels each; at least 240. The default is legible in a card of the Images tab.
    """
    width = max(width, _NARROWEST)
    words = shades(row)
    pen = Pen(ranked(" ".join([row.summary(), row.layer, *(word.text for word in words)])))
    facts = _flowed(_facts(row), pen, width - 2 * _MARGIN)
    lines, left_out = _laid_out(words, pen, width - 2 * _MARGIN)
    top = _HEADER + _FACT * len(facts)
    bottom = top + _PITCH * (len(lines) + bool(left_out))
    canvas = Canvas(width, bottom + _LEGEND, pen)
    _header(canvas, pen, row, facts)
    for number, line in enumerate(lines):
        for placed in line:
            _word(canvas, placed, top + _PITCH * number)
    if left_out:
        total = signed(sum(word.score for word in left_out))
        text = f"… {len(left_out)} more words: {total}"
        canvas.text(_MARGIN, bottom - _PITCH + 17, text, _SMALL, _GREY)
    _legend(canvas, pen, row, bottom)
    return canvas.image


def summary(image: Image.Image, tag: str) -> summary_pb2.Summary:
    """Return a picture as TensorBoard's image summary.

    Torch's ``add_image`` packs harder, which takes three times as long and makes a tenth less of it.
    """
    packed = BytesIO()
    image.save(packed, "PNG", compress_level=1)
    picture = summary_pb2.Summary.Image(
        height=image.height, width=image.width, colorspace=3, encoded_image_string=packed.getvalue()
    )
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, image=picture)])


def _laid_out(words: Sequence[Shade], pen: Pen, room: float) -> tuple[list[list[_Placed]], Sequence[Shade]]:
    lines: list[list[_Placed]] = [[]]
    x = 0.0
    for number, word in enumerate(words):
        for text, score, width in _cells(word, pen, room):
            if lines[-1] and x + width > room:
                lines.append([])
                x = 0.0
            if len(lines) > _LINES:
                return lines[:-1], words[number:]
            lines[-1].append(_Placed(word, text, score, _MARGIN + x, width))
            x += width + _GAP
    return lines, ()


def _cells(word: Shade, pen: Pen, room: float) -> Iterator[tuple[str, str, float]]:
    score = signed(word.score) if word.matters(_MATTERS) else ""
    for text in pen.pieces(word.text, _BODY, room - 2 * _PAD):
        yield text, score, max(pen.width(text, _BODY) + 2 * _PAD, pen.width(score, _TINY) + _GAP)
        score = ""  # under the first piece only


def _word(canvas: Canvas, placed: _Placed, y: float) -> None:
    middle = placed.x + placed.width / 2
    if placed.word.special:
        canvas.text(middle, y + 17, placed.text, _BODY, _GREY, align="m")
    else:
        canvas.box(placed.x, y, placed.width, _CELL, background(placed.word.strength), radius=4)
        canvas.text(middle, y + 17, placed.text, _BODY, foreground(placed.word.strength), align="m")
    canvas.text(middle, y + _CELL + 11, placed.score, _TINY, _GREY, align="m")


def _header(canvas: Canvas, pen: Pen, row: AttributionRow, facts: Sequence[Sequence[_Fact]]) -> None:
    value = f" = {row.target:+.4g}"
    name = f"{row.output} of {printable(row.target_name)}"
    title = pen.clipped(name, _TITLE, canvas.width - 2 * _MARGIN - pen.width(value, _TITLE)) + value
    origin = pen.clipped(printable(f"{row.method} · {row.layer}"), _SMALL, canvas.width - 2 * _MARGIN)
    canvas.text(_MARGIN, 30, origin, _SMALL, _GREY)
    canvas.text(_MARGIN, 53, title, _TITLE, _INK)
    for number, line in enumerate(facts):
        for fact in line:
            canvas.text(fact.x, 75 + _FACT * number, fact.text, _SMALL, fact.colour)
    canvas.box(_MARGIN, 68 + _FACT * len(facts), canvas.width - 2 * _MARGIN, 1, _RULE)


def _facts(row: AttributionRow) -> Iterator[tuple[str, Colour]]:
    if row.prediction is not None:
        yield f"predicted {row.prediction}", _INK
    if row.gold is not None:
        right = row.gold == row.prediction
        yield ("gold is the same", _GREY) if right else (f"wrong: gold is {row.gold}", _ALARM)
    if row.baseline_target is not None:
        yield f"baseline {row.baseline} = {row.baseline_target:+.4g}", _GREY
    if row.error is not None and row.relative_error is not None:
        yield f"error {row.error:+.2g} ({row.relative_error:.2%})", _GREY
    if row.converged is False and row.partial_error is not None:
        yield f"partial error {row.partial_error:.2%}", _GREY
    if row.converged is False:
        yield "not converged", _ALARM


def _flowed(facts: Iterable[tuple[str, Colour]], pen: Pen, room: float) -> list[list[_Fact]]:
    lines: list[list[_Fact]] = []
    x = room
    for text, colour in facts:
        shown = pen.clipped(printable(text), _SMALL, room)
        width = pen.width(shown, _SMALL)
        if x + width > room:
            lines.append([])
            x = 0.0
        lines[-1].append(_Fact(shown, colour, _MARGIN + x))
        x += width + 14
    return lines


def _legend(canvas: Canvas, pen: Pen, row: AttributionRow, top: float) -> None:
    largest = scale(row.merged())
    bar = min(180.0, (canvas.width - 2 * _MARGIN) / 3)
    left = _MARGIN + pen.width("against", _SMALL) + 8
    canvas.text(_MARGIN, top + 19, "against", _SMALL, AGAINST)
    canvas.paste(left, top + 9, _bar(round(bar * SCALE), 12 * SCALE))
    for share, score in ((0.0, signed(-largest)), (0.5, "0"), (1.0, signed(largest))):
        canvas.text(left + bar * share, top + 34, score, _TINY, _GREY, align="m")
    start = left + bar + 8
    name = pen.clipped(f"for {printable(row.target_name)}", _SMALL, canvas.width - _MARGIN - start)
    canvas.text(start, top + 19, name, _SMALL, background(1.0))


@lru_cache(maxsize=8)
def _bar(width: int, height: int) -> Image.Image:
    """Return the colours from against to for, of a size in pixels: the same in every picture."""
    row = Image.new("RGB", (width, 1))
    row.putdata([background(2 * step / max(1, width - 1) - 1) for step in range(width)])
    return row.resize((width, height))
