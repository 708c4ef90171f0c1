"""A row as a picture: what was explained, the words in their colours or the image below them, and their scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image
from tensorboard.compat.proto import summary_pb2

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.palette import background, foreground
from lightning_interpret.report import overlay
from lightning_interpret.report.canvas import Canvas, Pen
from lightning_interpret.report.frame import BODY, GREY, MARGIN, NARROWEST, SMALL, TINY, framed, pen_for
from lightning_interpret.report.words import Shade, scale, sections, shades
from lightning_interpret.texts import signed

_CELL, PITCH = 24, 42  # height of a word, and from one line of words to the next
_PAD, _GAP = 5, 3  # beside the text in a word, and between words
_LINES = 40
_NAME = 16  # height of the name of a part
_MATTERS = 0.1  # share of the largest score from which a word carries its number


@dataclass(frozen=True)
class Placed:
    """A word, or a piece of one, at its place on a line."""

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
    width = max(width, NARROWEST)
    if row.units == "location":
        return overlay.render(row, width=width)
    words = shades(row)
    parts = sections(row, words)
    pen = pen_for(row, [*(word.text for word in words), *(name for name, _ in parts)])
    lines, left_out = list[tuple[float, list[Placed]]](), list[Shade]()
    names, height = list[tuple[float, str]](), 0.0
    for name, part in parts:
        found, rest = laid_out(part, pen, width - 2 * MARGIN, max(1, _LINES - len(lines)))
        if name:
            names.append((height, pen.clipped(name, TINY, width - 2 * MARGIN)))
            height += _NAME
        lines += [(height + PITCH * number, line) for number, line in enumerate(found)]
        height += PITCH * len(found)
        left_out += rest
    height += PITCH * bool(left_out)

    def draw(canvas: Canvas, top: float) -> None:
        for y, name in names:
            canvas.text(MARGIN, top + y + 11, name, TINY, GREY)
        for y, line in lines:
            for placed in line:
                draw_word(canvas, placed, top + y)
        if left_out:
            total = signed(sum(word.score for word in left_out))
            text = f"… {len(left_out)} more words: {total}"
            canvas.text(MARGIN, top + height - PITCH + 17, text, SMALL, GREY)

    return framed(row, pen, width=width, height=height, largest=scale(row.merged()), draw=draw)


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


def laid_out(
    words: Sequence[Shade], pen: Pen, room: float, most: int = _LINES
) -> tuple[list[list[Placed]], Sequence[Shade]]:
    """Return words on at most so many lines, and the words left out."""
    lines: list[list[Placed]] = [[]]
    x = 0.0
    for number, word in enumerate(words):
        for text, score, width in _cells(word, pen, room):
            if lines[-1] and x + width > room:
                lines.append([])
                x = 0.0
            if len(lines) > most:
                return lines[:-1], words[number:]
            lines[-1].append(Placed(word, text, score, MARGIN + x, width))
            x += width + _GAP
    return lines, ()


def _cells(word: Shade, pen: Pen, room: float) -> Iterator[tuple[str, str, float]]:
    score = signed(word.score) if word.matters(_MATTERS) else ""
    for text in pen.pieces(word.text, BODY, room - 2 * _PAD):
        yield text, score, max(pen.width(text, BODY) + 2 * _PAD, pen.width(score, TINY) + _GAP)
        score = ""  # under the first piece only


def draw_word(canvas: Canvas, placed: Placed, y: float) -> None:
    """Draw a word in its colour with its score below it, on a line that starts at ``y``."""
    middle = placed.x + placed.width / 2
    if placed.word.special:
        canvas.text(middle, y + 17, placed.text, BODY, GREY, align="m")
    else:
        canvas.box(placed.x, y, placed.width, _CELL, background(placed.word.strength), radius=4)
        canvas.text(middle, y + 17, placed.text, BODY, foreground(placed.word.strength), align="m")
    canvas.text(middle, y + _CELL + 11, placed.score, TINY, GREY, align="m")
