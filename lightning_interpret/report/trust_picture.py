"""Methods against each other in one picture: how much more faithful than a random order, at what error and price."""

from __future__ import annotations

from PIL import Image

from lightning_interpret.cards.trust import HEADINGS
from lightning_interpret.palette import AGAINST, FOR, background
from lightning_interpret.records.trust import TrustedMethod, TrustRow
from lightning_interpret.report.canvas import Canvas, Colour, Pen
from lightning_interpret.report.fonts import ranked
from lightning_interpret.report.frame import BODY, GREY, INK, MARGIN, RULE, SMALL, TINY, TITLE
from lightning_interpret.report.parts import wrapped, written
from lightning_interpret.texts import printable

_PITCH, _TOP, _NAME, _FACTS, _WHISKER = 34, 84, 190, 250, 2
_BESIDE = ("relative_error", "seconds")
_LEADING = 16


def render(row: TrustRow, *, width: int = 860) -> Image.Image:
    """Return bars of the gain over a random order, with its standard error, and each method's error and seconds.

    The method that is recommended is in full colour, those that could not be are pale.

    Args:
        row: The comparison.
        width: Width in points, of two pixels each.
    """
    said = " ".join(row.because) or "Nothing was compared."
    pen = Pen(ranked(printable(" ".join([said, *(each.name for each in row.methods), "Σ–…±τ"]))))
    room = width - 2 * MARGIN
    reasons = wrapped(said, pen, SMALL, room, 12)
    canvas = Canvas(width, _TOP + _PITCH * len(row.methods) + 34 + _LEADING * len(reasons) + MARGIN, pen)
    title = "No method can be recommended" if row.recommended is None else f"{row.recommended} is recommended"
    canvas.text(MARGIN, 34, pen.clipped(printable(title), TITLE, room), TITLE, INK)
    below = f"gain in faithfulness over a random order, ± standard error over {row.probes} probes"
    canvas.text(MARGIN, 56, pen.clipped(below, SMALL, room), SMALL, GREY)
    left, wide = MARGIN + _NAME, room - _NAME - _FACTS
    ends = [(each.gain or 0.0) + sign * (each.gain_error or 0.0) for each in row.methods for sign in (-1, 1)]
    low, high = min(0.0, *ends, 0.0), max(0.0, *ends, 0.0)
    scale = wide / (high - low or 1.0)
    zero = left - low * scale
    for number, each in enumerate(row.methods):
        _bar(canvas, pen, each, row.recommended, zero, scale, _TOP + _PITCH * number)
    bottom = _TOP + _PITCH * len(row.methods)
    canvas.box(zero, _TOP - 8, 1, bottom - _TOP + 8, INK)
    canvas.text(zero, bottom + 14, "random order", TINY, GREY, align="m")
    written(canvas, reasons, bottom + 22, SMALL, INK)
    return canvas.image


def _bar(
    canvas: Canvas, pen: Pen, each: TrustedMethod, recommended: str | None, zero: float, scale: float, top: float
) -> None:
    name, _, options = printable(each.name).partition(":")  # of two settings of one method, what tells them apart
    canvas.text(MARGIN, top + (12 if options else 16), pen.clipped(name, BODY, _NAME - 8), BODY, INK)
    canvas.text(MARGIN, top + 24, pen.clipped(options, TINY, _NAME - 8), TINY, GREY)
    if each.gain is not None:
        start, size = min(zero, zero + each.gain * scale), max(1.0, abs(each.gain) * scale)
        canvas.box(start, top + 2, size, 18, _colour(each, recommended))
        if each.gain_error is not None:
            at, spread = zero + each.gain * scale, each.gain_error * scale
            canvas.box(at - spread, top + 10, max(1.0, 2 * spread), _WHISKER, INK)
    facts = [
        f"{HEADINGS[name][0]} {format(each.figures[name], HEADINGS[name][1])}"
        for name in _BESIDE
        if name in each.figures
    ]
    if "relative_error" not in each.figures:
        facts.insert(0, "failed" if not each.probes else "ranks only")
    shown = pen.clipped(printable(" · ".join(facts)), SMALL, _FACTS - 12)
    canvas.text(canvas.width - MARGIN, top + 16, shown, SMALL, GREY, align="r")
    canvas.box(MARGIN, top + _PITCH - 5, canvas.width - 2 * MARGIN, 1, RULE)


def _colour(each: TrustedMethod, recommended: str | None) -> Colour:
    if each.name == recommended:
        return FOR
    return background(0.35) if (each.gain or 0.0) >= 0 else AGAINST
