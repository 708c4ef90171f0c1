import io
import math

import pytest
from PIL import Image
from records import NASTY, arbitrary_row, row

from lightning_interpret.palette import AGAINST, FOR, background
from lightning_interpret.report import frame, image


def _colours(picture):
    return {colour for _, colour in picture.getcolors(1 << 24)}


def test_words_are_painted_in_their_palette_colours():
    def large(picture, colour):  # a word, not the legend
        return {c: n for n, c in picture.getcolors(1 << 24)}.get(colour, 0) > 1000

    both = image.render(row("good bad", scores=[1.0, -0.5]))
    assert large(both, FOR)
    assert large(both, background(-0.5))
    assert not large(both, AGAINST)


def test_alarm_is_seen_if_and_only_if_something_is_wrong():
    assert frame.ALARM not in _colours(image.render(row()))
    assert frame.ALARM in _colours(image.render(row(gold="negative")))
    assert frame.ALARM in _colours(image.render(row(converged=False)))


@pytest.mark.parametrize("width", [10, 500])
@pytest.mark.parametrize("words", [NASTY, [], ["x"], ["0"] * 400])
def test_nothing_is_drawn_beyond_the_margins(words, width):
    picture = image.render(row(words, target_name="label " * 40, gold="gold " * 100, layer="l" * 400), width=width)
    assert picture.width == 2 * max(width, 240)
    side = 2 * frame.MARGIN - 4  # antialiasing, and glyphs that hang over
    for left in (0, picture.width - side):
        assert _colours(picture.crop((left, 0, left + side, picture.height))) == {(255, 255, 255)}


def test_height_is_bounded_and_what_is_left_out_is_counted():
    tallest = image.render(row(["word"] * 3000)).height
    assert image.render(row(["word"] * 30_000)).height == tallest
    assert image.render(row(["w" * 100_000])).height <= tallest
    lines, left_out = image.laid_out(image.shades(row(["word"] * 3000)), image.Pen(("",)), 600)
    assert len(lines) == 40
    assert sum(map(len, lines)) + len(left_out) == 3002


@pytest.mark.parametrize("seed", range(10))
def test_any_row_is_drawn(seed):
    assert image.render(arbitrary_row(seed)).mode == "RGB"


def test_numbers_that_are_not_finite_are_drawn():
    picture = image.render(row("a b c", scores=[math.nan, math.inf, 0.0], target=math.nan, error=math.inf))
    assert picture.height > 0


def test_the_summary_holds_the_pixels():
    picture = image.render(row())
    (value,) = image.summary(picture, "a/b").value
    assert value.tag == "a/b"
    assert (value.image.height, value.image.width) == (picture.height, picture.width)
    decoded = Image.open(io.BytesIO(value.image.encoded_image_string))
    assert decoded.mode == "RGB"
    assert decoded.tobytes() == picture.tobytes()
