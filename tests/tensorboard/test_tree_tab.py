"""Trees of spans in the Interpret tab, in a real browser inside a real TensorBoard."""

import boards
import pytest
import tab
from trees import SpanNode, chain, of_text, tree

from lightning_interpret.tensorboard.payload import drift

pytestmark = boards.needs_browser

MARKUP = "<b>bold</b><script>alert(1)</script><img src=x onerror=alert(1)> \u202eevil **x** `y`"
OTHER = (SpanNode(0, 6, 1.5, None, (1, 2), 0.125), SpanNode(0, 4, 2.0, 0), SpanNode(4, 6, -0.5, 0))


def _write(folder):
    with boards.Events(folder / "run") as events:
        events.row(tree(loss=1.0, nodes=OTHER), name="hierarchy", step=10)
        events.row(tree(loss=0.5), name="hierarchy", step=20)
        events.row(of_text(MARKUP), name="hierarchy", probe=1, step=10)
        bare = boards.payload([{}, {"nodes": [{}]}, {"nodes": [{"start": 0, "end": 2}]}], kind="span_tree")
        events.text("interpret/hierarchy/probe_2", 10, bare, content=b'{"kind": "span_tree"}')
        events.row(chain(60), name="hierarchy", probe=3, step=10)
        arabic = "مرحبا هذا فيلم جيد جدا حقا".split()  # noqa: SIM905
        names = {"words": tuple(arabic), "tokens": tuple(arabic), "special": (False,) * 6, "offsets": None}
        events.row(tree(**names, word_ids=tuple(range(6))), name="hierarchy", probe=4, step=10)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    _write(folder)
    with boards.browser() as chromium, boards.served(folder, "--reload_interval", "0") as address:

        def opened(probe=0, **options):
            return tab.opened(chromium, address, tab.hash_of(f"interpret/hierarchy/probe_{probe}", "run"), **options)

        yield opened


def _said(frame, selector):
    return " ".join(frame.inner_text(selector).split())


def test_spans_lie_below_their_words_in_the_colour_and_line_of_their_sign(opened):
    with opened() as (_, frame):
        assert frame.inner_text(".sentence").startswith("Wrongly said negative (gold positive). For negative speaks")
        assert frame.locator(".level b").all_inner_texts() == ["Not", "a", "bad", "film", "at", "all"]
        cells = frame.locator(".level .unit")
        assert cells.all_inner_texts() == ["+1.5", "+2", "−0.5", "−1", "+2.5", "0", "−0.25", "0", "+2.25"]
        boxes = [cells.nth(i).bounding_box() for i in range(9)]
        words = [frame.locator(".level b").nth(i).bounding_box() for i in range(6)]
        assert abs(boxes[4]["x"] - words[1]["x"]) < 2  # 'a bad film' begins at 'a'
        assert abs(boxes[4]["x"] + boxes[4]["width"] - words[3]["x"] - words[3]["width"]) < 2
        assert boxes[0]["y"] < boxes[1]["y"] < boxes[4]["y"] < boxes[8]["y"]
        style = "e => getComputedStyle(e).borderBottomStyle"
        assert [cells.nth(i).evaluate(style) for i in (0, 3)] == ["solid", "dashed"]
        assert cells.nth(4).get_attribute("title") == "a bad film: +2.5"
        facts = _said(frame, ".facts")
        assert "Spans 9 in 4 levels" in facts
        assert "Foremost erased falls by 1.4 random spans as long: falls by 0.05" in facts
        rows = [" ".join(row.split()) for row in frame.locator(".bars tbody tr").all_inner_texts()]
        assert rows[0] == "a bad film +2.5 2 +0.75"
        assert rows[3].startswith("Not a bad film at all +1.5 0")
        labels = frame.locator(".charts svg").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
        assert "Interaction: +0.25 at step 20; from +0.125 to +0.25 over 2 steps" in labels
        assert "New spans: 0.5 at step 20; from 0.5 to 0.5 over 1 steps" in labels


def test_texts_are_text_and_what_is_missing_is_left_out(opened):
    with opened(1) as (_, frame):
        assert "<img src=x onerror=alert(1)>" in frame.inner_text(".body")
        assert "\\u202eevil" in frame.inner_text(".body")
        assert frame.locator(".body :is(script, img, bdi *, a)").count() == 0
    with opened(2) as (_, frame):
        assert frame.locator(".notice.error").count() == 0
        for word in ("undefined", "NaN", "null", "[object"):
            assert word not in frame.inner_text(".record")


def test_a_deep_tree_of_a_long_text_is_wrapped_and_its_levels_are_shown_when_asked_for(opened):
    with opened(3) as (_, frame):
        assert frame.locator(".level").count() > 3
        assert frame.locator(".level").first.locator(".unit").count() < 40
        frame.check("text=All 60 levels")
        frame.wait_for_function("document.querySelectorAll('.level .unit').length > 100")
        frame.uncheck("text=All 60 levels")
    with opened(4) as (_, frame):
        assert frame.locator(".levels").evaluate("e => getComputedStyle(e).direction") == "rtl"


def test_every_text_stands_out_in_both_themes_and_nothing_scrolls_sideways_but_a_line_of_words(opened):
    boxes = "[...document.querySelectorAll('html, .side, .bar, .body, .card')]"
    wide = "(e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1"
    with opened() as (page, frame):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            frame.wait_for_selector(f":root[data-theme={scheme}]", state="attached")
            assert frame.evaluate(tab.FAINT) == [], scheme
    for probe in (0, 3, 4):
        with opened(probe, width=360, height=500) as (_, frame):
            assert frame.evaluate(f"{boxes}.filter({wide}).map((e) => e.outerHTML.slice(0, 100))") == []


def test_drift_is_the_share_of_spans_that_are_new():
    now, before = ({"records": [tree(**changes).to_dict()]} for changes in ({}, {"nodes": OTHER}))
    assert drift(now, before) == 0.5  # 'a bad film' and 'bad film'
    assert drift(now, now) == 0.0
    assert drift({"records": [chain(1).to_dict()]}, {"records": [chain(1).to_dict()]}) is None
