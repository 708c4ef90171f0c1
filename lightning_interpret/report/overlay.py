"""An attribution of an image: the image, and the image in grey under the colours of its locations."""

from __future__ import annotations

from PIL import Image, ImageDraw

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.locations import Grid
from lightning_interpret.palette import AGAINST, FOR
from lightning_interpret.report.canvas import SCALE, Canvas
from lightning_interpret.report.frame import FACT, GREY, MARGIN, flowed, framed, pen_for, write
from lightning_interpret.report.uri import decoded
from lightning_interpret.texts import signed

_GAP, _SPACE = 8, 14  # between the two pictures, and below them
_MOST = 0.75  # opacity of the strongest location: the image is still seen below it
_FINEST = 56  # locations a side: a pixel's score alone is not seen
_EMPTY = (236, 238, 240)
Box = tuple[float, float, float, float]


def render(row: AttributionRow, *, width: float) -> Image.Image:
    """Return a picture of a row of an image: left as it is, right in grey under the signed scores.

    A colour's strength is its share of the largest score of a location; grids finer than 56 are summed up to it.

    Args:
        row: The row to show.
        width: Width in points.
    """
    grid, picture = row.locations().pool(_FINEST), decoded(row.image)
    room = width - 2 * MARGIN
    side = (room - _GAP) / 2
    high = side * min(2.0, max(0.5, picture.height / picture.width if picture else grid.full[0] / grid.full[1]))
    said = [*grid.said(), f"strength: share of the largest location, {signed(grid.scale).lstrip('+')}"]
    said += [] if picture else ["the record has no image"]
    pen = pen_for(row, said)
    notes = flowed([(text, GREY) for text in said], pen, room)

    def draw(canvas: Canvas, top: float) -> None:
        size = round(side * SCALE), round(high * SCALE)
        for x, shown in (
            (MARGIN, plain(picture, size, row.box)),
            (MARGIN + side + _GAP, overlaid(picture, grid, size, row.box)),
        ):
            canvas.paste(x, top, shown)
        write(canvas, notes, top + high + 18)

    height = high + _SPACE + FACT * len(notes)
    return framed(row, pen, width=width, height=height, largest=grid.scale, draw=draw)


def plain(picture: Image.Image | None, size: tuple[int, int], box: Box | None = None) -> Image.Image:
    """Return the image at a size in pixels, with its box; an empty field where there is none."""
    shown = Image.new("RGB", size, _EMPTY) if picture is None else picture.resize(size, Image.Resampling.BILINEAR)
    return _boxed(shown, box)


def overlaid(picture: Image.Image | None, grid: Grid, size: tuple[int, int], box: Box | None = None) -> Image.Image:
    """Return the image in grey under the colours of a grid, at a size in pixels.

    The locations keep their edges: between them nothing was measured.
    """
    shown = plain(picture, size).convert("L").convert("RGB")
    for colour, sign in ((FOR, 1), (AGAINST, -1)):
        shares = [round(255 * _MOST * max(0.0, sign * strength)) for strength in grid.strengths]
        shown.paste(colour, (0, 0), _mask(shares, grid, size))
    return _boxed(shown, box)


def _mask(shares: list[int], grid: Grid, size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", (grid.shape[1], grid.shape[0]))
    mask.putdata(shares)
    high, wide = grid.pooled
    whole = mask.resize((grid.shape[1] * wide, grid.shape[0] * high), Image.Resampling.NEAREST)
    return whole.crop((0, 0, grid.full[1], grid.full[0])).resize(size, Image.Resampling.NEAREST)


def _boxed(shown: Image.Image, box: Box | None) -> Image.Image:
    if box is not None:
        wide, high = shown.width - 1, shown.height - 1
        x0, x1 = sorted(min(1.0, max(0.0, x)) * wide for x in (box[0], box[2]))
        y0, y1 = sorted(min(1.0, max(0.0, y)) * high for y in (box[1], box[3]))
        draw = ImageDraw.Draw(shown)
        draw.rectangle((x0, y0, x1, y1), outline="white", width=5)
        draw.rectangle((x0 + 1, y0 + 1, max(x0 + 1, x1 - 1), max(y0 + 1, y1 - 1)), outline="black", width=3)
    return shown
