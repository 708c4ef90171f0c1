"""What every picture of a row has around it: what was explained, and the scale of the colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.palette import AGAINST, background
from lightning_interpret.report.canvas import SCALE, Canvas, Colour, Pen
from lightning_interpret.report.fonts import ranked
from lightning_interpret.texts import printable, signed

MARGIN, NARROWEST = 16, 240
TITLE, BODY, SMALL, TINY = 18, 15, 12, 10  # sizes of type
INK, GREY, RULE, ALARM = (28, 30, 33), (108, 112, 118), (224, 226, 229), (176, 32, 37)
FACT = 20  # height of a line of facts
_HEADER, _LEGEND = 84, 64  # heights: without facts, of the scale


@dataclass(frozen=True)
class Fact:
    """A short text at its place on a line."""

    text: str
    colour: Colour
    x: float


def pen_for(row: AttributionRow, texts: Iterable[str] = ()) -> Pen:
    """Return the fonts for a row's header and legend, and for the texts between them."""
    return Pen(ranked(" ".join([row.summary(), row.layer, *texts])))


def framed(
    row: AttributionRow,
    pen: Pen,
    *,
    width: float,
    height: float,
    largest: float | None,
    draw: Callable[[Canvas, float], None],
    origin: str | None = None,
) -> Image.Image:
    """Return a picture with a row's header and legend around what ``draw(canvas, top)`` draws.

    Args:
        row: The row that the picture is of.
        pen: What texts are drawn with.
        width: Width in points.
        height: Height of what is drawn.
        largest: The score of the strongest colour; ``None`` where each part of the picture has one of its own.
        draw: Draws on a canvas from a height on.
        origin: The first line; by default method and layer.
    """
    given = flowed(_facts(row), pen, width - 2 * MARGIN)
    top = _HEADER + FACT * len(given)
    canvas = Canvas(width, top + height + _LEGEND, pen)
    _header(canvas, pen, row, given, origin or f"{row.method} · {row.layer}")
    draw(canvas, top)
    _legend(canvas, pen, row, top + height, largest)
    return canvas.image


def write(canvas: Canvas, lines: Sequence[Sequence[Fact]], y: float) -> None:
    """Draw lines of facts, the first with its base line at ``y``."""
    for number, line in enumerate(lines):
        for fact in line:
            canvas.text(fact.x, y + FACT * number, fact.text, SMALL, fact.colour)


def _header(canvas: Canvas, pen: Pen, row: AttributionRow, facts: Sequence[Sequence[Fact]], origin: str) -> None:
    value = f" = {row.target:+.4g}"
    name = f"{row.output} of {printable(row.target_name)}"
    title = pen.clipped(name, TITLE, canvas.width - 2 * MARGIN - pen.width(value, TITLE)) + value
    canvas.text(MARGIN, 30, pen.clipped(printable(origin), SMALL, canvas.width - 2 * MARGIN), SMALL, GREY)
    canvas.text(MARGIN, 53, title, TITLE, INK)
    write(canvas, facts, 75)
    canvas.box(MARGIN, 68 + FACT * len(facts), canvas.width - 2 * MARGIN, 1, RULE)


def _facts(row: AttributionRow) -> Iterator[tuple[str, Colour]]:
    if row.prediction is not None:
        yield f"predicted {row.prediction}", INK
    if row.gold is not None:
        right = row.gold == row.prediction
        yield ("gold is the same", GREY) if right else (f"wrong: gold is {row.gold}", ALARM)
    if row.baseline_target is not None:
        yield f"baseline {row.baseline} = {row.baseline_target:+.4g}", GREY
    if row.baseline_entropy is not None:
        yield f"baseline entropy {row.baseline_entropy:.0%}", GREY
    if row.error is not None and row.relative_error is not None:
        yield f"error {row.error:+.2g} ({row.relative_error:.2%})", GREY
    if row.sampling_error is not None:
        yield f"sampling error {row.sampling_error:.2%}", GREY
    for name, amount in (row.absorbed or {}).items():
        yield f"absorbed by {name} {signed(amount)}", GREY
    if row.converged is False and row.partial_error is not None:
        yield f"partial error {row.partial_error:.2%}", GREY
    if row.converged is False:
        yield "not converged", ALARM


def flowed(facts: Iterable[tuple[str, Colour]], pen: Pen, room: float) -> list[list[Fact]]:
    """Return facts on as few lines as they fit."""
    lines: list[list[Fact]] = []
    x = room
    for text, colour in facts:
        shown = pen.clipped(printable(text), SMALL, room)
        width = pen.width(shown, SMALL)
        if x + width > room:
            lines.append([])
            x = 0.0
        lines[-1].append(Fact(shown, colour, MARGIN + x))
        x += width + 14
    return lines


def _legend(canvas: Canvas, pen: Pen, row: AttributionRow, top: float, largest: float | None) -> None:
    bar = min(180.0, (canvas.width - 2 * MARGIN) / 3)
    left = MARGIN + pen.width("against", SMALL) + 8
    canvas.text(MARGIN, top + 19, "against", SMALL, AGAINST)
    canvas.paste(left, top + 9, _bar(round(bar * SCALE), 12 * SCALE))
    ends = ("largest", "largest") if largest is None else (signed(-largest), signed(largest))
    for share, score in ((0.0, ends[0]), (0.5, "0"), (1.0, ends[1])):
        canvas.text(left + bar * share, top + 34, score, TINY, GREY, align="m")
    start = left + bar + 8
    name = pen.clipped(f"for {printable(row.target_name)}", SMALL, canvas.width - MARGIN - start)
    canvas.text(start, top + 19, name, SMALL, background(1.0))


@lru_cache(maxsize=8)
def _bar(width: int, height: int) -> Image.Image:
    """Return the colours from against to for, of a size in pixels: the same in every picture."""
    row = Image.new("RGB", (width, 1))
    row.putdata([background(2 * step / max(1, width - 1) - 1) for step in range(width)])
    return row.resize((width, height))
