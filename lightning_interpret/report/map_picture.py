"""Parts of a picture of maps of attention: panels in rows, each a square of cells under its label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from lightning_interpret.cards import Maps, Panel
from lightning_interpret.palette import background
from lightning_interpret.report.canvas import SCALE, Canvas, Pen
from lightning_interpret.report.frame import GREY, MARGIN, RULE, TINY
from lightning_interpret.report.parts import GAP, Part, heading, text_of

_ACROSS, _LABEL, _THIN = 4, 14, 12  # panels in a row, heights of a label and of a map of one query


def maps(found: Maps, pen: Pen, room: float) -> Iterator[Part]:
    """Yield the panels in rows, and what the strongest colour is."""
    yield heading(found.title, found.meaning, pen, room)
    side = (room - GAP * (_ACROSS - 1)) / _ACROSS
    for start in range(0, len(found.panels), _ACROSS):
        yield _panels(found.panels[start : start + _ACROSS], found.largest, side)
    yield text_of(f"white: 0 %, full colour: {found.largest} %", pen, TINY, GREY, room, 1, below=4)


def _panels(panels: Sequence[Panel], largest: int, side: float) -> Part:
    heights = [side if len(panel.weights) > 1 or len(panel.weights[0]) == 1 else _THIN for panel in panels]

    def draw(canvas: Canvas, top: float) -> None:
        for number, (panel, height) in enumerate(zip(panels, heights, strict=True)):
            left = MARGIN + number * (side + GAP)
            canvas.text(left, top + 10, panel.label, TINY, GREY)
            canvas.box(left - 0.5, top + _LABEL - 0.5, side + 1, height + 1, RULE)
            canvas.paste(left, top + _LABEL, _cells(panel, largest, round(side * SCALE), round(height * SCALE)))

    return Part(_LABEL + max(heights) + 4, draw)


def _cells(panel: Panel, largest: int, width: int, height: int) -> Image.Image:
    columns = max(map(len, panel.weights))
    cells = Image.new("RGB", (columns, len(panel.weights)), "white")
    cells.putdata(
        [
            background((row[i] or 0) / largest) if i < len(row) else (255,) * 3
            for row in panel.weights
            for i in range(columns)
        ]
    )
    return cells.resize((width, height), Image.Resampling.NEAREST)
