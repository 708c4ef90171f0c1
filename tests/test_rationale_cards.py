"""Cards of self-explanations: what they say, and that no text of them is ever more than a text."""

import json
import math
from dataclasses import is_dataclass, replace

import pytest
from explained import KINDS, TEXT, arbitrary, concepts, flags, generated, of_text, of_tokens, rationale, spans
from records import NASTY

from lightning_interpret.cards import QUERY as LONGEST
from lightning_interpret.cards import card_of
from lightning_interpret.rationales import Concept, Concepts, RationaleRow, Span
from lightning_interpret.report.presenters import PRESENTERS, row_of
from lightning_interpret.texts import direction


def _said(row):
    return "".join(card_of(row).sentence)


def test_a_rationale_shows_what_was_selected_and_what_people_selected():
    card = card_of(rationale())
    assert (card.title, card.origin) == ("Wrong: predicted negative, gold positive", "rationale · gumbel gate")
    assert _said(rationale()) == "Wrongly said negative (gold positive) from 'bad film' and 'thin' alone."
    assert str(card.passage) == TEXT.replace("bad film", "[bad film]").replace("thin", "[thin]")
    assert card.passage.marked("gold") == ["Not a bad film"]
    assert card.passage.agreement == (4, 2, 3)
    assert {name: value for name, value in card.facts if name not in ("loss", "example", "confidence")} == {
        "selected": "16% (budget 20%)", "sufficiency": "-0.12", "comprehensiveness": "+0.46",
    }  # fmt: skip
    assert [(bar.name, bar.number) for bar in card.bars[0].bars] == [
        ("the selection", "93%"), ("the whole text", "81%"), ("the rest alone", "35%"),
        ("as many words at random", "50%"), ("the rest of that draw", "78%"),
    ]  # fmt: skip
    assert "query: Not a [bad film] at all: the plot is [thin], but" in str(rationale())
    assert "gold rationale: Not a bad film\n" in str(rationale())
    assert "gold rationale" not in str(rationale(gold_rationale=None))
    assert [mark.probability for mark in card.passage.marks[:4]] == [0.1, 0.1, 0.9, 0.9]


def test_a_word_is_selected_where_one_of_its_tokens_is():
    row = RationaleRow(
        tokens=("[CLS]", "un", "##aff", "##able", "man"), word_ids=(None, 0, 0, 0, 1), words=("unaffable", "man"),
        special=(True, *[False] * 4), selected=(True, False, True, False, False), probabilities=(1, 0.2, 0.7, 0.1, 0.3),
    )  # fmt: skip
    marks = card_of(row).passage.marks
    assert [(mark.text, mark.selected, mark.probability) for mark in marks] == [
        ("unaffable", True, 0.7),
        ("man", False, 0.3),
    ]
    assert str(card_of(row).passage) == "[unaffable] man"
    assert _said(row) == "Made from 'unaffable' alone."


def test_a_pair_of_texts_is_parted_and_scripts_without_gaps_have_none():
    pair = RationaleRow(tokens=("a", "b", "c"), selected=(True, True, True), segment=(0, 0, 1))
    assert str(card_of(pair).passage) == "first: [a b] second: [c]"
    chinese = "这部电影很好"
    row = RationaleRow(**of_tokens(chinese, list(chinese)), selected=flags(4, 5, words=chinese))
    assert str(card_of(row).passage) == "这部电影[很好]"
    arabic = "مرحبا هذا فيلم جيد"
    row = RationaleRow(**of_tokens(arabic, arabic.split()), selected=flags(3, words=arabic.split()))
    assert card_of(row).passage.right_to_left
    assert 'dir="rtl"' in row._repr_html_()
    assert [direction(words) for words in (["a", "1"], ["שלום", "b", "עולם"], [], ["😀"])] == [
        "ltr",
        "rtl",
        "ltr",
        "ltr",
    ]


def test_of_a_long_text_the_words_around_what_is_marked_are_shown():
    words = [f"w{i}" for i in range(2000)]
    chosen = (5, 900, 901, 1999)
    row = RationaleRow(**of_tokens(" ".join(words), words), selected=flags(*chosen, words=words))
    shown = str(card_of(row).passage)
    assert shown.startswith("w0 w1 w2 w3 w4 [w5] w6 w7 w8 w9 w10 w11 … 882 words left out … w894")
    assert shown.endswith("w1993 w1994 w1995 w1996 w1997 w1998 [w1999]")
    assert "w899 [w900 w901] w902" in shown
    every = RationaleRow(**of_tokens(" ".join(words), words), selected=flags(*range(0, 2000, 2), words=words))
    shown = str(card_of(every).passage)
    assert shown.endswith("[w238] w239 … 1760 words left out, 880 of them selected …")
    assert len(every._repr_html_()) < 60_000


def test_nothing_selected_and_no_tokens_are_shown_as_such():
    assert _said(rationale(selected=flags())) == ""
    assert str(card_of(rationale(selected=flags())).passage) == TEXT
    assert card_of(RationaleRow(text="a b")).passage is None
    assert "query: a b" in str(RationaleRow(text="a b"))
    assert "gold rationale: none" in str(rationale(gold_rationale=flags()))
    several = _said(rationale(selected=flags(0, 2, 4, 6, 8)))
    assert several.endswith("from 'Not', 'bad', 'at' and 2 more stretches alone.")
    assert _said(rationale(selected=flags(0, 2, 4, 6))).endswith("from 'Not', 'bad', 'at' and ':' alone.")


def test_spans_stand_with_their_weights_and_what_erasing_them_costs():
    card = card_of(spans())
    assert card.origin == "spans · up to 8 tokens"
    assert _said(spans()) == "Wrongly said negative (gold positive), 55% of it by 'bad film'."
    facts = dict(card.facts)
    assert (facts["sharpness"], facts["foremost erased"]) == ("0.35", "falls by 1.4")
    assert facts["random span erased"] == "falls by 0.05"
    (bars,) = card.bars
    assert [(bar.name, bar.number, round(bar.strength, 2)) for bar in bars.bars] == [
        ("bad film", "55%", 1.0), ("plot is thin", "20%", 0.36),
    ]  # fmt: skip
    assert (bars.beside, bars.bars[0].beside) == (("tokens", "erased"), (("tokens", "3–4"), ("erased", "+1.4")))
    assert bars.rest == "128 more spans share 25%."
    assert card.strip.tokens[3] == ("bad", 0.7)
    nameless = spans(spans=(Span(3, 5, 0.55), Span(90, 92, 0.1)), considered=0)
    assert [bar.name for bar in card_of(nameless).bars[0].bars] == ["bad film", "tokens 90 to 91"]
    assert card_of(nameless).bars[0].rest == ""
    assert "Spans (their weights are the prediction's parts, the largest first): none" in str(spans(spans=()))


def test_concepts_stand_with_what_they_add_and_what_it_adds_up_to():
    card = card_of(concepts())
    assert _said(concepts()) == (
        "Wrongly said negative (gold positive) for 'plot' (+1.5) and 'price of the ticket' (+0.4), "
        "against 'acting' (-0.6)."
    )
    (bars,) = card.bars
    assert [(bar.name, bar.number, round(bar.strength, 2)) for bar in bars.bars] == [
        ("plot", "+1.5", 1.0), ("acting", "-0.6", -0.4), ("price of the ticket", "+0.4", 0.27),
    ]  # fmt: skip
    assert dict(bars.bars[1].beside) == {"value": "0.8", "p": "80%", "gold": "0 ✗"}
    assert dict(bars.bars[2].beside) == {"value": "1 (set by hand)", "p": "30%"}
    assert dict(card.facts)["concepts right"] == "1 of 2"
    assert dict(card.facts)["set by hand"] == "1"
    assert "".join(card.total) == ("Σ of 3 concepts +1.3, bias +0.2, residual +0.1 = F(negative) +1.6, error +2.0e-09.")
    assert _said(concepts(target_name="positive")).startswith("Score of positive: for 'plot'")
    assert _said(concepts(concepts=(Concept("a", 1.0, contribution=-1.0),))).endswith(
        ", although nothing speaks for it, against 'a' (-1)."
    )


def test_concepts_of_a_head_that_is_not_linear_have_values_and_no_parts():
    row = concepts(concepts=(Concept("a", -2.0, 0.1), Concept("b", 1.0, 0.7)), error=None)
    card = card_of(row)
    assert [(bar.number, bar.strength) for bar in card.bars[0].bars] == [("-2", -1.0), ("+1", 0.5)]
    assert (card.total, card.sentence) == ((), ())
    assert "The head is not linear" in card.stated[0]
    many = concepts(concepts=tuple(Concept(str(i), 1.0, contribution=0.5) for i in range(30)))
    assert card_of(many).bars[0].rest == "10 more concepts sum to +5."


def test_a_written_explanation_is_a_quotation_with_what_it_is_worth():
    card = card_of(generated())
    assert [(quote.name, quote.text[:8]) for quote in card.quotes] == [
        ("Explanation", "The plot"),
        ("A person's", "'Not a b"),
    ]
    facts = dict(card.facts)
    assert facts["simulator says"] == "negative (as the model)"
    assert facts["without the explanation"] == "positive (not as the model)"
    assert (facts["leaks"], facts["overlap"], facts["log-likelihood"]) == ("yes", "31%", "-0.8 a token")
    assert [(bar.name, bar.number) for bar in card.bars[0].bars] == [
        ("with the explanation", "93%"), ("with it erased", "52%"),
    ]  # fmt: skip
    assert "Order: the prediction was made from the words." in card.stated
    assert card_of(generated(explanation=" ")).quotes[0].text == "(nothing was written)"
    assert "Explanation: “The plot is thin, so the film is bad.”" in str(generated())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>", "\x1b[2J", "a" * 1_000_000, "字" * 1_000_000])
def test_as_text_and_in_a_notebook_every_text_is_literal(kind, text):
    row = of_text(KINDS[kind], text)
    said, page = str(row), row._repr_html_()
    assert not any(ord(character) < 32 and character != "\n" for character in said + page)
    assert not any("\u2066" > character >= "\u202a" or "\ud800" <= character <= "\udfff" for character in said + page)
    for mark in ("<script", "<b>x", "<i>"):
        assert mark not in page
    for tag in ("bdi", "blockquote", "table"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>")
    assert max(len(said), len(page)) < 20_000
    assert len(card_of(row).text) <= LONGEST


@pytest.mark.parametrize("seed", range(60))
def test_any_record_has_a_card(seed):
    row = arbitrary(seed)
    assert str(row)
    assert row._repr_html_()
    restored = type(row).from_dict(row.to_dict())
    assert restored == row
    assert card_of(restored) == card_of(row)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_record_and_one_of_numbers_that_are_none_have_cards(kind):
    full, bare = KINDS[kind](), type(KINDS[kind]())()
    assert "None" not in str(bare) + bare._repr_html_()
    numbers = {name: math.nan for name, value in vars(full).items() if isinstance(value, float)}
    lost = type(full)(**vars(full) | numbers)
    assert "NaN" not in lost._repr_html_()
    assert str(lost)


def with_numbers(value, number):
    if isinstance(value, tuple):
        return tuple(with_numbers(each, number) for each in value)
    if is_dataclass(value):
        return replace(value, **{name: with_numbers(each, number) for name, each in vars(value).items()})
    return number if isinstance(value, float) else value


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_a_record_of_a_model_that_has_diverged_is_read_back_and_shown(kind, number):
    lost = with_numbers(KINDS[kind](), number)
    back = row_of(json.loads(json.dumps(lost.to_dict(), allow_nan=False)))
    assert back.to_dict() == lost.to_dict()
    presenter = PRESENTERS[kind]
    for row in (lost, back):
        assert str(row)
        assert row._repr_html_()
        assert presenter.markdown(row)
        assert presenter.picture(row)
        assert json.dumps(presenter.records(row, lambda record, pages: True), allow_nan=False)


def test_a_call_is_shown_row_by_row():
    found = Concepts((concepts(), concepts(example_id=18)))
    assert str(found).count("Wrong: predicted") == 2
    assert found._repr_html_().count("<hr>") == 1
