"""Attention in the Interpret tab, in a real browser inside a real TensorBoard."""

import boards
import pytest
import tab
from attentions import attention, long, of_text

pytestmark = boards.needs_browser

MARKUP = "<b>bold</b><script>alert(1)</script><img src=x onerror=alert(1)> \u202eevil **x** `y`"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with boards.Events(folder / "run") as events:
        events.row(attention(loss=1.0, token_weights=(0.0, 0.0, 1.0, 0.0, 0.0, 0.0)), name="attention", step=10)
        events.row(attention(loss=0.5), name="attention", step=20)
        events.row(of_text(MARKUP), name="attention", probe=1, step=10)
        bare = boards.payload([{}, {"layers": [{}]}, {"heads": [[[None]], [[]]]}], kind="attention")
        events.text("interpret/attention/probe_2", 10, bare, content=b'{"kind": "attention"}')
        events.row(long(40), name="attention", probe=3, step=10)
    with boards.browser() as chromium, boards.served(folder, "--reload_interval", "0") as address:

        def opened(probe=0, **options):
            return tab.opened(chromium, address, tab.hash_of(f"interpret/attention/probe_{probe}", "run"), **options)

        yield opened


def test_a_map_is_chosen_and_its_cells_say_what_they_are(opened):
    with opened() as (_, frame):
        assert frame.inner_text(".sentence").startswith("Wrongly said negative (gold positive). The last attention")
        assert frame.locator(".map th").all_inner_texts() == ["[CLS]", "Not", "a", "bad", "film", "[SEP]"]
        cells = frame.locator(".map td")
        assert cells.count() == 36
        assert frame.locator("select[aria-label=Map] option").all_inner_texts() == [
            *("Layer 0, mean over heads", "Layer 1, mean over heads", "Layer 1, head 0", "Layer 1, head 1"),
        ]
        assert cells.nth(7).get_attribute("title") == "Not → Not: 100 %"
        shade = "e => getComputedStyle(e).backgroundColor"
        assert cells.nth(7).evaluate(shade) != cells.nth(8).evaluate(shade)
        frame.select_option("select[aria-label=Map]", "head 1")
        frame.wait_for_function("document.querySelectorAll('.map td')[7].title.endsWith('50 %')")
        assert cells.nth(6).get_attribute("title") == "Not → [CLS]: 50 %"
        assert frame.locator("select[aria-label=Map]").input_value() == "head 1"
        facts = " ".join(frame.inner_text(".facts").split())
        assert "Entropy 59 %" in facts
        assert "Read position 0, '[CLS]'" in facts
        rows = [" ".join(row.split()) for row in frame.locator(".bars tbody tr").all_inner_texts()]
        assert rows[0].startswith("0 encoder.layer.0.attention 80")
        labels = frame.locator(".charts svg").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
        assert any(label.startswith("Drift: 0.") for label in labels)
        assert any(label.startswith("Entropy: ") for label in labels)


def test_texts_are_text_and_what_is_missing_is_left_out(opened):
    with opened(1) as (_, frame):
        assert "<img src=x onerror=alert(1)>" in frame.inner_text(".body")
        assert frame.locator(".body :is(script, img, bdi *, a)").count() == 0
    with opened(2) as (_, frame):
        assert frame.locator(".notice.error").count() == 0
        for word in ("undefined", "NaN", "null", "[object"):
            assert word not in frame.inner_text(".record")


def test_every_text_stands_out_in_both_themes_and_nothing_scrolls_sideways_but_a_map(opened):
    boxes = "[...document.querySelectorAll('html, .side, .bar, .body, .card')]"
    wide = "(e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1"
    with opened() as (page, frame):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            frame.wait_for_selector(f":root[data-theme={scheme}]", state="attached")
            assert frame.evaluate(tab.FAINT) == [], scheme
    for probe in (0, 3):
        with opened(probe, width=360, height=500) as (_, frame):
            assert frame.evaluate(f"{boxes}.filter({wide}).map((e) => e.outerHTML.slice(0, 100))") == []
