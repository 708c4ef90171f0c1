"""Landmarks in the Interpret tab, and influence without gradients, in a real browser inside a real TensorBoard."""

from dataclasses import replace

import boards
import pytest
import tab
from evidence import LIKE, TURNED_OVER, UNLIKE, influence, landmarks

pytestmark = boards.needs_browser

MARKUP = "<b>bold</b><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31m \u202eevil **x** `y`"
RTL = "مرحبا بالعالم هذا فيلم جيد جدا"


def _write(folder):
    with boards.Events(folder / "run") as events:
        for step in (10, 20, 30):
            usual = landmarks(loss=1 / step, like=LIKE if step > 10 else LIKE[:1], target=0.8 + step / 30)
            events.row(usual, name="landmarks", step=step)
        literal = tuple(
            replace(each, text=text, gold=RTL) for each, text in zip(LIKE, (RTL, MARKUP, "好" * 5000), strict=True)
        )
        marked = landmarks(
            text=MARKUP, prediction=RTL, gold="L" * 10_000, target_name=RTL, like=literal, kernel=MARKUP,
            notes=(MARKUP,), absorbed={MARKUP: 0.5}, tokens=tuple(RTL.split()), scores=(0.1,) * 6,
        )  # fmt: skip
        events.row(marked, name="landmarks", probe=1, step=10)
        odd = landmarks(
            gold="entity", like=(), error=0.5, tokens=None, scores=None, reasons={"tokens": "it was not asked for"}
        )
        events.row(odd, name="landmarks", probe=2, step=10)
        whole = landmarks(landmarks=2, like=LIKE[:1], unlike=UNLIKE[:1], approximation_error=None, kernel=None)
        events.row(whole, name="landmarks", probe=3, step=10)
        bare = [{}, {"like": [{}], "target": 1, "sentence": []}, {"total": 2, "target": 1, "absorbed": {"a": None}}]
        content = b'{"kind": "landmarks"}'
        events.text("interpret/landmarks/probe_4", 10, boards.payload(bare, kind="landmarks"), content=content)
        events.row(influence(approximation=TURNED_OVER), name="influence", step=10)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    _write(folder)
    with boards.browser() as chromium, boards.served(folder, "--reload_interval", "0") as address:

        def opened(probe=0, name="landmarks", **options):
            return tab.opened(chromium, address, tab.hash_of(f"interpret/{name}/probe_{probe}", "run"), **options)

        yield opened


@pytest.fixture(scope="module")
def frame(opened):
    """The usual case, to be looked at and left as it is."""
    with opened() as (_, frame):
        yield frame


def _rows(frame, title):
    table = frame.locator(".evidence", has=frame.locator(f"h2:text-is('{title}')"))
    return [" ".join(row.split()) for row in table.locator("tbody tr").all_inner_texts()]


def test_the_sentence_is_read_first_then_like_and_unlike_then_the_sum(frame):
    assert frame.locator(".body .card").first.inner_text() == (
        "Said location because it is like 'Where is the Louvre ?' and 'What city hosts the Prado ?' (location), "
        "unlike 'Who painted the Mona Lisa ?' (human)."
    )
    assert frame.locator(".body h2").all_inner_texts() == ["Like", "Unlike", "What it adds up to"]
    assert _rows(frame, "Like")[1] == "+0.8 What city hosts the Prado ? 17 location ✗ model says entity – 1.9 40 %"
    assert _rows(frame, "Unlike") == ["−0.9 Who painted the Mona Lisa ? 5 human 0.95 0.05 0 %", "−0.2 no text 61 – – –"]
    assert _rows(frame, "What it adds up to") == [
        *("5 landmarks shown +1.6", "59 other landmarks +0.45", "bias −0.25"),
        "= F(x), but for an error of 2.0e−9 +1.8",
    ]
    assert "Score F(x) +1.8 of location" in " ".join(frame.inner_text(".facts").split())
    units = frame.locator(".unit").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    assert units[1] == "Where: +0.9"
    assert units[6] == "Mona: −0.3"
    about = " ".join(frame.inner_text(".about").split())
    assert "Kernel rbf Landmarks 64 Of which speak for it 30 Sizes of all scores 8.2 Of which cancels 75 %" in about
    assert "Relative error of the kernel matrix (Frobenius) 8.7 %" in about


def test_charts_follow_the_score_the_landmarks_and_the_bias(frame):
    labels = frame.locator(".charts svg").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    assert labels[1:] == [
        "Score F(x): +1.8 at step 30; from +1.13 to +1.8 over 3 steps",
        "Most like: +1.2 at step 30; from +1.2 to +1.2 over 3 steps",
        "Most unlike: −0.9 at step 30; from −0.9 to −0.9 over 3 steps",
        "Bias share: 3 % at step 30; from 3 % to 3 % over 3 steps",
        "Same landmarks: 100 % at step 30; from 60 % to 100 % over 2 steps",
    ]


def test_texts_are_text_isolated_and_never_markup(opened):
    with opened(1) as (_, frame):
        said = frame.inner_text(".sentence")
        assert f"Wrongly said {RTL} (gold {'L' * 39}…) because it is like '{RTL}', '<b>bold</b><script>alert(1)" in said
        assert frame.locator(".sentence bdi").first.evaluate("e => getComputedStyle(e).direction") == "rtl"
        assert frame.locator(".sentence p").evaluate("e => getComputedStyle(e).direction") == "ltr"
        assert "<img src=x onerror=alert(1)>" in _rows(frame, "Like")[1]
        assert "\\u202eevil" in _rows(frame, "What it adds up to")[2]
        assert "\\u001b[31m" in frame.inner_text(".about")
        assert frame.locator(".body :is(script, img, bdi *, a)").count() == 0


def test_what_does_not_add_up_and_what_is_missing_is_said(opened):
    with opened(2) as (_, frame):
        assert frame.locator(".notice.warn").inner_text().startswith("The relevance does not add up")
        assert frame.inner_text(".sentence").startswith("Wrongly said location (gold entity), although nothing among")
        assert "⚠ error" in frame.inner_text("[aria-selected=true]")
        assert "✗ wrong" in frame.inner_text(".facts")
        assert "No landmark speaks for it." in frame.inner_text(".evidence.for")
        assert "tokens is not given: it was not asked for" in frame.inner_text(".about")
        assert frame.locator(".strip").count() == 0
    with opened(3) as (_, frame):
        assert _rows(frame, "What it adds up to")[0] == "2 landmarks +2.05"
        assert "Kernel" not in frame.inner_text(".about dl")
    with opened(4) as (_, frame):
        assert frame.locator(".card.facts").count() == 3
        assert frame.locator(".notice.error").count() == 0
        for word in ("undefined", "NaN", "null"):
            assert word not in frame.inner_text(".record")


def test_influence_without_gradients_says_nothing_of_them(opened):
    with opened(name="influence") as (_, frame):
        about = " ".join(frame.inner_text(".about").split())
        assert "Method turn_over_dropout Seed 3 Examples scored 2000" in about
        assert "Skipped (outputs not finite) 3" in about
        assert "Score: query's loss in the part of the network that has not learnt the example" in frame.inner_text(
            ".body"
        )
        for word in ("radient", "urvature", "arameters"):
            assert word not in frame.inner_text(".body")


def _each(frame):
    for option in frame.locator(".option").all():
        option.click()
        frame.wait_for_selector(".body[aria-busy=false]")
        yield frame.inner_text(".bar .title")


def test_every_text_stands_out_in_both_themes_and_tables_have_headers_and_names(opened):
    with opened() as (page, frame):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            frame.wait_for_selector(f":root[data-theme={scheme}]", state="attached")
            for title in _each(frame):
                assert frame.evaluate(tab.FAINT) == [], f"{title}, {scheme}"
                for table in frame.locator(".evidence table").all():
                    assert table.locator("caption").count() == 1
                    heads = table.locator("thead th[scope=col]").count()
                    assert heads == table.locator("tbody tr").first.locator("td, th").count()


def test_at_twice_the_size_nothing_needs_scrolling_sideways(opened):
    boxes = "[...document.querySelectorAll('html, .side, .bar, .body, .card')]"
    wide = "(e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1"
    for width in (640, 360):
        with opened(width=width, height=500) as (_, frame):
            for title in _each(frame):
                assert frame.evaluate(f"{boxes}.filter({wide}).map((e) => e.outerHTML.slice(0, 100))") == [], title
