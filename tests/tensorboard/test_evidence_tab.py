"""Evidence in the Interpret tab: the card of a bad case, in a real browser inside a real TensorBoard."""

from dataclasses import replace

import boards
import pytest
import tab
from evidence import HARMFUL, HELPFUL, QUERY, STATED, influence, near

from lightning_interpret.evidence import Approximation, TrainingExample

pytestmark = boards.needs_browser

MARKUP = "<b>bold</b><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31m \u202eevil **x** `y`"
RTL = "مرحبا بالعالم هذا فيلم جيد جدا"
HUGE = (1 << 62) + 1


def _write(folder):
    with boards.Events(folder / "run") as events:
        for step in (10, 20, 30):
            listed = HARMFUL if step > 10 else HARMFUL[:1]
            usual = influence(neighbors=near(), loss=step / 10, harmful=listed)
            events.row(usual, name="influence", probe=0, step=step)
            events.row(near(loss=step / 10), name="neighbors", probe=0, step=step)
        literal = tuple(replace(each, text=MARKUP, gold=MARKUP, prediction=RTL) for each in HELPFUL)
        marked = influence(text=MARKUP, prediction=MARKUP, gold=RTL, why=MARKUP, helpful=literal, notes=(MARKUP,))
        events.row(marked, name="influence", probe=1, step=10)
        stuck = replace(STATED, converged=False, residual=0.25, notes=("few steps",))
        long = influence(
            text="word " * 100_000, example_id=HUGE, helpful=(replace(HELPFUL[0], text="好" * 5000, example_id=HUGE),),
            harmful=(), approximation=stuck, reasons={"neighbors": "no datastore"},
        )  # fmt: skip
        events.row(long, name="influence", probe=2, step=10)
        summed = influence(
            text=None, example_id=None, prediction=None, gold=None, loss=None, confidence=None, why=None, queries=64,
            helpful=(), harmful=(),
        )  # fmt: skip
        events.row(summed, name="influence", probe=3, step=10)
        alike = Approximation("feature_similarity", "cosine of features", measure=None)
        close = (TrainingExample(5, 0.91, text="A dull hour.", gold="negative"),)
        row = influence(text="A dull day.", helpful=close, harmful=(), approximation=alike)
        events.row(row, name="influence", probe=4, step=10)
        shares = {f"label {i}": (30 - i) / 465 for i in range(30)}
        events.row(
            near(text=RTL, tokens=tuple(RTL.split()), scores=(0.1,) * 6, shares=shares, probabilities=None),
            name="neighbors", probe=1, step=10,
        )  # fmt: skip
        bare = boards.payload([{}, {"helpful": [{}], "neighbors": {}}, {"neighbors": []}], kind="influence")
        events.text("interpret/bare/probe_0", 10, bare, content=b'{"kind": "influence"}')
        bare = boards.payload([{}, {"neighbors": [{}], "shares": {}}], kind="neighbors")
        events.text("interpret/bare/probe_1", 10, bare, content=b'{"kind": "neighbors"}')


@pytest.fixture(scope="module")
def chromium():
    with boards.browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    _write(folder)
    with boards.served(folder, "--reload_interval", "0") as address:

        def opened(probe=0, name="influence", **options):
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


def test_a_bad_case_is_shown_with_what_helped_and_what_harmed(frame):
    facts = " ".join(frame.inner_text(".facts").split())
    for part in ("negative ✗ wrong", "Gold label positive", "Confidence 93 %", "Loss 3", "Picked as worst loss"):
        assert part in facts
    assert "Mixture says positive unsure: the neighbours were asked" in facts
    assert QUERY in frame.inner_text(".query")
    assert _rows(frame, "Helpful")[1] == (
        "+0.27 The plot is thin, and I loved it all the same. 112 positive ✗ model says negative 1.2 60 %"
    )
    assert _rows(frame, "Harmful")[0].startswith("−0.63 Not bad, they said. It was bad. 30511 negative")
    assert _rows(frame, "Nearest")[0].startswith("3.21 every minute of it a waste")
    assert _rows(frame, "Labels")[0] == "negative 70 % 55 % 93 %"
    assert "Positive is helpful: removing the example would raise the loss." in frame.inner_text(".body")
    units = frame.locator(".unit").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    assert units[1:4] == ["Not: −0.1", "a: 0", "bad: +0.4"]
    about = " ".join(frame.inner_text(".about").split())
    for part in (
        "Method ekfac",
        "Damping 0.00123",
        "Weight decay 0.01",
        "Seed 0",
        "Skipped (gradients not finite) 3",
    ):
        assert part in about
    sizes = frame.locator(".evidence.for .meter").evaluate_all("all => all.map(e => e.style.getPropertyValue('--s'))")
    assert sizes == ["0.651", "0.429", "0.079"]


def test_a_similarity_is_said_to_be_one_and_has_no_harmful_examples(opened):
    with opened(4) as (_, frame):
        assert frame.locator(".body h2").all_inner_texts()[0] == "Alike"
        assert _rows(frame, "Alike")[0].startswith("+0.91 A dull hour. 5 negative")
        said = frame.inner_text(".body")
        assert "Score: cosine of features. It is a similarity, and says nothing of a removal." in said
        assert "Harmful" not in said
        assert "helpful: removing" not in said
        assert "Skipped (features not finite) 3" in " ".join(frame.inner_text(".about").split())


def test_neighbours_alone_have_a_card_too(opened):
    with opened(name="neighbors") as (_, frame):
        assert "Credibility" in frame.inner_text(".facts")
        assert frame.locator(".body h2").all_inner_texts() == ["Nearest", "Labels"]
        assert frame.locator(".charts figcaption b").all_inner_texts() == [
            *("Loss", "Confidence", "Gold among neighbours", "Conformity", "Credibility", "Same neighbours"),
        ]


def test_charts_follow_loss_scores_and_the_examples_listed(frame):
    charts = dict(
        zip(
            frame.locator(".charts figcaption b").all_inner_texts(),
            frame.locator(".charts svg").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))"),
            strict=True,
        )
    )
    assert charts["Loss"] == "Loss: 3 at step 30; from 1 to 3 over 3 steps"
    assert charts["Most harmful score"].startswith("Most harmful score: −0.63 at step 30")
    assert charts["Same examples"] == "Same examples: 100 % at step 30; from 80 % to 100 % over 2 steps"
    assert charts["Gold among neighbours"].startswith("Gold among neighbours: 30 %")


def test_an_id_is_copied_by_a_click_or_a_key_and_search_finds_texts_and_ids(opened):
    with opened() as (page, frame):
        frame.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
        frame.click("button[aria-label='Copy id 48213']")
        frame.wait_for_function("window.copied === '48213'")
        frame.focus("button[aria-label='Copy id 991']")
        page.keyboard.press("Enter")
        frame.wait_for_function("window.copied === '991'")
        for words, count in (("pleasure watch", 2), ("30511", 4), (str(HUGE), 1), ("nowhere", 0)):
            frame.fill("input[type=search]", words)
            frame.wait_for_selector(f".count:has-text('{count} of')")


def test_texts_are_text_and_never_markup(opened):
    with opened(1) as (_, frame):
        assert frame.locator(".query").inner_text().startswith("<b>bold</b><script>alert(1)</script><img src=x")
        assert "\\u001b[31m \\u202eevil **x** `y`" in frame.inner_text(".query")
        assert "<img src=x onerror=alert(1)>" in _rows(frame, "Helpful")[0]
        assert frame.locator(".body :is(script, img, bdi *, a)").count() == 0
        assert frame.locator(".evidence .passage [dir]").first.evaluate("e => getComputedStyle(e).direction") == "ltr"
    with opened(1, name="neighbors") as (_, frame):
        assert frame.locator(".query [dir]").first.evaluate("e => getComputedStyle(e).direction") == "rtl"
        assert frame.get_attribute(".strip", "dir") == "rtl"
        assert len(_rows(frame, "Labels")) == 10
        frame.click("text=Show all 32")
        frame.wait_for_selector("tr:has-text('label 29')")


def test_long_texts_are_opened_on_request_and_warnings_come_first(opened):
    with opened(2) as (page, frame):
        assert frame.locator(".notice.warn").inner_text().startswith("The solver did not converge")
        assert "25 %" in frame.inner_text(".notice.warn")
        assert "⚠ error" in frame.inner_text("[aria-selected=true]")
        assert len(frame.inner_text(".query")) < 1100
        frame.focus(".query summary")
        page.keyboard.press("Enter")
        frame.wait_for_function("document.querySelector('.query').innerText.length > 1500")
        assert frame.locator(f"button[aria-label='Copy id {HUGE}']").count() == 2
        assert "No example has a negative score." in frame.inner_text(".evidence.against")
        for part in ("few steps", "neighbors is not given: no datastore", "Shortened here: texts to"):
            assert part in frame.inner_text(".about")


def test_a_sum_of_queries_is_called_so(opened):
    with opened(3) as (_, frame):
        assert "Sum of 64 queries" in frame.inner_text("[aria-selected=true]")
        assert "Queries" in frame.inner_text(".facts")
        assert "Prediction" not in frame.inner_text(".facts")
        assert "The sum of all queries has no text." in frame.inner_text(".query")


@pytest.mark.parametrize("probe", [0, 1])
def test_records_of_which_much_is_missing_are_drawn(opened, probe):
    with opened(probe, name="bare") as (_, frame):
        assert frame.locator(".card.facts").count() >= 2
        assert frame.locator(".notice.error").count() == 0
        for word in ("undefined", "NaN", "null"):
            assert word not in frame.inner_text(".record")


def _each(frame):
    for option in frame.locator(".option").all():
        option.click()
        frame.wait_for_selector(".body[aria-busy=false]")
        yield frame.inner_text(".bar .title")


def test_every_text_stands_out_in_both_themes(opened):
    with opened() as (page, frame):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            frame.wait_for_selector(f":root[data-theme={scheme}]", state="attached")
            for title in _each(frame):
                assert frame.evaluate(tab.FAINT) == [], f"{title}, {scheme}"


def test_at_twice_the_size_nothing_needs_scrolling_sideways(opened):
    boxes = "[...document.querySelectorAll('html, .side, .bar, .body, .card')]"
    wide = "(e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1"
    with opened(width=640, height=500) as (_, frame):
        for title in _each(frame):
            assert frame.evaluate(f"{boxes}.filter({wide}).map((e) => e.outerHTML.slice(0, 100))") == [], title


def test_every_table_has_headers_and_a_name(frame):
    tables = frame.locator(".evidence table")
    assert tables.count() == 4
    for table in tables.all():
        assert table.locator("caption").count() == 1
        heads = table.locator("thead th[scope=col]").count()
        assert heads == table.locator("thead th").count() == table.locator("tbody tr").first.locator("td, th").count()
        assert table.locator("tbody th[scope=row]").count() == table.locator("tbody tr").count()
