"""A sheet to draw on in points, with text that fits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

from lightning_interpret.report.fonts import fit

SCALE = 2  # pixels a point: sharp on the screens that people have
Colour = tuple[int, int, int]
_LONGEST = 400  # characters that could fit on a line, so that a text of any length is measured in bounded time


@dataclass(frozen=True)
class Pen:
    """Fonts in order of preference, to measure texts in points before there is a sheet."""

    fonts: tuple[str, ...]

    def width(self, text: str, size: int) -> float:
        """Return the width of a text."""
        shown, font = fit(text, size * SCALE, self.fonts)
        return font.getlength(shown) / SCALE

    def pieces(self, text: str, size: int, room: float) -> Iterator[str]:
        """Yield the text in pieces, each as long as the room allows and at least one character."""
        while text:
            count = max(1, self._count(text, size, room))
            yield text[:count]
            text = text[count:]

    def clipped(self, text: str, size: int, room: float) -> str:
        """Return the text, its end replaced by an ellipsis if it is wider than the room."""
        if self._count(text, size, room) == len(text):
            return text
        return text[: self._count(text, size, room - self.width("…", size))] + "…"

    def _count(self, text: str, size: int, room: float) -> int:
        """Return how many characters fit."""
        if len(text) <= _LONGEST and self.width(text, size) <= room:
            return len(text)
        counts = range(1, min(len(text), _LONGEST) + 1)
        return bisect_right(counts, room, key=lambda count: self.width(text[:count], size))


class Canvas:
    """A white sheet.

    Args:
        width: Width in points.
        height: Height in points.
        pen: What texts are drawn with.
    """

    def __init__(self, width: float, height: float, pen: Pen) -> None:
        self.width = width
        self.image = Image.new("RGB", (round(width * SCALE), round(height * SCALE)), "white")
        self._draw = ImageDraw.Draw(self.image)
        self._pen = pen

    def text(
        self, x: float, y: float, text: str, size: int, colour: Colour, *, align: str = "l", bold: bool = False
    ) -> float:
        """Draw a text on a base line.

        Args:
            x: Where it starts, has its middle or ends, by ``align``.
            y: Its base line.
            text: The text.
            size: Size of the type.
            colour: Colour of the type.
            align: ``"l"``, ``"m"`` or ``"r"``.
            bold: Whether its strokes are thicker: of few fonts there is a bold face on every machine.

        Returns:
            The width of the text.
        """
        shown, font = fit(text, size * SCALE, self._pen.fonts)
        place, stroke = (x * SCALE, y * SCALE), 1 if bold else 0
        self._draw.text(place, shown, fill=colour, font=font, anchor=f"{align}s", stroke_width=stroke)
        return self._pen.width(text, size)

    def upright(self, x: float, y: float, text: str, size: int, colour: Colour) -> None:
        """Draw a text that is read from below, its end at a height ``y`` and its base line to the right of ``x``."""
        shown, font = fit(text, size * SCALE, self._pen.fonts)
        long = max(1, round(font.getlength(shown)) + 2)
        high = round(size * SCALE * 1.5)
        lying = Image.new("L", (long, high))
        ImageDraw.Draw(lying).text((0, round(high * 0.75)), shown, fill=255, font=font, anchor="ls")
        standing = lying.rotate(90, expand=True)
        self.image.paste(colour, (round(x * SCALE) - high // 2, round(y * SCALE) - long), standing)

    def frame(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Draw the outline of a rectangle with rounded corners."""
        corners = (x * SCALE, y * SCALE, (x + width) * SCALE - 1, (y + height) * SCALE - 1)
        self._draw.rounded_rectangle(corners, radius=4 * SCALE, outline=colour, width=SCALE)

    def paste(self, x: float, y: float, image: Image.Image) -> None:
        """Put a picture, of its own size in pixels, with its upper left corner at a place."""
        self.image.paste(image, (round(x * SCALE), round(y * SCALE)))

    def box(self, x: float, y: float, width: float, height: float, colour: Colour, *, radius: float = 0) -> None:
        """Draw a filled rectangle, its corners rounded by ``radius``."""
        corners = (x * SCALE, y * SCALE, (x + width) * SCALE - 1, (y + height) * SCALE - 1)
        self._draw.rounded_rectangle(corners, radius=radius * SCALE, fill=colour)
