"""Attributions of images in the Interpret tab, in a real browser inside a real TensorBoard."""

import math
import re

import boards
import pytest
import tab
from records import image_row

pytestmark = boards.needs_browser

RUN = "run"
ODD = (
    {"image": "https://example.org/a.png"},
    {"grid": [9, 9]},
    {"scores": [None] * 13},
    {"image": "data:image/png;base64,AAAA"},
)
PIXEL = "([x, y]) => [...document.querySelector('canvas').getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"


def hill(high, wide, size=1.0):
    """Scores that are for at the left and against at the upper right."""
    spots = ((0.55, 0.3, 0.4), (0.15, 0.8, -0.25))
    return [
        size * sum(s * math.exp(-40 * ((y / high - at) ** 2 + (x / wide - to) ** 2)) for at, to, s in spots)
        for y in range(high)
        for x in range(wide)
    ]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with boards.Events(folder / RUN) as events:
        for step in (10, 20):
            facts = {"box": (0.1, 0.15, 0.5, 0.8), "absorbed": {"bias": 0.125}, "gold": "negative", "example_id": 3}
            events.row(image_row((14, 14), hill(14, 14, step), **facts), probe=0, step=step)
        events.row(image_row((224, 224), hill(224, 224), before=0), probe=1, step=10)
        events.row(image_row((3, 4), picture=None), probe=2, step=10)
        for probe, change in enumerate(ODD):
            events.text(f"interpret/odd/probe_{probe}", 10, boards.payload([image_row().to_dict() | change]))
    with boards.served(folder, "--reload_interval", "1") as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with boards.browser() as chromium:
        yield chromium


@pytest.fixture
def opened(chromium, address):
    def opened(probe=0, name="saliency", **options):
        return tab.opened(chromium, address, tab.hash_of(f"interpret/{name}/probe_{probe}", RUN), **options)

    return opened


def drawn(frame, what="image"):
    frame.wait_for_selector(f"canvas[data-drawn^='{what}']")


def test_the_image_stands_beside_the_colours_of_its_locations(opened):
    with opened() as (_, frame):
        drawn(frame)
        size = frame.evaluate("(c => [c.width, c.height])(document.querySelector('canvas'))")
        assert size == [720, 540]
        assert frame.evaluate("document.querySelector('.pane img').naturalWidth") == 112
        blue, orange, grey = (
            frame.evaluate(PIXEL, [round(x * 720), round(y * 540)]) for x, y in ((0.32, 0.6), (0.82, 0.19), (0.6, 0.96))
        )
        assert blue[2] > blue[0] + 60
        assert orange[0] > orange[2] + 40
        assert max(grey) - min(grey) < 12
        assert frame.locator(".pane .box").count() == 2
        legend = frame.inner_text(".legend").split()
        assert (legend[1], legend[-2:]) == ("against", ["positive", "+7.79"])


def test_a_location_says_its_row_column_and_score_under_the_pointer(opened):
    with opened() as (page, frame):
        drawn(frame)
        box = frame.locator("canvas").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 4.5 / 14, box["y"] + box["height"] * 7.5 / 14)
        assert re.search(r"row 8, column 5\s*\+7\.18", frame.inner_text(".tip"))
        assert " %" in frame.inner_text(".tip")
        cursor = frame.locator(".cursor").bounding_box()
        assert cursor["x"] == pytest.approx(box["x"] + box["width"] * 4 / 14, abs=2)
        page.mouse.move(box["x"] - 20, box["y"] - 20)
        assert frame.locator(".tip").is_hidden()
        assert frame.locator(".cursor").is_hidden()


def test_locations_are_walked_by_arrow_keys_and_stay_in_focus_over_the_steps(opened):
    with opened() as (page, frame):
        drawn(frame)
        key = page.keyboard.press
        frame.locator("canvas").focus()
        first = frame.inner_text(".tip")
        assert first.startswith("row 9, column 5")  # the strongest
        key("ArrowUp")
        key("ArrowRight")
        assert frame.inner_text(".tip").startswith("row 8, column 6")
        key("[")
        frame.wait_for_selector(".body[data-step='10']")
        assert frame.evaluate("document.activeElement.dataset.key") == "overlay"
        assert frame.inner_text(".tip").startswith("row 8, column 6")
        key("Home")
        key("ArrowUp")
        assert frame.inner_text(".tip").startswith("row 1, column 1")
        key("End")
        assert frame.inner_text(".tip").startswith("row 14, column 14")
        key("Escape")
        assert frame.locator(".tip").is_hidden()


def test_the_strongest_locations_are_listed_first(opened):
    with opened() as (_, frame):
        assert frame.inner_text("caption") == "Scores of 196 locations"
        rows = [re.split(r"\t", text) for text in frame.locator("tbody tr").all_inner_texts()]
        assert len(rows) == 50
        assert rows[0][:3] == ["117", "row 9, column 5", "+7.79"]
        frame.click("button:text-is('Place')")
        assert frame.locator("tbody tr th").first.inner_text() == "row 1, column 1"
        frame.click("button:text-is('Show all 196')")
        assert frame.locator("tbody tr").count() == 196


def test_what_has_no_location_and_what_was_absorbed_are_facts(opened):
    with opened() as (_, frame):
        facts = frame.inner_text(".facts")
        for text in ("Outside the grid", "+0.5", "units of no location: 1", "Absorbed", "bias +0.125", "✗ wrong"):
            assert text in facts
        assert frame.locator(".option .text").first.inner_text() == "Image"
        assert frame.locator(".charts figcaption b").first.inner_text() == "Drift"


def test_a_fine_grid_is_summed_and_says_so(opened):
    with opened(1) as (_, frame):
        drawn(frame)
        said = frame.inner_text(".said")
        assert said.startswith("28 × 28 locations, each the sum of 8 × 8 of the 224 × 224 that were scored")
        assert frame.inner_text("caption") == "Scores of 784 locations"


def test_the_colours_can_be_made_fainter_and_all_steps_share_a_scale(opened):
    with opened() as (_, frame):
        drawn(frame)
        at = [round(0.32 * 720), round(0.6 * 540)]
        strong = frame.evaluate(PIXEL, at)
        frame.locator(".opacity").fill("0")
        faint = frame.evaluate(PIXEL, at)
        assert max(faint) - min(faint) < 12 < max(strong) - min(strong)
        frame.locator(".opacity").fill("80")
        frame.press("body", "[")
        frame.wait_for_selector(".body[data-step='10']")
        frame.click("button:text-is('All steps')")
        assert frame.inner_text(".legend").split()[-1] == "+7.79"
        drawn(frame)
        half = frame.evaluate(PIXEL, at)
        assert max(half) - min(half) < max(strong) - min(strong) - 30


def test_the_canvas_follows_the_theme(opened):
    with opened(2) as (page, frame):
        drawn(frame, "empty")
        light = frame.evaluate(PIXEL, [600, 440])
        page.emulate_media(color_scheme="dark")
        drawn(frame, "empty dark")
        assert sum(frame.evaluate(PIXEL, [600, 440])) < sum(light) - 100
        assert "The record has no image" in frame.inner_text(".said")


def test_every_text_stands_out_from_what_is_behind_it(opened):
    with opened() as (page, frame):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            frame.wait_for_selector(f":root[data-theme={scheme}]", state="attached")
            frame.locator("canvas").focus()
            assert frame.evaluate(tab.FAINT) == [], scheme


def test_odd_records_are_drawn_or_say_why_not(opened):
    with opened(3, "odd") as (_, frame):
        frame.wait_for_selector(".pane p:text('cannot be shown')")
        assert frame.locator("canvas").count() == 1
    with opened(0, "odd") as (_, frame):  # and nothing elsewhere was asked for, which the console would say
        assert frame.locator("img").count() == 0
        drawn(frame, "empty")
    with opened(1, "odd") as (_, frame):
        assert "The grid has 9 × 9 locations, but 12 scores" in frame.inner_text(".notice.error")
    with opened(2, "odd") as (_, frame):
        assert "not a number" in frame.locator("tbody tr").first.inner_text()
        assert "NaN" not in frame.inner_text(".body")


@pytest.mark.parametrize("width", [420, 1400])
def test_nothing_is_wider_than_the_window(opened, width):
    with opened(width=width) as (_, frame):
        drawn(frame)
        assert frame.evaluate("document.documentElement.scrollWidth") <= width
