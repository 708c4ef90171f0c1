"""Bad cases in the Interpret tab, beside other records of the same examples, in a real browser."""

import json
from dataclasses import replace

import boards
import pytest
import tab
from bad_case_records import CASE, GROUP, OTHER, OVERVIEW, RELABEL, SHORTCUT, TEXT
from records import row

from lightning_interpret.bad_cases import RowEdit
from lightning_interpret.report import interpret_summary

pytestmark = boards.needs_browser

SCORES = [0.1, 0.2, 0.0, -1.5, 0.1, 3.0, 0.0]
MARKUP = "<img src=x onerror=alert(1)></script><b>x</b>\u202eevil\x00 مرحبا 寿司"
TURNED = "<img src=x onerror=alert(1)></script><b>x</b>\\u202eevil\\u0000 مرحبا 寿司"


def _put(events, record, probe, step, name="bad_case"):
    """Write a record as a Monitor does, on one page."""
    text = boards.payload([json.loads(json.dumps(record.to_dict()))], record.kind, step, monitor=name, probe=probe)
    content = json.dumps({"version": 1, "kind": record.kind}).encode()
    events.text(interpret_summary.tag(name, probe), step, text, content)


def _write(folder):
    for run, answer in (("before", "positive"), ("after", "negative")):
        with boards.Events(folder / run) as events:
            for step in (100, 200):
                _put(events, OVERVIEW, 0, step)
                _put(events, replace(GROUP, size=step // 10), 1, step)
                _put(events, replace(CASE, prediction=answer), 2 if run == "before" else 3, step)
                _put(events, OTHER, 3 if run == "before" else 2, step)  # places are not the same in two runs
                events.row(row(TEXT, SCORES, example_id=7, gold="negative", prediction=answer), step=step)
                turned = row(TEXT, [-score for score in SCORES], example_id=7, gold="negative", prediction=answer)
                events.row(turned, step=step, name="occlusion")
            turned = RowEdit("train", 11, "positive", None, "not cold soup", None, "'not' put in", new=True)
            action = replace(RELABEL.action, edits=(*RELABEL.action.edits, turned))
            _put(events, replace(RELABEL, action=action), 4, 200)
            events.row(CASE.neighbors, step=150, name="neighbors")
            events.row(row("the soup was good", example_id=8), probe=1, step=100)
    with boards.Events(folder / "odd") as events:
        nasty = replace(SHORTCUT, cue=MARKUP, evidence=(MARKUP,), against=(MARKUP,), measured={MARKUP: 1.5})
        case = replace(CASE, text=MARKUP, cue=MARKUP, prediction=MARKUP, gold=MARKUP, verdicts=(nasty,))
        _put(events, replace(case, probabilities={MARKUP: 1.0}, badness=MARKUP, why=MARKUP), 2, 10)
        edits = tuple(replace(edit, text=MARKUP, label=MARKUP, why=MARKUP) for edit in RELABEL.action.edits)
        action = replace(RELABEL.action, what=MARKUP, sentence=MARKUP, edits=edits, slice=MARKUP)
        members = (replace(GROUP.members[0], text=MARKUP, gold=MARKUP, prediction=MARKUP),)
        _put(events, replace(GROUP, cue=MARKUP, action=action, members=members, evidence=(MARKUP,)), 1, 10)
        _put(events, replace(OVERVIEW, groups=(replace(OVERVIEW.groups[0], cause=MARKUP, action=MARKUP),)), 0, 10)
        for probe, kind in enumerate(("bad_cases", "bad_case_group", "bad_case"), 5):
            events.text(f"interpret/bad_case/probe_{probe}", 10, boards.payload([{}], kind))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    _write(folder)
    with boards.served(folder, "--reload_interval", "0") as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with boards.browser() as chromium:
        yield chromium


@pytest.fixture
def opened(chromium, address):
    def opened(probe=0, name="bad_case", run="before", more="", **options):
        asked = tab.hash_of(f"interpret/{name}/probe_{probe}", run, step=options.pop("step", None)) + more
        return tab.opened(chromium, address, asked, **options)

    return opened


def _read(frame):
    """Wait until the facts of every example are there."""
    frame.wait_for_function("document.querySelector('.count').textContent.match(/example/)")
    frame.wait_for_function("!document.querySelector('.count').textContent.includes('so far')")
    return frame


def _rows(frame, title):
    table = frame.locator(".body .evidence", has=frame.locator(f"h2:text-is('{title}')"))
    return [" ".join(line.split()) for line in table.locator("tbody tr").all_inner_texts()]


def test_a_long_record_scrolls_in_its_own_place_and_makes_no_page_longer(opened):
    with opened(4, height=400) as (_, frame):
        frame.wait_for_selector("caption.hidden", state="attached")
        assert frame.evaluate("document.querySelector('main').scrollHeight") > 500
        assert frame.evaluate("document.documentElement.scrollHeight") == 400


def test_from_the_overview_to_a_group_to_a_case_and_back(opened):
    with opened() as (_, frame):
        facts = " ".join(frame.inner_text(".facts").split())
        for said in ("Looked through 200", "Wrong 30", "sure of it 12", "Right, but not sure of it 8", "of 38 bad"):
            assert said in facts
        first, last = _rows(frame, "Groups of causes")
        assert first.startswith("Shortcut: tuesday a word or phrase")
        assert first.endswith("Add rows with 'tuesday'. 12 growing 90 % 40 % of 20")
        assert last.startswith("Far from training data")
        assert last.endswith("0 solved 0 % –")
        frame.click(".groups a:has-text('Shortcut: tuesday')")
        frame.wait_for_selector("h1:text-is('Group 1')")
        frame.click(f".rows a:has-text('{TEXT}')")
        frame.wait_for_selector("h1:text-is('Case 2')")
        frame.click(".sentence a:has-text('Shortcut: tuesday')")
        frame.wait_for_selector("h1:text-is('Group 1')")
        assert "Group 1" not in frame.inner_text(".option[aria-selected=true]")  # it says which one
        assert frame.inner_text(".option[aria-selected=true] .text") == "Shortcut: tuesday"


def test_a_group_says_its_cause_its_evidence_and_what_to_do_about_it(opened):
    with opened(1) as (_, frame):
        assert _rows(frame, "What was measured")[:2] == ["training share 0.97 ≥ 0.8", "rows with it 120 ≥ 5"]
        assert "97 % are labelled positive" in frame.inner_text(".evidence.for")
        assert "One example that is right turns wrong" in frame.inner_text(".evidence.against")
        assert "Balance: Add rows in which 'tuesday'" in frame.inner_text(".action")
        assert "interpret/bad_case/slice/shortcut_tuesday" in frame.inner_text(".action")
        added = _rows(frame, "Rows to add")
        assert added[1] == "tuesday cold soup 50 training data with 'tuesday' negative"
        assert _rows(frame, "Its cases") == [f"{TEXT} 7 wrong, and sure of it negative positive at 95 % 90 %"]
        assert "19 more are not listed." in frame.inner_text(".body")
        sizes = frame.locator(".chart", has_text="of this group").locator("svg")
        assert sizes.get_attribute("aria-label") == "Cases: 12 at step 200; from 4 to 12 over 2 steps"
        sizes.locator("circle").first.click()
        frame.wait_for_selector(".body[data-step='100']")
        frame.click(".option:has-text('Wrong training labels')")
        frame.wait_for_selector("h2:text-is('Rows to change')")
        assert _rows(frame, "Rows to change")[0] == (
            "cold soup 11 training data 9 of 10 neighbours are negative positive negative 80 %"
        )
        assert _rows(frame, "Rows to add") == ["not cold soup 11 training data 'not' put in a person has to say"]


def test_a_case_stands_with_its_explanations_side_by_side(opened):
    with opened(2) as (_, frame):
        assert frame.locator(".body .unit").all_text_contents() == TEXT.split()
        assert "by deep_lift" in frame.inner_text(".body")
        verdicts = frame.locator(".verdicts details")
        assert verdicts.locator("summary").all_inner_texts() == [
            "Shortcut: tuesday holds · confidence 90 %", "Far from training data does not hold · confidence 20 %",
        ]  # fmt: skip
        assert "97 % are labelled positive" in verdicts.first.inner_text()
        facts = " ".join(frame.inner_text(".facts >> nth=0").split())
        assert "Far from training data 40 % of right validation examples lie nearer to their neighbours" in facts
        assert _rows(frame, "Without some words") == ["tuesday turns to negative 0.87 95 % 8 %"]
        assert _rows(frame, "Probabilities") == ["positive 95 %", "negative gold label 5 %"]
        assert len(_rows(frame, "Nearest")) == 3
        assert len(_rows(frame, "Harmful")) == 2
        assert "wrong, and sure of it" in frame.inner_text(".facts >> nth=0")
        frame.click(".option:has-text('Case 3 · example 9')")
        frame.wait_for_selector("h1:text-is('Case 3')")
        frame.wait_for_selector(".body[aria-busy=false]")
        assert "attribution is not given: `max_seconds` was spent" in frame.inner_text(".about")
        assert "No rule had anything to say." in frame.inner_text(".body")
        assert frame.locator(".body .unit").count() == 0


def test_texts_of_bad_cases_are_text_and_what_is_missing_is_left_out(opened):
    with opened(0, run="odd") as (page, frame):
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        _read(frame)
        for tag in (0, 1, 2, 5, 6, 7):
            frame.fill("input[type=search]", f"bad_case/probe_{tag}")
            frame.click(".group[aria-label^='odd'] .option")
            frame.wait_for_selector(".body[aria-busy=false]")
            body = frame.inner_text("body")
            assert tag > 2 or TURNED in body
            assert not set(body) & set("\u202e\x00")
            assert not any(word in body for word in ("undefined", "NaN", "[object"))
            assert frame.locator("img, script, .body bdi b, .option b").count() == 0
        assert all("/interpret/" in url for url in asked)


@pytest.mark.slow
def test_every_bad_case_is_readable_in_both_themes_and_on_a_narrow_screen(opened):
    wide = "(e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1"
    with opened(0, width=500) as (page, frame):
        for name in ("Overview", "growing", "Case 2", "Wrong training labels"):
            frame.click(f".group[aria-label^='before'] .option:has-text('{name}')")
            frame.wait_for_selector(".body[aria-busy=false]")
            boxes = "[...document.querySelectorAll('html, .side, .bar, .body, .card')]"
            assert frame.evaluate(f"{boxes}.filter({wide}).map((e) => e.outerHTML.slice(0, 100))") == [], name
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                frame.wait_for_selector(f":root[data-theme={scheme}]", state="attached")
                assert frame.evaluate(tab.FAINT) == [], f"{name}, {scheme}"


def test_other_records_of_the_example_stand_beside_at_the_step_or_before_it(opened):
    with opened(name="saliency") as (page, frame):
        _read(frame)
        frame.click(".elsewhere summary:text-is('This example elsewhere: 3')")
        choices = frame.locator(".elsewhere .check")
        said = ["bad_case why it is a bad case", "neighbors neighbours", "occlusion saliency"]
        assert choices.all_inner_texts() == said
        choices.nth(1).click()
        choices.nth(2).click()
        frame.wait_for_selector(".column >> nth=2")
        frame.press(".elsewhere .check >> nth=2 >> input", "Escape")
        assert frame.inner_text(".elsewhere") == "This example elsewhere: 2 of 3 beside"
        names = [" ".join(name.split()) for name in frame.locator(".column .name").all_inner_texts()]
        assert names == ["saliency before · step 200", "neighbors before · step 150", "occlusion before · step 200"]
        assert frame.locator(".column").nth(1).locator(".evidence tbody tr").count() >= 3
        assert "cosine of both scores is −0.989" in frame.inner_text(".changes")
        assert "Of the 5 strongest tokens of one, 5 are" in frame.inner_text(".changes")
        frame.locator(".column").nth(2).locator(".unit:text-is('cold')").focus()
        frame.press("body", "[")
        frame.wait_for_selector(".body[data-step='100']")
        assert frame.evaluate("document.activeElement.closest('[data-pane]').querySelector('h2').textContent") == (
            "occlusion"
        )
        assert "step 100" in frame.locator(".column .name").nth(2).inner_text()
        assert "first written at a later step" in frame.locator(".column").nth(1).inner_text()
        frame.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
        frame.click("text=Copy link")
        link = frame.evaluate("copied").split("#interpret&")[1]
        page.reload()
        frame.wait_for_selector(".column >> nth=2")  # as the reader left it
    with tab.opened(page.context.browser, page.url.split("data/")[0], link) as (_, frame):
        frame.wait_for_selector(".column >> nth=2")
        assert frame.get_attribute(".body", "data-step") == "100"
        frame.click(".column .name a:has-text('occlusion')")
        frame.wait_for_selector("h1 + p:has-text('occlusion')")


@pytest.mark.slow
@pytest.mark.parametrize("beside", ["[", "3", '["x"]', '[["a","b","c"],[1,2],["no","such"]]'])
def test_a_link_that_puts_nothing_known_beside_shows_the_example_alone(opened, beside):
    with opened(name="saliency", more=f"&p.interpret.beside={beside}&p.interpret.with=gone") as (_, frame):
        assert frame.locator(".column").count() == 0
        frame.wait_for_selector(".notice:has-text('The run gone has no record of this example')")


def test_two_runs_are_compared_example_by_example(opened):
    with opened(2) as (_, frame):
        _read(frame)
        frame.select_option("select[aria-label='Compare with run']", "after")
        frame.wait_for_selector(".column >> nth=1")
        assert "Fixed: positive (wrong) at 95 % → negative (right) at 95 %" in frame.inner_text(".changes")
        assert frame.inner_text(".column >> nth=1 >> .name").split()[1] == "after"
        before = frame.locator(".group[aria-label='before · bad_case']")
        assert [("→ fixed" in text) for text in before.locator(".option").all_inner_texts()] == [
            False, False, True, False, False,
        ]  # fmt: skip
        frame.select_option("select[aria-label='Changed']", label="fixed there")
        frame.wait_for_selector(".count:has-text('3 of 24')")
        frame.click(".option:has-text('Case 2')")
        frame.select_option("select[aria-label='Compare with run']", "before")
        assert frame.locator(".column").count() in (0, 2)  # on its way
        frame.wait_for_function("!document.querySelector('.column')")  # with itself there is nothing to compare
    with opened(1, more="&p.interpret.with=after") as (_, frame):
        frame.wait_for_selector(".column >> nth=1")
        assert "Cases in the group 20 20 the same" in " ".join(frame.inner_text(".changes").split())
    with opened(2, run="after", more="&p.interpret.with=before") as (_, frame):
        frame.wait_for_selector("h1:text-is('Case 2')")
        frame.click(".group[aria-label='after · bad_case'] .option:has-text('example 7')")
        frame.wait_for_selector(".changes .bad:has-text('Broke: negative (right)')")


def test_examples_are_filtered_by_keyboard_and_each_control_has_a_name(opened):
    with opened() as (page, frame):
        _read(frame)
        frame.locator(".more summary").focus()
        page.keyboard.press("Enter")
        for _ in range(20):
            page.keyboard.press("Tab")
            if frame.evaluate("document.activeElement.getAttribute('aria-label')") == "Cause":
                break
        page.keyboard.type("Sho")
        frame.wait_for_selector(".more summary:text-is('Filters: 1 on')")
        assert frame.inner_text(".count") == "6 of 24 examples"
        frame.select_option("select[aria-label='Predicted label']", "negative")
        frame.wait_for_selector(".count:has-text('1 of 24')")
        assert frame.evaluate("document.querySelector('select[aria-label=Cause]').value") == "Shortcut"
        frame.click("text=Clear filters")
        frame.wait_for_selector(".count span:text-is('24 examples')")
        frame.fill("input[aria-label='Last step up to']", "100")
        frame.press("input[aria-label='Last step up to']", "Enter")
        frame.wait_for_selector(".count:has-text('8 of 24')")
        named = frame.evaluate(
            "[...document.querySelectorAll('button, select, input, summary, [role=listbox]')]"
            ".filter((e) => !(e.getAttribute('aria-label') || e.textContent || e.labels?.[0]?.textContent).trim())"
            ".map((e) => e.outerHTML)"
        )
        assert named == []


def test_what_is_listed_is_saved_and_the_record_on_screen(opened):
    with opened(2) as (page, frame):
        frame.fill("input[type=search]", "shortcut")
        _read(frame)
        frame.wait_for_selector(".count:has-text('6 of')")
        with page.expect_download() as saved:
            frame.click("text=Save records")
        lines = [json.loads(line) for line in saved.value.path().read_text().splitlines()]
        assert saved.value.suggested_filename == "examples.jsonl"
        assert sorted((line["run"], line["tag"][-1]) for line in lines) == [
            ("after", "1"), ("after", "3"), ("before", "1"), ("before", "2"), ("odd", "1"), ("odd", "2"),
        ]  # fmt: skip
        (mine,) = [line for line in lines if (line["run"], line["tag"][-1]) == ("before", "2")]
        assert mine["payload"]["records"] == [json.loads(json.dumps(CASE.to_dict()))]
        with page.expect_download() as saved:
            frame.click("text=Save ids")
        head, *ids = [line.split("\t") for line in saved.value.path().read_text().split("\n")[:-1]]
        assert len(ids) == 6
        assert dict(zip(head, ids[3], strict=True)) == {
            "example_id": "7", "run": "before", "monitor": "bad_case", "probe": "2", "step": "200",
            "gold": "negative", "prediction": "positive", "cause": "shortcut", "cue": "tuesday",
        }  # fmt: skip
        assert frame.inner_text(".saver [role=status]") == "6 saved"
        frame.click(".source summary")
        with page.expect_download() as saved:
            frame.click(".source button:text-is('Save')")
        assert json.loads(saved.value.path().read_text())["records"] == mine["payload"]["records"]
