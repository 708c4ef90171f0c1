"""Cards of bad cases in every form: what they say, that no text is more than a text, and that they fit on a page."""

import json
import math
import random
from dataclasses import fields, replace

import pytest
from bad_case_records import CASE, GROUP, OTHER, OVERVIEW, RECORDS, RELABEL, SHORTCUT
from records import NASTY, arbitrary_row, arbitrary_text, image_row
from safe_html import plain, tables
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.bad_cases import (
    Action,
    BadCaseGroupRow,
    BadCaseRow,
    BadCasesRow,
    Erasure,
    GroupSummary,
    Member,
    RowEdit,
    Verdict,
)
from lightning_interpret.cards import card_of
from lightning_interpret.evidence import Approximation, InfluenceRow, NeighborsRow, TrainingExample
from lightning_interpret.report import evidence_markdown, evidence_picture, jsonl
from lightning_interpret.report.interpret_summary import join, payloads
from lightning_interpret.report.presenters import row_of
from lightning_interpret.tensorboard.payload import facts, parse

EVERY = pytest.mark.parametrize("row", RECORDS, ids=lambda row: f"{row.kind}-{getattr(row, 'cause', '')}")


def _pages(row, **options):
    return payloads(row, monitor="bad_case", step=3, probe=0, **options)


def test_a_case_has_its_explanations_side_by_side_and_why_it_went_wrong():
    card = card_of(CASE)
    assert (card.title, card.wrong) == ("Wrong: predicted positive, gold negative", True)
    assert "".join(card.sentence) == (
        "Wrongly said positive (gold negative); probable cause (90% sure): a word or phrase that training data tie to "
        "a label decides, and should not: 'tuesday'. "
        "Of 120 training examples with 'tuesday' 97 % are labelled positive."
    )
    assert ("bad as", "confidently wrong") in card.facts
    assert [bars.title for bars in card.bars] == ["Causes", "Measured", "Without words", "Probabilities"]
    assert [(bar.name, bar.number, dict(bar.beside)["holds"]) for bar in card.bars[0].bars] == [
        ("shortcut: tuesday", "90%", "yes"), ("coverage", "20%", "no"),
    ]  # fmt: skip
    assert dict(card.bars[1].bars[0].beside) == {"needed": "≥ 0.8"}
    (erased,) = card.bars[2].bars
    assert (erased.number, dict(erased.beside)["then predicted"]) == ("-0.87", "negative")
    assert [table.title for table in card.tables] == ["Helpful", "Harmful", "Nearest"]
    assert card.strip.tokens[5] == ("tuesday", 3.0)
    assert "Against shortcut: tuesday: One example that is right turns wrong without 'tuesday'." in card.notes


def test_what_could_not_be_explained_is_said_with_the_reason():
    card = card_of(OTHER)
    assert "".join(card.sentence) == "Wrongly said positive (gold negative); no rule finds a cause."
    assert card.strip is None
    assert card.notes == ("attribution is not given: `max_seconds` was spent",)
    right = card_of(replace(OTHER, gold="positive", badness="unsure"))
    assert (right.title, right.wrong) == ("Right: predicted positive", False)
    assert ("bad as", "right without being sure") in right.facts


def test_the_sentence_is_of_the_cause_whose_group_the_case_is_in():
    both = (replace(SHORTCUT, cause="coverage", cue=""), SHORTCUT)
    assert "'tuesday'" in "".join(card_of(replace(CASE, verdicts=both)).sentence)
    assert "no rule finds" in "".join(card_of(replace(CASE, cause="confusion")).sentence)


def test_a_group_says_what_to_do_and_lists_rows_and_cases():
    card = card_of(GROUP)
    assert card.title == "12 bad cases: shortcut: tuesday"
    assert card.text == "a word or phrase that training data tie to a label decides, and should not"
    assert "".join(card.sentence) == GROUP.action.sentence
    assert ("accuracy on its slice", "40% of 20") in card.facts
    assert [bars.title for bars in card.bars] == ["Measured", "Rows to add", "Over training"]
    assert [(bar.name, bar.number) for bar in card.bars[2].bars] == [("step 100", "4"), ("step 200", "12")]
    cases, templates = card.tables
    assert cases.meaning == "the surest first; 11 more are not listed"
    assert (cases.lines[0].example_id, cases.lines[0].label) == (7, "negative (model: positive)")
    assert templates.lines[0].number == "0.5"
    (change,) = card_of(RELABEL).bars
    assert (change.title, change.bars[0].number) == ("Rows to change", "#11")
    assert dict(change.bars[0].beside) == {
        "file": "train", "label": "positive", "proposed": "negative", "sure": "80%",
        "why": "9 of 10 neighbours are negative",
    }  # fmt: skip


def test_the_overview_has_a_bar_a_group():
    card = card_of(OVERVIEW)
    assert card.title == "30 of 200 wrong"
    assert "".join(card.sentence) == (
        "The largest group has 12 of 30 cases that were explained: shortcut: tuesday, growing."
    )
    assert [(bar.name, bar.number) for bar in card.bars[0].bars] == [("shortcut: tuesday", "12"), ("coverage", "0")]
    assert "".join(card_of(BadCasesRow(validated=9)).sentence) == "No bad case was found."


def test_of_a_long_text_the_words_around_the_strongest_are_shown():
    words = tuple(f"w{i}" for i in range(3000))
    scores = tuple(9.0 if i == 2500 else 0.1 for i in range(3000))
    long = {"tokens": words, "words": words, "scores": scores, "word_ids": tuple(range(3000))}
    row = replace(CASE, attribution=replace(CASE.attribution, **long, special=(False,) * 3000))
    strip = card_of(row).strip
    assert ("w2500", 9.0) in strip.tokens
    assert len(strip.tokens) == 200
    assert strip.name == "deep_lift of positive, from word 2401"
    (page,) = _pages(row, limit=20_000)
    kept = join([page]).attribution
    assert ("w2500", 9.0) in [(word.text, word.score) for word in kept.merged()]
    assert "of 3000" in kept.notes[-1]


@EVERY
def test_a_record_is_json_both_ways_and_on_one_page(row, tmp_path):
    assert row_of(json.loads(json.dumps(row.to_dict()))) == row
    (page,) = _pages(row)
    assert join([page]) == row
    assert json.loads(page)["records"][0]["sentence"] == list(card_of(row).sentence)
    jsonl.append(tmp_path / "r.jsonl", [row.to_dict()])
    assert type(row).from_dict(json.loads((tmp_path / "r.jsonl").read_text())) == row


def test_what_is_followed_over_the_steps_stands_among_the_facts():
    known = facts(parse(_pages(GROUP)[0]))
    assert {name: known[name] for name in ("size", "sure", "accuracy", "listed")} == {
        "size": 12, "sure": 0.9, "accuracy": 0.4, "listed": "7",
    }  # fmt: skip
    known = facts(parse(_pages(OVERVIEW)[0]))
    assert {name: known[name] for name in ("wrong_cases", "confident", "unsure", "accuracy")} == {
        "wrong_cases": 30, "confident": 12, "unsure": 8, "accuracy": 0.85,
    }  # fmt: skip


def _examples(text):
    return (TrainingExample(3, 0.5, 0.5, text, text, text + "?", 0.1),)


def of_text(text):
    """Return one record of each kind in which every text is the given one."""
    about = {
        "text": text,
        "prediction": text,
        "gold": text + "!",
        "why": text,
        "notes": (text,),
        "reasons": {text: text},
    }
    verdict = Verdict(text, text, 0.5, True, {text: 1.0}, {text: text}, (text, text), (text,))
    words = {"tokens": (text, text), "words": (text, text), "scores": (1.0, -2.0), "word_ids": (0, 1)}
    named = {"target_name": text, "method": text, "layer": text, "prediction": text, "gold": text, "baseline": text}
    attribution = replace(CASE.attribution, **words, special=(False, False), **named)
    near = NeighborsRow(neighbors=_examples(text), shares={text: 1.0}, layer=text)
    made = InfluenceRow(helpful=_examples(text), harmful=_examples(text), approximation=Approximation(text, text))
    case = {"badness": text, "cause": text, "cue": text, "verdicts": (verdict,), "probabilities": {text: 1.0}}
    edit = RowEdit(text, 3, text, text, text, 0.5, text)
    action = Action(text, text, (edit, replace(edit, new=True)), _examples(text), text)
    member = Member(0, 1, text, text, text + "!", 0.5, text, 0.5)
    group = {"cause": text, "cue": text, "members": (member,), "measured": {text: 1.0}, "thresholds": {text: text}}
    return (
        BadCaseRow(
            **about, **case, attribution=attribution, neighbors=near, influence=made,
            erasures=(Erasure((0,), text, 0.9, 0.1, text),),
        ),
        BadCaseGroupRow(**about, **group, size=2, evidence=(text,), against=(text,), action=action, status=text),
        BadCasesRow(**about, wrong_cases=1, groups=(GroupSummary(text, text, 2, 0.5, text, text, 0.5, 2),)),
    )  # fmt: skip


@pytest.mark.parametrize("text", [*NASTY[::2], "\u202eevil", "<script>alert(1)</script>"])
def test_every_text_is_literal(text):
    for row in of_text(text):
        page = markdown_to_safe_html(evidence_markdown.render(row))
        for mark in ("<script", "<a ", "<img", "<code>", "<b>", "<h1", "<em>"):
            assert mark not in page
        shown = row._repr_html_()
        assert "<script" not in shown
        for said in (str(row), shown):
            assert not any(ord(character) < 32 and character != "\n" for character in said)
            assert "\u202e" not in said


def test_a_picture_of_any_text_is_bounded():
    for row in of_text("".join(NASTY)):
        assert evidence_picture.render(row).height < 6000


@pytest.mark.parametrize("limit", [16_000, 65_536])
def test_long_texts_and_lists_are_shortened_and_said_to_be(limit):
    case, group, overview = of_text("寿" * 4000)
    edits = group.action.edits * 20
    group = replace(
        group, members=group.members * 20, action=replace(group.action, edits=edits),
        sizes=tuple((step, step) for step in range(9000)), size=20,
    )  # fmt: skip
    for row in (case, group, replace(overview, groups=overview.groups * 50)):
        (page,) = _pages(row, limit=limit)
        assert len(page) <= limit
        again = join([page])
        assert again.notes[-1].startswith("Shortened here")
        assert str(again)
        assert facts(parse(page)).get("size") == getattr(row, "size", None)
    assert join(_pages(group, limit=limit)).sizes[-1] == (8999, 8999)
    assert len(str(case)) < 50_000
    assert len(evidence_markdown.render(group)) < 200_000


def test_an_image_keeps_its_locations_and_a_smaller_picture():
    row = replace(CASE, text=None, attribution=image_row(grid=(60, 60)), notes=("long " * 20_000,))
    (page,) = _pages(row)
    again = join([page]).attribution
    assert again.image.startswith("data:image/")
    assert again.locations().scores
    assert str(row)


def arbitrary(seed):
    """Return a record of each kind in which any text is arbitrary and any number may be missing or not finite."""
    rng = random.Random(seed)

    def text():
        return arbitrary_text(rng, 30)

    def value(field):
        if "None" in field.type and rng.random() < 0.5:
            return None
        if "float" in field.type:
            return rng.choice((0.0, rng.random(), rng.gauss(0, 1e6), math.nan, math.inf))
        return rng.randrange(1 << 40) if "int" in field.type else text()

    def made(kind, **given):
        plain_ones = (
            f for f in fields(kind) if f.type in {"int", "float", "str", "str | None", "int | None", "float | None"}
        )
        return kind(**{field.name: value(field) for field in plain_ones} | given)

    def some(kind, **given):
        return tuple(made(kind, **given) for _ in range(rng.randrange(4)))

    verdict = made(Verdict, measured={text(): math.nan}, thresholds={text(): text()}, evidence=(text(),))
    action = rng.choice((None, made(Action, edits=(*some(RowEdit), *some(RowEdit, new=True)))))
    attribution, words = rng.choice((None, arbitrary_row(seed))), made(Erasure, words=(0,))
    shares = {text(): rng.random()}
    return (
        made(BadCaseRow, verdicts=(verdict,), attribution=attribution, probabilities=shares, erasures=(words,)),
        made(BadCaseGroupRow, members=some(Member), action=action, sizes=((1, 0), (2, 0))),
        made(BadCasesRow, groups=some(GroupSummary)),
    )


@pytest.mark.parametrize("seed", range(5))
def test_arbitrary_records_are_shown(seed):
    for row in arbitrary(seed):
        assert str(row)
        assert row._repr_html_()
        assert plain(markdown_to_safe_html(evidence_markdown.render(row)))
        assert evidence_picture.render(row).width == 880
        again = row_of(json.loads(json.dumps(row.to_dict(), allow_nan=False)))
        assert str(again)
        for limit in (6000, 65536):
            for page in _pages(row, limit=limit):
                assert len(page) <= limit
                assert str(join([page]))


def test_the_groups_of_the_overview_are_a_table_in_markdown():
    (found,) = tables(markdown_to_safe_html(evidence_markdown.render(OVERVIEW)))
    assert found[0] == ["shortcut: tuesday", "12", "🟦🟦🟦", "90%", "growing", "40% of 20", "Add rows with 'tuesday'."]
