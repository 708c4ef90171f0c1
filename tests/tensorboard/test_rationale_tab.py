"""Self-explanations in the Interpret tab, in a real browser inside a real TensorBoard."""

import boards
import pytest
import tab
from explained import KINDS, concepts, flags, generated, of_text, of_tokens, rationale, spans

from lightning_interpret.rationales import Concept

pytestmark = boards.needs_browser

MARKUP = "<b>bold</b><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31m \u202eevil **x** `y`"
ARABIC = "مرحبا بالعالم هذا فيلم جيد جدا"
CHINESE = "这部电影很好看"


def _write(folder):
    with boards.Events(folder / "run") as events:
        for step, chosen in ((10, (0, 1)), (20, (1, 2)), (30, (2, 3, 10))):
            row = rationale(loss=1 / step, selected=flags(*chosen), complement=0.35 if step == 30 else 0.80995)
            events.row(row, name="rationale", step=step)
            for kind in ("spans", "concepts", "generated"):
                events.row(KINDS[kind](loss=1 / step), name=kind, step=step)
        for kind, make in KINDS.items():
            events.row(of_text(make, MARKUP), name=kind, probe=1, step=10)
            bare = boards.payload([{}, {"tokens": ["a"], "spans": [{}], "concepts": [{}]}], kind=kind)
            events.text(f"interpret/{kind}/probe_2", 10, bare, content=f'{{"kind": "{kind}"}}'.encode())
        words = ARABIC.split()
        right = rationale(**of_tokens(ARABIC, words), selected=flags(2, 3, words=words), gold_rationale=None)
        events.row(right, name="rationale", probe=3, step=10)
        ideographs = rationale(**of_tokens(CHINESE, list(CHINESE)), selected=flags(4, 5, words=CHINESE))
        events.row(ideographs, name="rationale", probe=4, step=10)
        long = [f"w{i}" for i in range(3000)]
        marks = {"selected": flags(7, 2500, words=long), "gold_rationale": None, "probabilities": None}
        assert events.row(rationale(**of_tokens(" ".join(long), long), **marks), name="rationale", probe=5, step=10) > 2
        many = tuple(Concept(f"concept number {i}", 0.1, 0.9, 3.0 - i / 10, float(i % 2)) for i in range(60))
        events.row(concepts(concepts=many, residual=None), name="concepts", probe=3, step=10)
        events.row(concepts(concepts=(Concept("a", -2.0, 0.1, None, 0.0),)), name="concepts", probe=4, step=10)
        events.row(generated(gold_explanation=None, leaks=False, explanation=" "), name="generated", probe=3, step=10)
        events.row(spans(spans=(), token_weights=(), control=None), name="spans", probe=3, step=10)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    _write(folder)
    with boards.browser() as chromium, boards.served(folder, "--reload_interval", "0") as address:

        def opened(name="rationale", probe=0, **options):
            return tab.opened(chromium, address, tab.hash_of(f"interpret/{name}/probe_{probe}", "run"), **options)

        yield opened


@pytest.fixture(scope="module")
def shown(opened):
    """Show a probe on one page: ``shown("spans", 3)`` returns the frame."""
    with opened() as (page, frame):

        def show(name, probe=0):
            page.evaluate("window.asked = (window.asked ?? 0) + 1")
            option = frame.locator(f".group[aria-label='run · {name}'] .option").nth(probe)
            option.click()
            frame.wait_for_selector(f".bar .title p:has-text('{name}')")
            frame.wait_for_selector(".body[aria-busy=false]")
            return frame

        yield show


def _rows(frame, title):
    table = frame.locator(".evidence", has=frame.locator(f"h2:text-is('{title}')"))
    return [" ".join(row.split()) for row in table.locator("tbody tr").all_inner_texts()]


def _said(frame, selector):
    return " ".join(frame.inner_text(selector).split())


def test_a_selection_stands_out_otherwise_than_by_its_colour(shown):
    frame = shown("rationale")
    assert frame.inner_text(".sentence") == "Wrongly said negative (gold positive) from 'bad film' and 'thin' alone."
    assert frame.locator(".marked mark").all_inner_texts() == ["bad", "film", "thin"]
    weight = "e => getComputedStyle(e).fontWeight"
    assert frame.locator(".marked mark").first.evaluate(weight) == "700"
    assert frame.locator(".marked .faint").first.evaluate(weight) == "400"
    assert frame.locator(".marked .gold").all_inner_texts() == ["Not", "a", "bad", "film"]
    line = frame.locator(".marked .gold bdi").first.evaluate("e => getComputedStyle(e).textDecorationLine")
    assert line == "underline"
    assert "film at all: the plot is thin, but" in frame.inner_text(".marked")
    facts = _said(frame, ".facts")
    assert "Selected 16 % budget 20 %" in facts
    assert "Sufficiency −0.124 p(whole) − p(selection); at random 0.31" in facts
    assert "As people 2 of 4 words; 3 are selected" in facts
    assert _rows(frame, "Probability") == [
        "the selection 93 %", "the whole text 81 %", "the rest alone 35 %", "as many at random 50 %",
        "the rest of that draw 78 %",
    ]  # fmt: skip
    assert "Gate gumbel" in _said(frame, ".about")


def test_gate_probabilities_are_there_when_asked_for(shown):
    frame = shown("rationale")
    gates = frame.locator(".marked .gate")
    assert not gates.first.is_visible()
    frame.check("text=Gate probabilities")
    frame.wait_for_selector(".marked.gates")
    assert gates.nth(2).is_visible()
    assert gates.all_inner_texts()[:4] == ["0.1", "0.1", "0.9", "0.9"]
    assert frame.locator(".marked mark").first.get_attribute("title") == "selected, selected by people, gate 0.9"
    frame.uncheck("text=Gate probabilities")


def test_charts_follow_what_each_kind_is_measured_by(shown):
    found = {}
    for kind in KINDS:
        labels = shown(kind).locator(".charts svg").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
        found[kind] = [label.split(":")[0] for label in labels]
        if kind == "rationale":
            assert labels[3] == "Comprehensiveness: 0.46 at step 30; from 0 to 0.46 over 3 steps"
            assert labels[-1] == "Newly selected: 67 % at step 30; from 50 % to 67 % over 2 steps"
    assert found == {
        "rationale": ["Loss", "Selected", "Sufficiency", "Comprehensiveness", "Newly selected"],
        "spans": ["Loss", "Sharpness", "Foremost weight", "Foremost erased", "Random erased", "Drift"],
        "concepts": ["Loss", "Score F(x)", "Concepts right", "Residual", "Same concepts"],
        "generated": ["Loss", "Log-likelihood", "Overlap", "p", "p, erased"],
    }


def test_spans_stand_beside_the_control_and_their_tokens_weights(shown):
    frame = shown("spans")
    assert _rows(frame, "Spans") == ["bad film 55 % 3–4 +1.4", "plot is thin 20 % 9–11 +0.3"]
    assert "128 more spans share 25 %." in frame.inner_text(".bars")
    assert "Foremost erased falls by 1.4 a random span: falls by 0.05" in _said(frame, ".facts")
    units = frame.locator(".unit").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    assert units[3] == "bad: +0.7"
    assert frame.inner_text(".legend").split("\n") == ["0", "weight of the spans it is in", "+0.7"]
    frame = shown("spans", 3)
    assert "No span has a weight." in frame.inner_text(".bars")
    assert frame.locator(".strip").count() == 0


def test_concepts_stand_with_what_is_known_and_add_up(shown):
    frame = shown("concepts")
    assert _rows(frame, "Concepts") == [
        *("plot +1.5 0.9 90 % 1", "acting ✗ not as it is −0.6 0.8 80 % 0"),
        "price of the ticket set by hand +0.4 1 30 % –",
    ]  # fmt: skip
    assert frame.locator(".bars .share.against").count() == 1
    assert _rows(frame, "What it adds up to") == [
        "3 concepts +1.3", "bias +0.2", "residual, past the concepts +0.1", "= F(x), but for an error of 2.0e−9 +1.6",
    ]  # fmt: skip
    assert "Concepts right 1 of 2 Set by hand 1 concept" in _said(frame, ".facts")
    frame = shown("concepts", 3)
    assert len(_rows(frame, "Concepts")) == 30
    frame.click("text=Show all 60")
    frame.wait_for_function("document.querySelectorAll('.bars tbody tr').length > 60")
    assert "residual" not in _said(frame, ".body")
    frame = shown("concepts", 4)
    assert _rows(frame, "Concepts") == ["a −2 10 % 0"]
    assert frame.locator(".body h2").all_inner_texts() == ["Concepts"]


def test_a_written_explanation_is_a_quotation_and_a_leak_is_said(shown):
    frame = shown("generated")
    assert frame.locator(".quotation").all_inner_texts() == [
        "The model's explanation\nThe plot is thin, so the film is bad.", "A person's\n'Not a bad film' is praise.",
    ]  # fmt: skip
    assert frame.locator(".notice.warn").inner_text().startswith("The explanation leaks")
    facts = _said(frame, ".facts")
    assert "Simulator negative with the explanation, as the model" in facts
    assert "Simulator positive from the input alone, not as the model" in facts
    assert _rows(frame, "Probability") == ["the explanation 93 %", "the explanation erased 52 %"]
    assert "The prediction was made from the words." in _said(frame, ".about")
    frame = shown("generated", 3)
    assert frame.locator(".quotation").all_inner_texts() == ["The model's explanation\nnothing was written"]
    assert frame.locator(".notice").count() == 0


def test_a_text_from_the_right_one_without_gaps_and_a_long_one(shown):
    frame = shown("rationale", 3)
    assert frame.locator(".marked").evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert frame.locator(".marked mark").all_inner_texts() == ["هذا", "فيلم"]
    assert "".join(shown("rationale", 4).inner_text(".marked").split()) == CHINESE
    assert " " not in frame.inner_text(".marked").strip()
    frame = shown("rationale", 5)
    assert frame.locator(".marked mark").all_text_contents() == ["w7", "w2500"]
    assert frame.locator(".marked span.faint").count() == 2998
    assert frame.locator("text=Gate probabilities").count() == 0
    assert "Shortened here: texts to" in frame.inner_text(".about")


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_text_isolated_and_never_markup(shown, kind):
    frame = shown(kind, 1)
    assert "<img src=x onerror=alert(1)>" in frame.inner_text(".body")
    assert "\\u202eevil" in frame.inner_text(".body")
    assert frame.locator(".body :is(script, img, bdi *, a)").count() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_left_out(shown, kind):
    frame = shown(kind, 2)
    assert frame.locator(".card.facts").count() == 2
    assert frame.locator(".notice.error").count() == 0
    for word in ("undefined", "NaN", "null", "[object"):
        assert word not in frame.inner_text(".record")


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
                if "probe_5" not in title and "Probe 5" not in title:
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
