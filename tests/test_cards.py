"""The card of evidence: what it says, and that no text of it is ever more than a text."""

import json
import math
from dataclasses import replace

import pytest
from evidence import HARMFUL, HELPFUL, QUERY, STATED, arbitrary_evidence, influence, near
from records import NASTY

from lightning_interpret.cards import EXAMPLE, card_of
from lightning_interpret.cards import QUERY as LONGEST
from lightning_interpret.evidence import Approximation, Influence, TrainingExample
from lightning_interpret.report.evidence_markdown import render
from lightning_interpret.report.presenters import row_of
from lightning_interpret.texts import printable, shortened


def test_the_card_says_what_was_predicted_and_which_sign_means_what():
    card = card_of(influence(neighbors=near()))
    assert (card.title, card.wrong) == ("Wrong: predicted negative, gold positive", True)
    assert dict(card.facts) == {
        "confidence": "93%",
        "loss": "2.72",
        "example": "17",
        "picked as": "worst loss",
        "neighbours say": "negative (55%)",
        "mixture says": "positive (unsure: the neighbours were asked)",
        "conformity": "70%",
        "credibility": "4%",
    }
    assert card.text == QUERY
    assert [table.title for table in card.tables] == ["Helpful", "Harmful", "Nearest"]
    helpful, harmful, _ = card.tables
    assert helpful.meaning == "removing one of these would raise the loss"
    assert harmful.meaning == "removing one of these would lower the loss"
    assert [(line.example_id, line.number) for line in harmful.lines] == [(30511, "-0.63"), (991, "-0.2")]
    assert [round(line.strength, 2) for line in helpful.lines] == [0.65, 0.43, 0.08]
    assert [line.label for line in helpful.lines[:2]] == ["positive", "positive (model: negative)"]
    assert (helpful.lines[1].loss, helpful.lines[1].disagreement) == ("1.2", "60%")
    said = "\n".join(card.stated)
    for part in (
        "change of the query's loss if the example is removed. Positive is helpful",
        "ekfac, curvature fisher of 2,000 examples; 4 labels drawn for each (seed 0); damping 0.00123; weight decay",
        "98.5% of the trainable parameters (3 layers); 2,000 training examples scored; 3 skipped",
        "euclidean distance, in the features of encoder.pooler, among 2,000 training examples, k 10, temperature 12.5",
        "as a baseline of its score: the model's loss on it and the share of its own nearest neighbours",
    ):
        assert part in said


def test_a_right_prediction_and_one_without_a_label_are_said_so():
    assert card_of(near(gold="negative")).title == "Right: predicted negative"
    assert card_of(near(gold=None)).title == "Predicted negative"
    assert not card_of(near(gold=None)).wrong


def test_a_query_without_a_text_is_named_by_its_id():
    assert card_of(influence(text=None)).text == "example 17, which has no text"
    assert card_of(influence(text=None, example_id=None)).text == "a query without a text"
    summed = card_of(influence(text=None, prediction=None, gold=None, queries=64))
    assert (summed.title, summed.text) == ("Sum over 64 queries", "no single query: the measures of all were summed")


def test_no_examples_and_no_convergence_are_said():
    empty = card_of(influence(helpful=(), harmful=(), approximation=replace(STATED, converged=False, residual=0.3)))
    assert [table.lines for table in empty.tables] == [(), ()]
    assert "solver NOT CONVERGED (residual 0.3)" in empty.stated[1]
    assert "Helpful (removing one of these would raise the loss): none" in str(empty)
    assert "solver converged" in card_of(influence(approximation=replace(STATED, converged=True))).stated[1]


def test_a_similarity_is_said_to_be_one():
    stated = Approximation("feature_similarity", "cosine of features", measure=None, notes=("features: input of head",))
    card = card_of(influence(harmful=(), approximation=stated))
    (alike,) = card.tables
    assert (alike.title, len(alike.lines)) == ("Alike", len(HELPFUL))
    assert card.stated[0] == "Score: cosine of features. It is a similarity, and says nothing of a removal."
    assert "3 skipped, as their features were not finite" in card.stated[1]
    assert card.notes == ("features: input of head",)
    assert "No example has a positive score." in render(influence(helpful=(), harmful=(), approximation=stated))


def test_labels_that_are_many_or_all_but_absent_are_summed_up():
    card = card_of(near(shares={str(i): 0.01 * i for i in range(14)}, probabilities=None, model_probabilities=None))
    assert [label.name for label in card.labels] == [*(str(i) for i in range(13, 3, -1)), "4 more"]
    assert card.labels[-1].share == pytest.approx(0.06)
    assert card.labels[0].neighbors is None
    few = card_of(near(shares={"a": 1.0}, probabilities={"a": 0.9, "b": 0.099, "c": 0.001}, model_probabilities=None))
    assert [(label.name, label.neighbors) for label in few.labels] == [("a", 0.9), ("b", 0.099), ("1 more", 0.001)]
    assert [label.name for label in card_of(near()).labels] == ["negative", "positive"]


def test_texts_of_a_megabyte_are_short_on_the_card_and_whole_in_the_record():
    long = "wörd " * 200_000
    row = influence(text=long, helpful=(replace(HELPFUL[0], text=long),), notes=(long,))
    card = card_of(row)
    assert len(card.text) <= LONGEST
    assert card.text.endswith("…")
    assert len(card.tables[0].lines[0].text) <= EXAMPLE
    assert len(str(row)) < 5000
    assert row.to_dict()["text"] == row.to_dict()["helpful"][0]["text"] == long


@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>", "\x1b[2J", "a" * 1_000_000])
def test_as_text_and_in_a_notebook_every_text_is_literal(text):
    row = near(
        text=text, prediction=text, gold=text + "!", why=text, notes=(text,), mixture=text, tokens=(text,),
        scores=(1.0,),
        shares={text: 1.0}, probabilities=None, model_probabilities=None, layer=text, reasons={"loss": text},
        neighbors=(TrainingExample(1, None, 0.5, text, text, text + "?"),),
    )  # fmt: skip
    said, page = str(row), row._repr_html_()
    assert not any(ord(character) < 32 and character != "\n" for character in said + page)
    assert not any("\u2066" > character >= "\u202a" or "\ud800" <= character <= "\udfff" for character in said + page)
    for mark in ("<script", "<b>x", "<i>"):
        assert mark not in page
    assert page.count("<table>") == page.count("</table>") == 2
    assert len(page) < 40_000


@pytest.mark.parametrize("seed", range(30))
def test_any_record_has_a_card(seed):
    row = arbitrary_evidence(seed)
    assert printable(shortened(row.text or "", 20))[:10] in str(row)
    assert row._repr_html_()
    restored = type(row).from_dict(row.to_dict())
    assert card_of(restored) == card_of(row)


def test_numbers_that_are_not_finite_are_shown_as_such():
    row = influence(helpful=(replace(HELPFUL[0], score=math.nan, loss=math.inf, disagreement=math.nan),), loss=math.nan)
    (line,) = card_of(row).tables[0].lines
    assert (line.number, line.strength, line.loss, line.disagreement) == ("+nan", 0.0, "inf", "–")
    tokens = card_of(near(tokens=("a", "b"), scores=(math.nan, 0.5)))
    assert tokens.strip.strength == 0.5
    assert "NaN" not in near(tokens=("a", "b"), scores=(math.nan, 0.5))._repr_html_()
    assert type(row).from_dict(row.to_dict()).loss is None


def test_a_call_is_shown_row_by_row():
    found = Influence((influence(), influence(example_id=18)))
    assert str(found).count("Wrong: predicted") == 2
    assert found._repr_html_().count("<hr>") == 1


def test_fields_of_a_later_version_are_left_out():
    data = influence(neighbors=near()).to_dict()
    data["helpful"][0]["novel"] = data["approximation"]["novel"] = data["neighbors"]["novel"] = data["novel"] = [1]
    assert type(influence()).from_dict(data) == influence(neighbors=near())
    assert influence().harmful == HARMFUL


def test_a_record_of_an_earlier_version_has_a_card_as_it_had():
    stated = {"method": "exact", "unit": "a change of loss", "curvature": "ggn", "coverage": 1.0, "layers": ["a"]}
    written = {
        "schema": 1, "kind": "influence", "text": "a query", "prediction": "x", "examples": 9, "skipped": 1,
        "helpful": [{"example_id": 3, "score": 0.5, "text": "an example", "gold": "x", "loss": 0.1}],
        "harmful": [], "approximation": stated,
    }  # fmt: skip
    card = card_of(row_of(json.loads(json.dumps(written))))
    assert [line.example_id for line in card.tables[0].lines] == [3]
    assert card.tables[0].beside == ("loss",)
    assert "exact, curvature ggn; 100% of the trainable parameters (layer a); 9 training examples" in card.stated[1]
    assert "1 skipped, as their gradients were not finite" in card.stated[1]


def test_a_text_is_not_cut_between_a_letter_and_its_mark():
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
    assert shortened("ae\u0301\u0323x", 3) == "a…"
    assert shortened("a👩\u200d👧bc", 4) == "a…"
    assert shortened("\u0301" * 1000, 5) == "\u0301…"
