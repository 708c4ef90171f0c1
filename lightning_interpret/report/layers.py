"""A sweep over layers as a picture: its numbers, and below them a heat map of words, or an image at each layer."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.palette import background, foreground, scale_of
from lightning_interpret.report.canvas import SCALE, Canvas, Pen
from lightning_interpret.report.frame import ALARM, GREY, INK, MARGIN, RULE, SMALL, TINY, framed, pen_for
from lightning_interpret.report.overlay import overlaid
from lightning_interpret.report.stages import stages
from lightning_interpret.report.uri import decoded
from lightning_interpret.texts import printable, signed

_WIDTH, _LINE, _SPACE = 440, 20, 12  # legible in a card of the Images tab
_COLUMNS, _BETWEEN = ("A", "T", "error", "cut", "Σ|A|/|T|"), 10  # of numbers, and the space before each
_WORDS, _LABEL = 40, 96  # words that are shown, and the width of their texts
_LEGIBLE, _WIDEST = 34, 64  # widths of a cell: from which it has room for its number, and at most
_FINEST = 28  # locations a side of a small picture
_CAPTION, _TURN = 30, 14  # below a small picture, and for a second line
_LONGEST = 200  # characters of a name that could fit


@dataclass(frozen=True)
class _Part:
    """What stands below the table: its height, the largest score (None: several) and how it is drawn."""

    height: float
    largest: float | None
    draw: Callable[[Canvas, float], None]


def render(rows: Sequence[AttributionRow]) -> Image.Image:
    """Return a picture of a sweep: how far the extraction of features has gone at each stage.

    The table has for each layer A, T, its error, whether it is a cut, and Σ|A|/|T|. Below it stand the words by the
    layers, all in one scale of colours, special tokens with them: it is to them that evidence moves. Of images there is
    a small picture a layer, each in a scale of its own.

    Args:
        rows: The rows of one example, one for each layer, in the order of the layers.
    """
    first = replace(rows[0], error=None, relative_error=None, sampling_error=None, absorbed=None, converged=None)
    room = _WIDTH - 2 * MARGIN
    pen = pen_for(first, ["–×…", *_COLUMNS, *(row.layer for row in rows), *(w.text for w in rows[0].merged())])
    table = _table(rows, pen, room)
    below = _images(rows, pen, room) if rows[0].units == "location" else _words(rows, pen, room)

    def draw(canvas: Canvas, top: float) -> None:
        table.draw(canvas, top)
        below.draw(canvas, top + table.height + _SPACE)

    height = table.height + _SPACE + below.height
    origin = f"{first.method} · {len(rows)} layers"
    return framed(first, pen, width=_WIDTH, height=height, largest=below.largest, draw=draw, origin=origin)


def _table(rows: Sequence[AttributionRow], pen: Pen, room: float) -> _Part:
    found = stages(rows)
    columns = zip(_COLUMNS, *(stage.cells()[1:] for stage in found), strict=True)
    widths = [_BETWEEN + max(pen.width(cell, SMALL) for cell in column) for column in columns]
    edges = [MARGIN + room - sum(widths[i + 1 :]) for i in range(len(widths))]

    def draw(canvas: Canvas, top: float) -> None:
        canvas.text(MARGIN, top + 14, "layer", SMALL, GREY)
        for edge, name in zip(edges, _COLUMNS, strict=True):
            canvas.text(edge, top + 14, name, SMALL, GREY, align="r")
        canvas.box(MARGIN, top + _LINE, room, 1, RULE)
        for number, stage in enumerate(found, 1):
            y = top + _LINE * number + 16
            name, *cells = stage.cells()
            shown = _tail(f"{number}  {printable(name)}", pen, room - sum(widths) - 2)
            canvas.text(MARGIN, y, shown, SMALL, INK)
            for edge, cell in zip(edges, cells, strict=True):
                canvas.text(edge, y, cell, SMALL, ALARM if cell == "no" else INK, align="r")

    return _Part(_LINE * (len(rows) + 1) + 4, None, draw)


def _tail(text: str, pen: Pen, room: float) -> str:
    """Return a numbered name without its beginning where it is too long: layers differ at their ends."""
    number, _, name = text.partition("  ")
    if pen.width(text[:_LONGEST], SMALL) <= room and len(text) <= _LONGEST:
        return text
    counts = range(1, min(len(name), _LONGEST) + 1)
    fits = bisect_right(counts, room, key=lambda count: pen.width(f"{number}  …{name[-count:]}", SMALL))
    return f"{number}  …{name[-max(1, fits) :]}"


def _words(rows: Sequence[AttributionRow], pen: Pen, room: float) -> _Part:
    shown = [(n, row.merged()) for n, row in enumerate(rows, 1) if row.tokens == rows[0].tokens]
    by_word = list(zip(*(words for _, words in shown), strict=True))
    scale = scale_of([word.score for words in by_word for word in words if math.isfinite(word.score)])
    strongest = sorted(range(len(by_word)), key=lambda i: -max(abs(word.score) for word in by_word[i]))[:_WORDS]
    width = min(_WIDEST, (room - _LABEL) / max(1, len(shown)))
    left_out = len(by_word) - len(strongest)

    def cell(canvas: Canvas, x: float, y: float, score: float) -> None:
        strength = max(-1.0, min(1.0, score / scale)) if math.isfinite(score) else 0.0
        canvas.box(x, y, width - 1, _LINE - 1, background(strength))
        if width >= _LEGIBLE and not abs(strength) < 0.1:
            canvas.text(x + width / 2, y + 13, signed(score), TINY, foreground(strength), align="m")

    def draw(canvas: Canvas, top: float) -> None:
        for column, (number, _) in enumerate(shown):
            x = MARGIN + _LABEL + width * (column + 0.5)
            canvas.text(x, top + 12, str(number), TINY, GREY, align="m")
        for line, index in enumerate(sorted(strongest), 1):
            word, y = by_word[index][0], top + _LINE * line - 2
            text = pen.clipped(printable(word.text), SMALL, _LABEL - 8)
            canvas.text(MARGIN, y + 14, text, SMALL, GREY if word.special else INK)
            for column, each in enumerate(by_word[index]):
                cell(canvas, MARGIN + _LABEL + width * column, y, each.score)
        if left_out:
            y = top + _LINE * (len(strongest) + 1) + 12
            canvas.text(MARGIN, y, f"… {left_out} more words, weaker at every layer", SMALL, GREY)

    return _Part(_LINE * (len(strongest) + 1 + bool(left_out)), scale, draw)


def _images(rows: Sequence[AttributionRow], pen: Pen, room: float) -> _Part:
    shown = [(n, row.locations().pool(_FINEST), row) for n, row in enumerate(rows, 1) if row.units == "location"]
    across = min(4, max(2, len(shown)))
    picture, side = decoded(rows[0].image), (room - 8 * (across - 1)) / across
    full = shown[0][1].full
    high = side * min(2.0, max(0.5, picture.height / picture.width if picture else full[0] / full[1]))
    size = round(side * SCALE), round(high * SCALE)
    below = _CAPTION + _TURN * any(grid.outside for _, grid, _ in shown)

    def draw(canvas: Canvas, top: float) -> None:
        for place, (number, grid, row) in enumerate(shown):
            x, y = MARGIN + place % across * (side + 8), top + place // across * (high + below)
            canvas.paste(x, y, overlaid(picture, grid, size, row.box))
            said = [f"{number}: largest {signed(grid.scale).lstrip('+')}"]
            said += [f"outside {signed(sum(grid.outside))}"] if grid.outside else []
            for line, text in enumerate(said, 1):
                canvas.text(x, y + high + _TURN * line, pen.clipped(text, TINY, side), TINY, GREY)

    return _Part(math.ceil(len(shown) / across) * (high + below), None, draw)
