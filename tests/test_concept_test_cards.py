"""Cards of concept tests in every form: what they say, and that no text of theirs is ever more than a text."""

import json

import pytest
from concept_records import arbitrary, four, of_one, of_text, table
from records import NASTY
from safe_html import plain, tables
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.cards import card_of
from lightning_interpret.records.concept_test import ConceptTestRow
from lightning_interpret.report import evidence_markdown, evidence_picture, jsonl
from lightning_interpret.report.interpret_summary import join, payloads
from lightning_interpret.report.presenters import row_of
from lightning_interpret.tensorboard.payload import facts, parse


def test_the_table_says_what_was_told_apart_and_shows_every_test():
    card = card_of(table())
    assert card.title == "Concepts in 240 examples"
    assert "".join(card.sentence) == (
        "Of 4 tests, 2 told apart: 'praise' speaks for positive; 'praise' speaks against negative."
    )
    assert ("told apart", "2 of 3") in card.facts
    assert [bars.title for bars in card.bars] == ["positive, at layer.1", "negative, at layer.1"]
    praise, food = card.bars[0].bars
    assert (praise.name, praise.number, praise.strength) == ("praise", "94%", pytest.approx(0.88))
    known = dict(praise.beside)
    assert (known["verdict"], known["p"], known["interval"]) == ("for", "<0.001", "90%–98%")
    assert known["accuracy"] == "0.90 (random 0.51)"
    assert dict(food.beside)["verdict"] == "as random"
    assert card.bars[1].bars[1].number == "–"
    assert dict(card.bars[1].bars[1].beside)["verdict"] == "not tested: there is no example of the class"
    assert "beside their means of 20 random concepts. p is corrected (holm)" in str(card)
    assert "finds too much" not in str(card)
    assert "finds too much" in str(table(test="paper"))
    nothing = table(tests=four()[1:2])
    assert "".join(card_of(nothing).sentence) == "No concept was told apart from random ones."
    assert card_of(table(tests=four()[3:])).sentence == ()


def test_a_record_of_one_example_shows_its_derivatives():
    card = card_of(of_one())
    assert card.title == "Wrong: predicted positive, gold negative"
    assert "".join(card.sentence) == "Wrongly said positive (gold negative); more of 'praise' would raise it."
    assert [(bar.name, bar.number, bar.strength) for bar in card.bars[0].bars] == [
        ("praise", "+1.4", 1.0), ("food", "-0.2", pytest.approx(-0.2 / 1.4)),
    ]  # fmt: skip
    assert ("score", "+1.25") in card.facts
    assert card.text == "a good steak"


@pytest.mark.parametrize("make", [table, of_one])
def test_records_are_json_both_ways_and_what_the_tab_follows_stands_beside(make, tmp_path):
    row = make()
    assert row_of(json.loads(json.dumps(row.to_dict()))) == row
    (page,) = payloads(row, monitor="concepts", step=3, probe=0)
    assert join([page]) == row
    known = facts(parse(page))
    assert known["listed"] == "praise"
    assert known["told_apart"] == sum(test.significant for test in row.tests)
    jsonl.append(tmp_path / "r.jsonl", [row.to_dict()])
    assert ConceptTestRow.from_dict(json.loads((tmp_path / "r.jsonl").read_text())) == row


@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>"])
@pytest.mark.parametrize("one", [True, False])
def test_every_text_is_literal(text, one):
    row = of_text(text, one)
    page = markdown_to_safe_html(evidence_markdown.render(row))
    for mark in ("<script", "<a ", "<img", "<code>", "<b>", "<h1", "<em>"):
        assert mark not in page
    assert "<script" not in row._repr_html_()
    assert "\x1b" not in str(row)
    assert evidence_picture.render(row).height < 5000


@pytest.mark.parametrize("seed", range(12))
def test_arbitrary_records_are_shown(seed):
    row = arbitrary(seed)
    assert row_of(json.loads(json.dumps(row.to_dict()))) == row
    for page in payloads(row, monitor="m", step=1, probe=0):
        assert len(page) <= 65536
    assert str(row)
    assert row._repr_html_()
    assert plain(markdown_to_safe_html(evidence_markdown.render(row)))
    assert evidence_picture.render(row).width == 880


def test_a_long_table_is_shortened_and_says_so():
    many = table(tests=four()[:1] * 160 + four()[2:3] * 40)
    (page,) = payloads(many, monitor="m", step=1, probe=0)
    assert len(page) <= 65536
    assert "Shortened here" in join([page]).notes[-1]
    assert facts(parse(page))["told_apart"] == 200
    found = tables(markdown_to_safe_html(evidence_markdown.render(many)))
    assert sorted(map(len, found))[-2:] == [30, 30]
