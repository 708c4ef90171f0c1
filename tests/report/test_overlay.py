"""Rows of images, in every report."""

import io
import math
from dataclasses import replace

import pytest
from PIL import Image
from records import image_row, photograph
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.locations import Grid
from lightning_interpret.palette import AGAINST, FOR
from lightning_interpret.report import image, markdown, overlay, terminal
from lightning_interpret.report.uri import decoded, encoded

ODD = {
    "no image": image_row(picture=None),
    "broken image": image_row(picture="data:image/png;base64,AAAA"),
    "an address": image_row(picture="https://example.org/a.png"),
    "no special": image_row(before=0, special=()),
    "zeros": image_row(scores=[0.0] * 12),
    "not finite": image_row(scores=[math.nan, math.inf, *[1.0] * 10]),
    "pixels": image_row((224, 224), before=0),
    "one": image_row((1, 1), before=2, after=3),
    "narrow": image_row((1, 40)),
    "box": image_row(box=(0.2, 0.1, 0.5, 0.9)),
    "box outside": image_row(box=(-0.2, 0.9, 1.5, 0.3)),
    "no grid": image_row(grid=(1, 12)),
}
odd = pytest.mark.parametrize("name", ODD)


def _column(picture, x):
    return [picture.getpixel((x, y)) for y in range(picture.height)]


@odd
def test_every_report_shows_any_image(name):
    sample = ODD[name]
    assert image.render(sample).width == 880
    assert markdown_to_safe_html(markdown.render(sample)).count("<table>") == 2
    for colour in (True, False):
        assert "row  column" in terminal.render(sample, colour=colour)
    assert "locations" in str(sample)
    assert "<svg" in sample._repr_html_()


def test_locations_have_the_colours_of_their_sign_where_they_lie():
    grid = Grid.of([1.0, 0.0, 0.0, -0.5], (), (2, 2))
    shown = overlay.overlaid(Image.new("RGB", (10, 10), "white"), grid, (100, 60))
    blue, none, white, orange = (shown.getpixel(at) for at in ((25, 15), (75, 15), (25, 45), (75, 45)))
    assert (none, white) == ((255, 255, 255), (255, 255, 255))
    assert blue[2] - blue[0] > 100
    assert orange[0] - orange[2] > 50
    assert all(abs(c - (255 + 3 * f) / 4) < 3 for c, f in zip(blue, FOR, strict=True))  # opacity 3/4
    assert all(abs(c - (255 * 5 + 3 * a) / 8) < 3 for c, a in zip(orange, AGAINST, strict=True))
    assert shown.getpixel((49, 15)) == blue  # an edge is an edge
    assert shown.getpixel((51, 15)) == white


def test_the_image_is_in_colour_on_the_left_and_grey_on_the_right():
    sample = image_row(scores=[0.0] * 12)
    picture = image.render(sample)
    saturated = [max(p) - min(p) for p in (picture.getpixel((x, 320)) for x in (130, 130 + 416))]
    assert saturated[0] > 30
    assert saturated[1] == 0


def test_a_box_is_drawn_where_it_lies():
    shown = overlay.plain(Image.new("RGB", (9, 9), "red"), (101, 101), (0.5, 0.0, 1.0, 0.5))
    inside = {(x, y) for x in range(101) for y in range(101) if shown.getpixel((x, y)) == (0, 0, 0)}
    assert min(x for x, _ in inside) == 51
    assert max(y for _, y in inside) == 49
    assert shown.getpixel((25, 75)) == (255, 0, 0)


def test_pooling_keeps_the_sums_and_where_they_lie():
    scores = [float(i) for i in range(5 * 7)]
    grid = Grid.of([9.0, *scores], (True, *[False] * 35), (5, 7)).pool(3)
    assert (grid.shape, grid.pooled, grid.full, grid.outside) == ((3, 3), (2, 3), (5, 7), (9.0,))
    assert sum(grid.scores) == sum(scores)
    assert grid.scores[4] == sum(scores[7 * y + x] for y in (2, 3) for x in (3, 4, 5))
    assert grid.edges(4) == (3 / 7, 2 / 5, 6 / 7, 4 / 5)
    assert grid.edges(8) == (6 / 7, 4 / 5, 1.0, 1.0)
    again = Grid.of(scores, (), (5, 7)).pool(4).pool(2)
    assert (again.pooled, sum(again.scores), again.edges(3)[2:]) == ((4, 4), sum(scores), (1.0, 1.0))


def test_the_picture_of_a_pooled_grid_lies_where_the_grid_does():
    scores = [0.0] * 25
    scores[4] = 1.0  # upper right, alone in its pooled location
    shown = overlay.overlaid(None, Grid.of(scores, (), (5, 5)).pool(3), (100, 100))
    blue = [x for x in range(100) if shown.getpixel((x, 5))[0] < 150]
    assert (min(blue), max(blue)) == (80, 99)


def test_a_grid_without_a_score_for_each_location_is_refused():
    with pytest.raises(ValueError, match=r"`grid=\(2, 2\)` has 4 locations, but 3 have a score"):
        Grid.of([1.0, 2.0, 3.0], (), (2, 2))


def test_the_strongest_locations_are_listed_by_row_and_column():
    scores = [0.0] * 12
    scores[6], scores[1] = -3.0, 1.0
    sample = image_row(scores=scores, before=2)
    assert [(at.row, at.column, at.score) for at in sample.locations().strongest(2)] == [(2, 3, -3.0), (1, 2, 1.0)]
    text = terminal.render(sample, colour=False)
    assert "3 × 4 locations; outside the grid (2 units): +1\n" in text
    assert text.split("\n")[4].split() == ["2", "3", "-3", "60.0%"]
    assert "| 2 | 3 | -3 | 60.0% | 🟧🟧🟧 |" in markdown.render(sample)
    assert "(2, 3) -3" in str(sample)
    assert "row 2, column 3: -3" in sample._repr_html_()


def test_what_the_table_of_locations_leaves_out_is_summed_up():
    text = markdown.render(image_row((10, 10), [1.0] * 100))
    assert "80 more locations add up to +80." in text


def test_what_was_absorbed_is_said_in_every_report():
    sample = image_row(absorbed={"bias": 0.125})
    assert "absorbed: bias +0.12" in terminal.render(sample, colour=False)
    assert "absorbed" in markdown.render(sample)
    assert image.render(sample).tobytes() != image.render(replace(sample, absorbed=None)).tobytes()


def test_html_takes_no_address_and_no_markup():
    html = image_row(picture='https://e.org/"><script>', target_name="<script>")._repr_html_()
    assert "https" not in html
    assert "<script>" not in html


def test_pictures_come_back_from_their_uris():
    picture = photograph()
    small = decoded(encoded(picture, 80))
    assert small.size == (80, 60)
    packed = io.BytesIO()
    picture.save(packed, "PNG")
    assert decoded(None) is None
    assert decoded("data:text/html;base64,AAAA") is None
