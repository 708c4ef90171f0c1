"""The Interpret tab in a real browser, inside a real TensorBoard."""

import random
import re
from dataclasses import replace

import boards
import pytest
import tab
from records import NASTY, row

pytestmark = boards.needs_browser

RUN = "a run/ü & #1"
PROBE = "interpret/saliency/probe_0"
WORDS = "nothing here is great and awful at the same time"
SPREAD = [i / 10 for i in range(-10, 11)]
RTL = "مرحبا بالعالم هذا فيلم جيد جدا"


def _write(folder):
    rng = random.Random(0)
    with boards.Events(folder / RUN) as events:
        for step in range(10, 60, 10):
            scores = [0.0, 0.1, 0.0, 1.0 + step / 100, 0.0, -0.8, 0.0, 0.1, 0.0, -step / 200]
            events.row(row(WORDS, scores, example_id=3, gold="negative"), probe=0, step=step)
            events.row(row([f"w{i}" for i in range(21)], SPREAD, example_id=4), probe=1, step=step)
            events.row(row(RTL, [rng.gauss(0, 1) for _ in RTL.split()]), probe=2, step=step)
            events.row(row(NASTY, [rng.gauss(0, 1) for _ in NASTY]), probe=3, step=step)
            text = "{broken <b>raw</b>" if step == 50 else boards.payload([row("a b").to_dict()], step=step)
            events.text("interpret/saliency/probe_4", step, text)
        events.row(row("dies ist ein sehr langes Wort " + "x" * 600, target_name="label " * 60), probe=5, step=10)
        events.row(row(["寿司", "が", "大好き"], segment=(0, 0, 0, 1, 1)), probe=6, step=10)
        tree = [{"text": "<i>some</i> text", "neighbours": [{"id": i, "shares": {"a": 0.5}} for i in range(3)]}]
        events.text("interpret/neighbors/probe_0", 10, boards.payload(tree, "neighbours_of_mine", schema=2))
        sparse = [{}, {"tokens": ["one", "two"], "scores": [1, None]}, row("third here", prediction=None).to_dict()]
        features = row(
            "0 1 2", [1.0, -2.0, 0.5], units="feature", special=(False,) * 5, reasons={"steps": "none taken"}
        )
        features = replace(features, attribution_target=9.25, baseline_entropy=0.42)
        events.row(features, step=10, name="sparse", probe=3)
        events.text("interpret/sparse/probe_0", 10, boards.payload(sparse))
        events.text("interpret/sparse/probe_1", 10, boards.payload([]))
        events.text("interpret/sparse/probe_2", 10, boards.payload([None, 3]))
        events.text("<b>tag</b>", 10, boards.payload([row("no form").to_dict()]))
    with boards.Events(folder / "other") as events:
        events.row(row("another run"), probe=0, step=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    _write(folder)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with boards.served(folder, "--reload_interval", "1", "--path_prefix", "/some/where") as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with boards.browser() as chromium:
        yield chromium


@pytest.fixture
def opened(chromium, address):
    def opened(probe=0, name="saliency", step=None, **options):
        return tab.opened(chromium, address, tab.hash_of(f"interpret/{name}/probe_{probe}", RUN, step=step), **options)

    return opened


def _at(frame, step, **options):
    frame.wait_for_selector(f".body[data-step='{step}']", **options)


def _each(frame):
    """Go to each example of the list in turn."""
    for option in frame.locator(".option").all():
        option.click()
        frame.wait_for_selector(".body[aria-busy=false]")
        yield frame.inner_text(".bar .title")


def _go(frame, tag):
    """Go to the example of a tag in the tab's list."""
    frame.fill("input[type=search]", tag)
    frame.click(".option")
    frame.wait_for_selector(".body[aria-busy=false]")


def _active(frame):
    return frame.evaluate("document.activeElement.textContent || document.activeElement.className")


def _background(frame, word):
    script = "(e) => {" + tab.COLOURS + "return behind(e) }"
    return frame.locator(".unit", has_text=re.compile(f"^{word}$")).evaluate(script)


def test_words_are_shown_in_the_colours_of_their_scores_and_numbers_in_tip_and_table(opened):
    with opened(0) as (_, frame):
        assert frame.locator(".unit").all_inner_texts() == ["[CLS]", *WORDS.split(), "[SEP]"]
        great, awful, none = (_background(frame, word) for word in ("great", "awful", "here"))
        assert great[2] > great[0] + 40  # bluish
        assert awful[0] > awful[2] + 40  # orange
        assert max(none[:3]) - min(none[:3]) < 40
        frame.locator(".unit", has_text="great").hover()
        assert "+1.5" in frame.inner_text(".tip")
        rows = [re.split(r"\s+", text.strip()) for text in frame.locator("tbody tr").all_inner_texts()]
        assert rows[4][:3] == ["5", "great", "+1.5"]
        facts = frame.inner_text(".facts")
        for text in ("positive", "✗ wrong", "negative", "logit of positive", "pad", "0.12 %", "within its tolerance"):
            assert text in facts
        assert frame.inner_text(".legend").split() == ["−1.5", "against", "positive", "for", "positive", "+1.5"]


def test_charts_say_drift_and_target_over_the_steps(opened):
    with opened(0) as (_, frame):
        names = frame.locator(".charts figcaption b").all_inner_texts()
        assert names == ["Drift", "Target, logit", "Attribution error"]
        drift = frame.locator(".chart").first
        assert drift.locator("circle").count() == 4
        assert drift.locator("path.line").get_attribute("d").count("L") == 3
        drift.locator("circle").first.click()
        _at(frame, 20)


def test_the_slider_moves_through_the_steps(opened):
    with opened(0) as (_, frame):
        slider = frame.locator("input[type=range]")
        assert slider.get_attribute("aria-valuetext") == "step 50, 5 of 5"
        slider.fill("1")
        _at(frame, 20)
        assert "Step 20" in frame.inner_text(".step")
        assert slider.get_attribute("aria-valuetext") == "step 20, 2 of 5"
        assert "+1.2" in frame.locator(".unit", has_text="great").get_attribute("aria-label")
        slider.press("ArrowLeft")
        _at(frame, 10)
        frame.click("text=Latest")
        _at(frame, 50)


def test_the_page_reloaded_keeps_example_step_and_choices(opened):
    with opened(1, alone=False) as (page, frame):
        frame.click(".option:has-text('nothing here')")
        frame.wait_for_selector("h1:text-is('Probe 0')")
        frame.locator("input[type=range]").fill("2")
        _at(frame, 30)
        frame.click("button:text-is('Tokens')")
        frame.wait_for_selector("caption:text('tokens')")
        page.reload()
        frame = tab.frame_of(page)
        _at(frame, 30)
        assert frame.inner_text("h1") == "Probe 0"
        assert frame.inner_text("caption") == "Scores of 12 tokens"


def test_a_link_leads_to_its_step_or_where_it_names_none_to_the_last(opened):
    with opened(0, step=30) as (_, frame):
        _at(frame, 30)
        frame.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
        frame.click("text=Copy link")
        frame.wait_for_selector("button:text-is('Copied')")
        link = frame.evaluate("copied")
        assert link.split("#")[1] == f"interpret&{tab.hash_of('interpret/saliency/probe_0', RUN, step=30)}"
    with opened(0, step="soon") as (_, frame):
        _at(frame, 50)


def test_new_steps_come_with_tensorboards_reload_and_the_chosen_step_stays(chromium, tmp_path):
    with boards.Events(tmp_path / "live") as events:

        def write(step):
            for name in ("saliency", "occlusion"):
                events.row(row("good bad", scores=[step, -1.0], example_id=3), step=step, name=name)

        write(10)
        write(20)
        events.row(row("another one", example_id=4), step=20, probe=1)
        events.flush()
        with (
            boards.served(tmp_path, "--reload_interval", "1", "--load_fast", "false") as address,
            tab.opened(chromium, address, tab.hash_of(PROBE, "live"), alone=False) as (page, frame),
        ):

            def reload(step):
                write(step)
                events.flush()
                newest = f"fetch('./tags').then(r => r.json()).then(a => a.tags[0].last_step === {step})"
                for _ in range(100):
                    if frame.evaluate(newest):
                        break
                    page.wait_for_timeout(100)
                page.evaluate("document.querySelector('.reload-button').click()")  # a real click would take the focus
                frame.wait_for_selector(f"input[type=range][max='{step // 10 - 1}']", state="attached")

            _at(frame, 20)
            reload(30)  # followed: nothing was chosen
            _at(frame, 30)
            frame.locator("input[type=range]").fill("0")
            _at(frame, 10)
            frame.locator(".unit", has_text="good").focus()
            reload(40)
            assert frame.get_attribute(".body", "data-step") == "10"
            assert "Step 10" in frame.inner_text(".step")
            assert _active(frame) == "good"  # the reader's place in the words
            frame.press("body", "]")
            _at(frame, 20)
            frame.fill("input[type=search]", "good")
            frame.click(".elsewhere summary")
            frame.click(".elsewhere .check:has-text('occlusion')")
            frame.wait_for_selector(".column >> nth=1")
            frame.locator(".column >> nth=1").locator(".unit", has_text="bad").focus()
            reload(50)
            assert frame.get_attribute(".body", "data-step") == "20"
            assert frame.evaluate("document.activeElement.closest('[data-pane]').dataset.pane") != "shown"
            assert "step 20" in frame.locator(".column .name").nth(1).inner_text()
            assert frame.input_value("input[type=search]") == "good"
            assert frame.inner_text(".count") == "2 of 3 examples"


def test_tensorboards_own_button_turns_the_tab_dark(opened):
    with opened(1, alone=False) as (page, frame):
        before = frame.evaluate("getComputedStyle(document.body).backgroundColor")
        assert frame.evaluate("document.documentElement.dataset.theme") == "light"
        page.click("app-header-dark-mode-toggle button")
        page.click("[role=menuitem]:has-text('dark')", timeout=5000)
        frame.wait_for_selector(":root[data-theme=dark]", state="attached")
        assert frame.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_every_text_of_every_example_stands_out_from_what_is_behind_it(opened):
    with opened(1) as (page, frame):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            frame.wait_for_selector(f":root[data-theme={scheme}]", state="attached")
            for title in _each(frame):
                if frame.locator(".unit").count() > 3:
                    frame.locator(".unit").nth(3).focus()  # with its tip
                assert frame.evaluate(tab.FAINT) == [], f"{title}, {scheme}"


def test_the_keyboard_alone_is_enough(opened):
    with opened(0, alone=False) as (page, frame):
        page.evaluate("document.querySelector('iframe').contentWindow.focus()")
        key = page.keyboard.press
        for _ in range(12):
            key("Tab")
            if frame.evaluate("document.activeElement.getAttribute('role')") == "listbox":
                break
        assert frame.evaluate("document.activeElement.getAttribute('role')") == "listbox"
        key("ArrowDown")
        key("ArrowDown")
        chosen = frame.locator("[aria-selected=true]")
        assert chosen.get_attribute("id") == frame.get_attribute("[role=listbox]", "aria-activedescendant")
        key("Home")
        key("j")
        key("k")
        key("[")
        key("/")
        assert frame.evaluate("document.activeElement.type") == "search"
        page.keyboard.type("great [")
        frame.wait_for_selector(".count:has-text('0 of')")
        for _ in " [":
            key("Backspace")
        frame.wait_for_selector(".count:has-text('1 of')")


def test_words_are_walked_by_arrow_keys_and_stay_in_focus_over_the_steps(opened):
    with opened(0) as (page, frame):
        frame.locator(".unit").first.focus()
        key = page.keyboard.press
        for _ in range(4):
            key("ArrowRight")
        assert _active(frame) == "great"
        assert "+1.5" in frame.inner_text(".tip")
        key("[")
        _at(frame, 40)
        assert _active(frame) == "great"
        assert "+1.4" in frame.inner_text(".tip")
        key("Escape")
        assert frame.locator(".tip").is_hidden()
        key("End")
        assert _active(frame) == "[SEP]"
        _go(frame, "saliency/probe_2")
        frame.locator(".unit").nth(1).focus()
        page.keyboard.press("ArrowLeft")
        assert _active(frame) == RTL.split()[1]


def test_keys_that_take_a_modifier_to_type_work_and_those_of_the_browser_are_left_alone(opened):
    press = "(how) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '[', bubbles: true, ...how }))"
    with opened(0) as (_, frame):
        frame.evaluate(press, {"ctrlKey": True})
        frame.evaluate(press, {"metaKey": True})
        assert "Step 50" in frame.inner_text(".step")
        frame.evaluate(press, {"ctrlKey": True, "altKey": True, "modifierAltGraph": True})
        _at(frame, 40)
        frame.evaluate(press, {"altKey": True})
        _at(frame, 30)


def test_choosing_a_run_or_a_unit_by_keyboard_keeps_the_focus(opened):
    with opened(0) as (page, frame):
        frame.locator(".runs summary").focus()
        page.keyboard.press("Enter")
        frame.locator(".runs input").first.focus()
        page.keyboard.press("Space")
        frame.wait_for_selector(".runs summary:text('1 of 2')")
        assert frame.evaluate("document.activeElement.dataset.key") == f"run/{RUN}"
        frame.locator("button:text-is('Tokens')").focus()
        page.keyboard.press("Enter")
        frame.wait_for_selector("caption:text('tokens')")
        assert _active(frame) == "Tokens"


def test_tokens_are_text_and_never_markup(opened):
    with opened(3) as (_, frame):
        assert "<b>x</b>" in frame.locator(".unit").all_inner_texts()
        assert frame.locator(".body :is(b.unit, .unit *, th bdi *, script, img, a)").count() == 0
        assert frame.locator(".body b", has_text=re.compile("^x$")).count() == 0
        assert frame.locator("script").count() == 0
        _go(frame, "saliency/probe_4")
        frame.click("summary:has-text('As it was written')")
        frame.wait_for_selector("pre:text-is('{broken <b>raw</b>')")


def test_a_broken_payload_is_an_error_card_and_the_other_steps_stay_usable(opened):
    with opened(4) as (_, frame):
        assert frame.locator(".notice.error[role=alert]").inner_text().startswith("This step cannot be read")
        assert "The payload is not JSON" in frame.inner_text(".notice.error")
        frame.press("body", "[")
        _at(frame, 40)
        assert frame.locator(".unit").all_inner_texts() == ["[CLS]", "a", "b", "[SEP]"]
        assert frame.locator(".notice.error").count() == 0
        frame.press("body", "]")
        _at(frame, 50)
        assert frame.locator(".notice.error").count() == 1


def test_a_kind_without_a_renderer_is_shown_as_plain_data(opened):
    with opened(0, name="neighbors") as (_, frame):
        text = frame.inner_text(".card.plain")
        assert "<i>some</i> text" in text
        assert "neighbours" in text
        assert frame.locator(".notice.warn").inner_text().startswith("Written by a later version")


def test_records_of_which_much_is_missing_are_drawn(opened):
    with opened(0, name="sparse") as (_, frame):
        assert frame.locator(".card.facts").count() == 3
        assert frame.locator(".card.scores").count() == 2  # one has no words
        assert frame.locator(".card.about").count() == 1
        assert "undefined" not in frame.inner_text(".body")
        assert "NaN" not in frame.inner_text(".body")
        _go(frame, "sparse/probe_1")
        assert "This step holds no records" in frame.inner_text(".body")
        _go(frame, "sparse/probe_2")
        assert "null" in frame.inner_text(".body")


def test_features_are_called_so_and_reasons_are_given(opened):
    with opened(3, name="sparse") as (_, frame):
        said = frame.inner_text(".facts")
        assert "is to be +9.25" in said  # the method's own target, which is not target − baseline
        assert "logit at pad, entropy 42 %" in said
        assert frame.inner_text("caption") == "Scores of 5 features"
        assert frame.locator("button:text-is('Tokens'), .tools .check").count() == 0
        assert "steps is not given: none taken" in frame.inner_text(".about")


def test_long_names_of_labels_leave_room_for_the_words(opened):
    with opened(5) as (_, frame):
        assert frame.locator(".facts").bounding_box()["height"] < 200
        assert frame.locator(".legend").bounding_box()["height"] < 60
        assert frame.locator(".legend em").first.get_attribute("title").count("label") == 60


def test_texts_from_right_to_left_run_that_way(opened):
    with opened(2) as (_, frame):
        assert frame.get_attribute(".strip", "dir") == "rtl"
        left = [frame.locator(".unit").nth(i).bounding_box()["x"] for i in (1, 2, 3)]
        assert left == sorted(left, reverse=True)


def test_pairs_of_texts_are_told_apart(opened):
    with opened(6) as (_, frame):
        assert frame.locator(".break").all_inner_texts() == ["first", "second"]


def test_at_twice_the_size_nothing_needs_scrolling_sideways(opened):
    boxes = "[...document.querySelectorAll('html, .side, .bar, .body, .card')]"
    wide = "(e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1"
    with opened(0, width=640, height=500) as (_, frame):
        for title in _each(frame):
            assert frame.evaluate(f"{boxes}.filter({wide}).map((e) => e.outerHTML.slice(0, 100))") == [], title


def test_an_empty_folder_says_what_to_do(chromium, tmp_path):
    with (
        boards.served(tmp_path, "--load_fast", "false") as address,
        tab.opened(chromium, address, alone=False, wait=".notice.empty") as (_, frame),
    ):
        assert "Nothing to show yet" in frame.inner_text(".notice.empty")
        assert frame.locator(".bar").is_hidden()
        frame.press("body", "]")
        frame.press("body", "j")
        assert frame.evaluate(tab.FAINT) == []


def _slowly(page, route, seconds, when=lambda url: True):
    """Have the answers of a route come late."""

    def late(handler):
        if when(handler.request.url):
            page.wait_for_timeout(seconds * 1000)
        handler.continue_()

    page.route(f"**/plugin/interpret/{route}?*", late)


def test_keys_pressed_while_an_example_is_on_its_way_neither_lose_nor_mix_it(opened):
    with opened(0) as (page, frame):
        _slowly(page, "steps", 0.4)
        frame.click(".option:has-text('w0 w1')")
        for key in "[[]":
            frame.press("body", key)
        frame.wait_for_selector("h1:text-is('Probe 1')")
        frame.wait_for_selector(".unit:text-is('w3')")
        _at(frame, 50)


def test_an_answer_that_comes_late_is_never_shown_for_another_example(opened):
    with opened(0) as (page, frame):
        _slowly(page, "record", 0.5, when=lambda url: "probe_0" in url)
        frame.press("body", "[")
        page.wait_for_timeout(100)
        frame.click(".option:has-text('w0 w1')")
        frame.wait_for_selector(".unit:text-is('w0')")
        _at(frame, 40)  # the step that was chosen
        page.wait_for_timeout(800)
        assert frame.locator(".unit").nth(1).inner_text() == "w0"


def test_an_example_that_is_gone_says_so_and_the_next_one_is_shown(opened):
    with opened(0, allowed=("404",)) as (page, frame):
        page.route("**/plugin/interpret/steps?*probe_1", lambda handler: handler.fulfill(status=404, body="gone"))
        frame.click(".option:has-text('w0 w1')")
        frame.wait_for_selector(".notice.error:has-text('404 gone')")
        assert frame.locator(".bar").is_hidden()
        frame.press("body", "[")
        page.wait_for_timeout(300)
        assert frame.locator(".notice.error").count() == 1
        frame.click(".option:has-text('nothing here')")
        _at(frame, 50)
        frame.wait_for_selector(".unit:text-is('great')")


def test_holding_a_key_asks_for_one_record_at_a_time(opened):
    with opened(0) as (page, frame):
        asked = []
        page.on("request", lambda request: asked.append(request.url) if "/record?" in request.url else None)
        _slowly(page, "record", 0.3)
        for _ in range(4):
            frame.press("body", "[")
        _at(frame, 10)
        assert len(asked) <= 2


@pytest.mark.slow
def test_facts_come_for_every_example_however_often_the_list_is_read(opened):
    with opened(0, alone=False, height=600) as (page, frame):
        _slowly(page, "latest", 0.3)
        page.reload()
        frame = tab.frame_of(page, "h1")
        frame.evaluate("document.querySelector('.list').scrollTop = 90")
        for _ in range(3):
            page.click(".reload-button")
            page.wait_for_timeout(50)
        frame.wait_for_selector(".option:has-text('another run')")
        assert frame.locator(".option > .muted").count() == 0
        assert frame.evaluate("document.querySelector('.list').scrollTop") == 90


def test_two_thousand_examples_and_twenty_thousand_words_are_shown_and_found(chromium, tmp_path):
    rng = random.Random(0)
    with boards.Events(tmp_path / "many") as events:
        for probe in range(2000):
            events.row(row(f"word{probe} good bad", [rng.gauss(0, 1) for _ in range(3)]), probe=probe, step=10)
        words = [f"word{i}" for i in range(20_000)]
        for step in (10, 20):
            assert events.row(row(words, [rng.gauss(0, 1) for _ in words]), step=step, name="verylong") > 10
    with boards.served(tmp_path) as address, tab.opened(chromium, address) as (_, frame):
        frame.wait_for_selector(".count span:text-is('2001 examples')", timeout=30_000)
        assert frame.locator(".option").count() < 300  # those around what is on screen
        assert frame.locator(".option").first.get_attribute("aria-setsize") == "2001"
        frame.press(".list", "End")
        assert frame.locator(".option[aria-selected=true]").get_attribute("aria-posinset") == "2001"
        frame.wait_for_function("document.querySelectorAll('.unit').length === 20002", timeout=30_000)
        frame.press(".unit[data-index='0']", "[")
        _at(frame, 10, timeout=30_000)
        assert frame.locator("tbody tr").count() == 50
        frame.fill("input[type=search]", "word1234")
        frame.wait_for_selector(".option:has-text('word1234 good bad')", timeout=30_000)
        frame.press(".list", "ArrowDown")
        frame.wait_for_selector("h1:text-is('Probe 1234')")
