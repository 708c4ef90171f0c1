"""Several attributions of one image on one sheet, each under its name and over its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report.canvas import SCALE, Canvas
from lightning_interpret.report.frame import BODY, GREY, INK, MARGIN, SMALL, pen_for
from lightning_interpret.report.overlay import overlaid, plain
from lightning_interpret.report.uri import decoded
from lightning_interpret.texts import printable, signed

_SIDE, _GAP, _ABOVE, _BELOW, _ACROSS, _FINEST = 200, 16, 24, 46, 3, 56


def render(names: Sequence[str], rows: Sequence[AttributionRow], captions: Sequence[str]) -> Image.Image:
    """Return the image, and the image under the colours of each row, three abreast.

    Every panel has a scale of its own, which it states: the strongest location is in full colour.

    Args:
        names: What stands over each panel.
        rows: Rows of one image.
        captions: What stands below each panel.
    """
    first = rows[0]
    pen = pen_for(first, [*names, *captions, "Σ–…"])
    picture = decoded(first.image)
    grid = first.locations().full
    high = _SIDE * min(2.0, max(0.5, picture.height / picture.width if picture else grid[0] / grid[1]))
    lines = math.ceil((len(rows) + 1) / _ACROSS)
    width = 2 * MARGIN + _ACROSS * _SIDE + (_ACROSS - 1) * _GAP
    canvas = Canvas(width, MARGIN + lines * (_ABOVE + high + _BELOW), pen)
    size = round(_SIDE * SCALE), round(high * SCALE)

    def panel(place: int, name: str, image: Image.Image, below: Sequence[str]) -> None:
        x = MARGIN + place % _ACROSS * (_SIDE + _GAP)
        y = MARGIN + place // _ACROSS * (_ABOVE + high + _BELOW)
        canvas.text(x, y + 14, pen.clipped(printable(name), SMALL, _SIDE), SMALL, INK)
        canvas.paste(x, y + _ABOVE, image)
        for number, text in enumerate(below, 1):
            canvas.text(x, y + _ABOVE + high + BODY * number, pen.clipped(printable(text), SMALL, _SIDE), SMALL, GREY)

    panel(0, f"{first.output} of {first.target_name}", plain(picture, size, first.box), [f"= {signed(first.target)}"])
    for place, (name, row, caption) in enumerate(zip(names, rows, captions, strict=True), 1):
        shown = row.locations().pool(_FINEST)
        strongest = f"strongest location {signed(shown.scale).lstrip('+')}"
        panel(place, name, overlaid(picture, shown, size, row.box), [caption, strongest])
    return canvas.image
