"""Several targets of one example in the Interpret tab, in a real browser inside a real TensorBoard."""

import boards
import pytest
import tab
from target_records import answer, arabic, entities, grid, labels, likeliest, long_grid, of_text, pair

pytestmark = boards.needs_browser

MARKUP = "<b>bold</b><script>alert(1)</script><img src=x onerror=alert(1)> \u202eevil **x** `y`"
ROWS = {
    "grid": grid(), "long": long_grid(80, 55), "entities": entities(), "answer": answer(before=300),
    "labels": labels(), "arabic": arabic(), "pair": pair(), "markup": of_text("grid", MARKUP),
    "marked": of_text("entities", MARKUP), "likeliest": likeliest(),
}  # fmt: skip


def _write(folder):
    with boards.Events(folder / "run") as events:
        events.row(grid(loss=2.0), name="grid", step=10)
        for name, row in ROWS.items():
            events.row(row, name=name, step=20)
        strange = [{}, {"targets": 3}, {"targets": [None, {}, {"scores": None, "span": [1]}], "tokens": ["a"]}]
        strange += [{"view": view, "targets": [{}], "tokens": ["a", "b"]} for view in ("grid", "entities", "answer")]
        bare = boards.payload(strange, kind="targets")
        events.text("interpret/bare/probe_0", 10, bare, content=b'{"kind": "targets"}')


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    _write(folder)
    with boards.browser() as chromium, boards.served(folder, "--reload_interval", "0") as address:

        def opened(name, **options):
            return tab.opened(chromium, address, tab.hash_of(f"interpret/{name}/probe_0", "run"), **options)

        yield opened


def _said(frame, selector):
    return " ".join(frame.inner_text(selector).split())


def test_a_grid_has_a_row_a_token_and_leads_to_its_text(opened):
    with opened("grid") as (_, frame):
        rows = frame.locator(".cross tbody tr")
        assert rows.count() == 6
        assert frame.locator(".cross .part-name").all_inner_texts() == ["prompt", "output"]
        heads = frame.locator(".cross thead tr:last-child th:not(.name, .number) bdi").all_inner_texts()
        assert " ".join(heads) == "The capital of France is the city of Par is"
        assert [rows.nth(i).locator("td.unread").count() for i in range(6)] == [5, 4, 3, 2, 1, 0]
        assert rows.nth(3).locator("td").nth(3).get_attribute("title") == "Par ← France: +1.96"
        assert rows.nth(1).locator("td.number").all_inner_texts() == ["+3.16", "−0.981", "+2.5", "4 % ⚠"]
        assert "Wrong 1 of 6" in _said(frame, ".facts")
        assert "✗ 1 of 6 wrong" in _said(frame, ".option[aria-selected=true]")
        assert "The capital of France is the city" in _said(frame, ".option[aria-selected=true]")
        rows.nth(3).locator("td").nth(2).click()
        assert _said(frame, ".part-of h2") == "Par +3.5"
        assert "✗ gold Lyon" in _said(frame, ".part-of .tools")
        assert frame.locator(".part-of .break").all_inner_texts() == ["prompt", "output"]
        assert frame.locator(".part-of .unit").all_inner_texts() == "The capital of France is the city of".split()  # noqa: SIM905
        frame.locator(".cross tr.chosen button").press("ArrowDown")
        assert _said(frame, ".part-of h2") == "is +4"
        assert frame.evaluate("document.activeElement.innerText") == "is"
        frame.locator("body").press("[")  # another step: the choice and the focus stay
        frame.wait_for_selector(".body[data-step='10']")
        assert _said(frame, ".part-of h2") == "is +4"
        labels_of = frame.locator(".charts svg").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
        assert "Wrong targets: 1 at step 10; from 1 to 1 over 2 steps" in labels_of


def test_headings_stay_while_a_long_grid_scrolls_and_all_of_it_is_there_when_asked_for(opened):
    with opened("long", width=1000, height=700) as (_, frame):
        assert frame.locator(".cross tbody tr").count() == 50
        assert 40 < frame.locator(".cross thead tr:last-child th").count() < 75
        assert "words left out" in frame.locator(".cross thead .special").first.inner_text()
        box = frame.locator(".cross")
        box.evaluate("e => { e.scrollTop = 300; e.scrollLeft = 200; }")
        at = box.bounding_box()
        name = frame.locator(".cross tbody th").nth(25).bounding_box()
        head = frame.locator(".cross thead").bounding_box()
        assert abs(name["x"] - at["x"]) < 2
        assert abs(head["y"] - at["y"]) < 2
        frame.check("text=All 134 words")
        frame.wait_for_function("document.querySelectorAll('.cross thead tr:last-child th').length > 135")
        frame.click("text=Show all 55 tokens")
        frame.wait_for_function("document.querySelectorAll('.cross tbody tr').length === 55")


def test_entities_are_outlined_with_their_types(opened):
    with opened("entities") as (_, frame):
        texts = frame.locator(".strip")
        assert texts.count() == 4
        outlines = [" ".join(text.split()) for text in texts.first.locator(".outlined").all_inner_texts()]
        assert outlines == ["Angela Merkel PER", "Macron LOC gold PER", "Paris LOC"]
        assert frame.locator(".strip").first.locator(".outlined.wrong").count() == 1
        assert [" ".join(text.split()) for text in texts.nth(2).locator(".outlined").all_inner_texts()] == [
            "Macron LOC gold PER"
        ]
        assert frame.locator(".words h2").all_inner_texts()[1:] == [
            "Angela Merkel PER",
            "Macron LOC gold PER",
            "Paris LOC",
        ]
        texts.nth(1).locator(".unit").nth(1).hover()
        assert "Angela+3.49" in frame.locator(".tip:visible").inner_text().replace("\n", "")


def test_the_type_that_is_explained_is_said_where_another_one_is_predicted(opened):
    for name, said in (("likeliest", "Macron O logit of LOC +3"), ("entities", "Angela Merkel PER logit +4")):
        with opened(name) as (_, frame):
            assert " ".join(frame.locator(".words .tools").nth(1).inner_text().split()).startswith(said)


def test_an_answer_is_outlined_in_the_passage_and_a_long_one_is_kept_around_it(opened):
    with opened("answer") as (_, frame):
        assert "Gold answer the city of Paris" in _said(frame, ".facts")
        first = frame.locator(".strip").first
        assert first.locator(".break").all_inner_texts() == ["question", "context"]
        assert " ".join(first.locator(".outlined").inner_text().split()) == "Paris answer"
        assert "words left out" in first.inner_text()
        assert first.locator(".unit").count() < 170
        frame.check("text=All 323 words")
        frame.wait_for_function("document.querySelectorAll('.strip')[0].querySelectorAll('.unit').length === 323")


def test_labels_have_a_text_each_and_the_parts_of_a_pair_stand_apart(opened):
    with opened("labels") as (_, frame):
        assert frame.locator(".strip").count() == 3
        rows = [" ".join(row.split()) for row in frame.locator(".bars tbody tr").all_inner_texts()]
        assert rows == ["comedy +1.8", "drama +0.7", "horror −2.5"]
    with opened("pair") as (_, frame):
        assert frame.locator(".strip .break").all_inner_texts() == ["first", "second"]


@pytest.mark.parametrize("name", ["markup", "marked"])
def test_texts_are_text(opened, name):
    with opened(name) as (_, frame):
        assert "<img src=x onerror=alert(1)>" in frame.inner_text(".body")
        assert "\\u202eevil" in frame.inner_text(".body")
        assert frame.locator(".record :is(script, img, bdi *, a)").count() == 0


def test_what_is_missing_is_left_out(opened):
    with opened("bare") as (_, frame):
        assert frame.locator(".notice.error").count() == 0
        assert frame.locator(".record .facts").count() == 6
        for word in ("undefined", "NaN", "null", "[object"):
            assert word not in frame.inner_text(".record")


def test_every_text_stands_out_in_both_themes_and_nothing_scrolls_sideways_but_a_grid(opened):
    boxes = "[...document.querySelectorAll('html, .side, .bar, .body, .card')]"
    wide = "(e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1"
    for name in ("grid", "entities"):
        with opened(name) as (page, frame):
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                frame.wait_for_selector(f":root[data-theme={scheme}]", state="attached")
                assert frame.evaluate(tab.FAINT) == [], scheme
    for name in ("long", "answer", "markup"):
        with opened(name, width=400, height=600) as (_, frame):
            assert frame.evaluate(f"{boxes}.filter({wide}).map((e) => e.outerHTML.slice(0, 100))") == []
    with opened("arabic") as (_, frame):
        assert frame.locator(".cross").get_attribute("dir") == "rtl"
        assert frame.locator(".cross thead th bdi").first.inner_text() == "prompt"
