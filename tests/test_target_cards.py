"""Several targets of one example: the record and its JSON, card, Markdown, picture, notebook and pages."""

import json
import math
from dataclasses import replace

import pytest
from records import NASTY
from safe_html import plain, tables
from target_records import VIEWS, answer, arabic, arbitrary, chinese, entities, grid, labels, long_grid, of_text, pair
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.cards import card_of
from lightning_interpret.palette import FOR
from lightning_interpret.records.targets import Target, TargetsRow
from lightning_interpret.records.units import units_of
from lightning_interpret.report import evidence_markdown, evidence_picture, image, markdown, terminal
from lightning_interpret.report.interpret_summary import join, payloads
from lightning_interpret.tensorboard.payload import drift, facts, parse
from lightning_interpret.tensorboard.payload import join as join_pages


def test_a_grid_says_for_each_token_its_value_its_sums_and_what_speaks_most_for_it():
    shown = str(grid()).split("\n")
    assert shown[0].startswith("Wrong: wrote the city of Paris. | example 3 | explained log_prob of 6 targets")
    assert shown[1] == "query: The capital of France is"
    assert shown[3].startswith("    +2  the | prompt +2.8, output 0 | error 0.20% | France +1.6  capital +0.99")
    assert "error 4.00%, NOT converged | France +3.4" in shown[4]
    assert shown[6].startswith("  +3.5  Par (gold Lyon) | prompt +3.4, output -0.73")


def test_the_cells_of_a_grid_are_words_and_what_is_not_read_has_none():
    cross = card_of(grid()).cross
    assert " ".join(column.text for column in cross.columns) == "The capital of France is the city of Par is"
    assert cross.spans() == [("prompt", 5), ("output", 5)]
    assert [sum(cell is None for cell in aim.cells) for aim in cross.aims] == [5, 4, 3, 2, 1, 0]
    assert max(abs(cell.strength) for aim in cross.aims for cell in aim.cells if cell) == 1.0
    words = ("Thecapital", "of", "France", "is", "the", "city", "of", "Par", "is")
    merged = grid(word_ids=(0, 0, 1, 2, 3, *range(4, 9)), words=words)
    whole = card_of(merged).cross
    assert whole.columns[0].text == "Thecapital"
    assert whole.aims[0].cells[0].score == sum(merged.targets[0].scores[:2])
    assert whole.aims[0].name == "the"  # generated tokens stay rows


def test_an_entity_is_marked_with_its_type_and_with_the_right_one_where_it_is_wrong():
    shown = str(entities())
    assert "  [CLS] [Angela Merkel](PER) met [Macron](LOC, gold PER) in [Paris](LOC) on Monday . [SEP]" in shown
    assert shown.startswith("3 entities, 1 of them wrong")
    texts = card_of(entities()).texts
    assert [text.heading for text in texts] == [
        "The text with its entities", "logit of PER = +4", "logit of LOC = +3", "logit of LOC = +2",
    ]  # fmt: skip
    assert [text.wrong for text in texts] == [False, False, True, False]


def test_question_and_passage_stand_apart_and_a_long_one_is_kept_around_the_answer():
    text = card_of(answer(before=500)).texts[0]
    assert [section.name for section in text.sections] == ["question", "context"]
    words = [piece.text for piece in text.sections[1].pieces]
    assert len(words) < 60
    assert {"stands", "Paris", "city"} <= set(words)
    assert any(word.startswith("… 4") and word.endswith("tokens left out …") for word in words)
    assert "… 1 token left out …" in answer().narrowed(4, around=0).tokens
    assert "[Paris](answer)" in str(answer())
    assert "Wrong: answered Paris, gold the city of Paris" in str(answer())
    none = replace(answer(), targets=tuple(replace(each, span=None) for each in answer().targets), prediction=None)
    assert "Answered that there is no answer" in str(
        replace(none, gold=None, targets=(replace(none.targets[0], gold=None),))
    )


def test_labels_have_a_text_each():
    assert [text.heading for text in card_of(labels()).texts] == [
        "logit of comedy = +1.8", "logit of drama = +0.7", "logit of horror = -2.5",
    ]  # fmt: skip


def test_words_are_read_as_they_are_written():
    assert [unit.text for unit in units_of(arabic())] == ["مرحبا", "يا", "صديقي", "هذا", "فيلم"]
    assert card_of(arabic()).cross.right_to_left
    assert "铁塔在[巴黎](answer)市中心" in str(chinese())
    pieces = TargetsRow(tokens=("▁un", "fair", "##ly"), targets=(Target("a", (1.0, 2.0, 3.0), 1.0),))
    assert [(unit.text, unit.space) for unit in units_of(pieces)] == [("un", True), ("fair", False), ("ly", False)]


@pytest.mark.parametrize("row", [grid(), entities(), answer(), answer(before=200), labels(), long_grid(60, 20)])
def test_a_narrowed_record_has_the_same_sums_and_targets_at_the_same_words(row):
    some = row.narrowed(12)
    assert some.narrowed(200) is some
    assert len(some.tokens) <= len(row.tokens)
    for narrow, whole in zip(some.targets, row.targets, strict=True):
        assert sum(narrow.scores) == pytest.approx(sum(whole.scores))
        if row.view == "grid":
            assert narrow.span[0] - len(some.tokens) == whole.span[0] - len(row.tokens) or narrow.span[0] < len(
                some.tokens
            )
        elif whole.span:
            assert some.tokens[slice(*narrow.span)] == row.tokens[slice(*whole.span)]
    for narrow, whole in zip(some.by_segment(), row.by_segment(), strict=True):
        assert narrow == pytest.approx(whole)
    assert {unit.segment for unit in units_of(some) if not unit.special} == {
        unit.segment for unit in units_of(row) if not unit.special
    }


@pytest.mark.parametrize(
    "row", [grid(), entities(), answer(), labels(), arabic(), chinese(), *map(arbitrary, range(20))]
)
def test_every_report_of_it(row):
    again = TargetsRow.from_dict(json.loads(json.dumps(row.to_dict())))
    assert str(again) == str(row) or not all(map(math.isfinite, _numbers(row)))
    assert evidence_picture.render(row).width == 880
    assert evidence_markdown.render(row)
    assert row._repr_html_()
    (page,) = payloads(row, monitor="m", step=3, probe=0)
    assert facts(parse(page))["considered"] == len(row.targets)
    assert drift(parse(page), parse(page)) in (None, 0.0)


def _numbers(row):
    return [number for target in row.targets for number in (target.value, target.relative_error or 0.0, *target.scores)]


def test_a_table_stands_in_the_text_tab_with_squares_of_their_sign():
    page = markdown_to_safe_html(evidence_markdown.render(grid()))
    (found,) = tables(page)
    assert found[0][:6] == ["the", "+2", "+2.8", "0", "0.20%", "0"]
    assert found[1][4] == "4.00%, not converged"
    assert found[1][8] == "+3.4 🟦🟦🟦"
    assert found[0][-5:] == [""] * 5  # not read
    assert "prompt: The" in plain(page)
    marked = plain(markdown_to_safe_html(evidence_markdown.render(entities())))
    assert "[Angela Merkel] PER met [Macron] LOC, gold PER in [Paris] LOC" in marked


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("text", [*NASTY[:2], "<script>alert(1)</script>"])
def test_texts_are_never_markup(view, text):
    row = of_text(view, text)
    page = markdown_to_safe_html(evidence_markdown.render(row))
    for mark in ("<script", "<a ", "<img", "<code>", "<b>", "<h1"):
        assert mark not in page
    assert "<script" not in row._repr_html_()
    evidence_picture.render(row)
    assert "\x1b" not in str(row)


def test_a_picture_has_a_cell_a_score_and_long_inputs_are_bounded():
    colours = {colour: count for count, colour in evidence_picture.render(grid()).getcolors(1 << 24)}
    assert colours[FOR] > 800  # the strongest word
    assert sum(red > blue for red, _, blue in colours) > 10  # and what speaks against them
    assert evidence_picture.render(long_grid(200, 40)).height < 4000
    narrow = evidence_picture.render(long_grid(60, 20), width=240)
    assert narrow.width == 480


def test_many_targets_stand_on_several_pages_and_none_is_lost():
    row = long_grid(120, 40)
    pages = payloads(row, monitor="m", step=1, probe=0, limit=16_000)
    assert 1 < len(pages) <= 8
    assert all(len(page) <= 16_000 for page in pages)
    again = join(pages)
    assert [target.name for target in again.targets] == [target.name for target in row.targets]
    assert again.tokens == row.tokens
    assert again.targets[-1].scores == pytest.approx(row.targets[-1].scores, rel=6e-3)
    assert again.notes[0].startswith("Scores are rounded")
    whole = join_pages(map(parse, pages))
    assert "target_offset" not in whole["records"][0]
    assert facts(whole)["considered"] == 40


def test_what_fits_no_page_loses_words_and_says_so():
    row = long_grid(300, 40)
    again = join(payloads(row, monitor="m", step=1, probe=0, limit=6000))
    assert len(again.targets) == 40
    assert len(again.tokens) < 150
    assert again.notes[0].startswith("Of 339 tokens those that matter most are here")
    assert again.by_segment()[-1] == pytest.approx(row.by_segment()[-1], abs=0.3)
    few = join(payloads(row, monitor="m", step=1, probe=0, limit=1800))
    assert 0 < len(few.targets) <= 40
    with pytest.raises(ValueError, match="raise limit"):
        payloads(row, monitor="m", step=1, probe=0, limit=300)


def test_drift_is_that_of_the_targets_that_are_in_both():
    now, before = ({"records": [row.to_dict()]} for row in (grid(), grid(targets=grid().targets[:2])))
    assert drift(now, before) == 0.0
    turned = tuple(replace(each, scores=tuple(-score for score in each.scores)) for each in grid().targets)
    assert drift(now, {"records": [grid(targets=turned).to_dict()]}) == 2.0
    other = tuple(replace(each, name="x") for each in grid().targets)
    assert drift(now, {"records": [grid(targets=other).to_dict()]}) is None


def test_the_parts_of_a_pair_stand_apart_everywhere():
    row = pair()
    assert [(name, words[0].text) for name, words in row.parts()] == [("first", "[CLS]"), ("second", "Nobody")]
    assert "\nsecond: Nobody +0.798  is -0.7  awake -0.618  [SEP] +0.859" in str(row)
    assert "\nsecond: Nobody(+0.8)" in terminal.render(row, colour=False)
    assert "<small><bdi>second</bdi></small>" in row._repr_html_()
    assert "second: Nobody" in plain(markdown_to_safe_html(markdown.render(row)))
    assert image.render(row).height > image.render(replace(row, segment=None)).height
    named = replace(row, segment_names=("premise", "hypothesis"))
    assert "\nhypothesis: Nobody" in str(named)
    single = replace(row, segment=(0,) * 9, segment_names=("premise", "hypothesis"))
    assert "premise" not in str(single)
