import random

import pytest
from records import NASTY, arbitrary_text

from lightning_interpret.report.canvas import SCALE, Canvas, Pen

_PEN = Pen(("",))


@pytest.mark.parametrize("text", ["iii WWW " * 40, "w" * 1000, *NASTY])
@pytest.mark.parametrize("room", [80])
def test_pieces_fit_and_make_the_text(text, room):
    pieces = list(_PEN.pieces(text, 15, room))
    assert "".join(pieces) == text
    assert all(_PEN.width(piece, 15) <= room or len(piece) == 1 for piece in pieces)


@pytest.mark.parametrize("seed", range(10))
def test_a_clipped_text_fits_and_is_a_beginning(seed):
    text = arbitrary_text(random.Random(seed), 200)
    clipped = _PEN.clipped(text, 12, 150)
    assert _PEN.width(clipped, 12) <= 150
    assert clipped == text or (clipped.endswith("…") and text.startswith(clipped[:-1]))


def test_a_clipped_text_is_as_long_as_the_room_allows():
    clipped = _PEN.clipped("w" * 1000, 12, 150)
    assert _PEN.width("w" + clipped, 12) > 150


def test_points_are_scaled_to_pixels():
    canvas = Canvas(30, 20, _PEN)
    canvas.box(10, 5, 4, 3, (1, 2, 3))
    painted = [(x, y) for x in range(60) for y in range(40) if canvas.image.getpixel((x, y)) == (1, 2, 3)]
    assert canvas.image.size == (30 * SCALE, 20 * SCALE)
    assert (min(painted), max(painted)) == ((20, 10), (27, 15))
