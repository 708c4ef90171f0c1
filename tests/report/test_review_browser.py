"""The review in a real browser: it is shown, the language is chosen with the keyboard, nothing is asked for or run."""

import boards
import pytest
import reviews
from records import NASTY

from lightning_interpret.report.review import write_review

pytestmark = boards.needs_browser


@pytest.fixture(scope="module")
def chromium():
    with boards.browser() as chromium:
        yield chromium


@pytest.fixture
def shown(chromium, tmp_path):
    """Open a report as a page; what it asked for and said, and the windows that it opened, stand beside it."""
    pages = []

    def show(report, language="en", **options):
        write_review(tmp_path / "review.html", report, language)
        page = chromium.new_page(**options)
        page.asked, page.told = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.told.append(message.text))
        page.on("dialog", lambda dialog: (page.told.append(dialog.message), dialog.dismiss()))
        page.goto((tmp_path / "review.html").as_uri())
        pages.append(page)
        return page

    yield show
    for page in pages:
        page.close()


def test_a_language_is_chosen_with_the_keyboard_and_no_script(shown):
    page = shown(reviews.usual(), java_script_enabled=False)
    assert page.inner_text("h1") == "What the model gets wrong, and what to check"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("h1") == "模型错在哪里，需要检查什么"
    assert "The model said" not in page.inner_text("main")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("h1").startswith("What the model")
    assert "模型的回答" not in page.inner_text("main")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith("#todo")
    assert len(page.asked) == 1


def test_the_language_that_was_asked_for_is_shown_first_and_the_policy_allows_the_style(shown):
    page = shown(reviews.usual(), "zh")
    assert page.inner_text("h1") == page.title() == "模型错在哪里，需要检查什么"
    assert page.evaluate("document.documentElement.lang") == "zh"
    assert page.told == []
    assert page.evaluate("getComputedStyle(document.querySelector('mark.against')).textDecorationStyle") == "dotted"


# The contrast of the ink of every element that has a text with the ground below it, as WCAG measures it.
CONTRASTS = """() => {
    const linear = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const colour = (e, name) => getComputedStyle(e)[name].match(/[\\d.]+/g).map(Number);
    const ground = (e) => !e ? [255, 255, 255] : colour(e, "backgroundColor")[3] !== 0
        ? colour(e, "backgroundColor") : ground(e.parentElement);
    return [...document.querySelectorAll("main *, header *")].filter((e) => e.innerText?.trim()).map((e) => {
        const [a, b] = [light(colour(e, "color")), light(ground(e))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    });
}"""


def test_no_page_is_wider_than_its_window_and_words_stand_out(shown):
    page = shown(reviews.usual())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for width in (320, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        texts = page.locator("td:has(> bdi)").evaluate_all("(all) => all.map((each) => each.clientWidth)")
        assert min(texts) > 120  # a text in a table is not one word wide
        sure = page.get_by_role("columnheader", name="How sure", exact=True).first.bounding_box()
        assert sure["x"] + sure["width"] <= width  # and what stands beside it is on the screen
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert min(page.evaluate(CONTRASTS)) >= 4.5
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 25, 28)"


def test_a_heading_is_read_out_in_one_language_and_texts_keep_their_direction(shown):
    page = shown(reviews.usual())
    assert page.get_by_role("heading", name="What to check, the most important first", exact=True).count() == 1
    assert page.get_by_role("region", name="How to read this page", exact=True).count() == 1
    assert page.get_by_role("radio", name="中文").count() == 1
    assert page.get_by_role("group", name="Language").count() == 1
    assert page.get_by_role("columnheader", name="Proposed label", exact=True).count() == 1
    for word, side in (("الطعام", "rtl"), ("soup", "ltr")):
        text = page.locator("p.text", has_text=word).first
        assert text.evaluate("each => getComputedStyle(each).direction") == side


def test_no_text_is_run_and_nothing_is_asked_for(shown):
    markup = ["</style></script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "' onmouseover='alert(1)"]
    page = shown(reviews.of_text(" ".join([*markup, "<style>body{background:url(//x.invalid)}</style>", *NASTY])))
    assert page.evaluate("document.scripts.length + document.images.length + document.styleSheets.length") == 1
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.hover("article.case")
    assert page.told == []
    assert len(page.asked) == 1


def test_on_paper_there_is_no_switch_and_marks_keep_their_shape(shown):
    page = shown(reviews.usual(), color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.is_visible("fieldset.switch")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('mark.against')).borderTopStyle") == "dotted"
