"""The card of landmarks: its sentence, what it adds up to, and that no text of it is ever more than a text."""

import html
import math
import re
from dataclasses import replace

import pytest
from evidence import LIKE, TURNED_OVER, UNLIKE, influence, landmarks
from records import NASTY

from lightning_interpret.cards import EXAMPLE, NAME, card_of, sentence
from lightning_interpret.evidence import Approximation, Landmarks, LandmarksRow, TrainingExample
from lightning_interpret.texts import printable


def _said(**changes):
    return "".join(sentence(landmarks(**changes)))


def test_the_sentence_names_the_landmarks_of_one_label_together_and_what_it_is_unlike():
    assert _said() == (
        "Said location because it is like 'Where is the Louvre ?' and 'What city hosts the Prado ?' (location), "
        "unlike 'Who painted the Mona Lisa ?' (human)."
    )
    assert str(landmarks()).splitlines()[0] == _said()
    three = (*LIKE[:2], replace(LIKE[2], gold="location"), replace(LIKE[1], example_id=18, text="a fourth"))
    assert "like 'Where is the Louvre ?', 'What city hosts the Prado ?' and 'Name a museum in Paris .' (" in _said(
        like=three
    )


def test_a_landmark_of_another_label_or_of_little_relevance_is_not_named_beside_the_first():
    small = replace(LIKE[1], score=0.5)
    for like in ((LIKE[0], LIKE[2]), (LIKE[0], small), LIKE[:1]):
        assert _said(like=like, unlike=()) == "Said location because it is like 'Where is the Louvre ?' (location)."
    nameless = tuple(replace(each, gold=None) for each in LIKE)
    assert _said(like=nameless, unlike=()) == "Said location because it is like 'Where is the Louvre ?'."


def test_the_sentence_says_where_nothing_speaks_for_it():
    assert _said(like=()) == (
        "Said location, although nothing among the landmarks speaks for it; it is unlike "
        "'Who painted the Mona Lisa ?' (human)."
    )
    assert _said(like=(replace(LIKE[0], score=0.0), replace(LIKE[1], score=None)), unlike=()) == (
        "Said location, although nothing among the landmarks speaks for it."
    )


def test_a_wrong_prediction_another_target_and_none_are_said_in_the_sentence():
    assert _said(gold="entity").startswith("Wrongly said location (gold entity) because it is like 'Where")
    assert _said(gold=None).startswith("Said location because")
    assert _said(target_name=None).startswith("Said location because")
    assert _said(target_name="human").startswith("Score of human: like 'Where")
    assert _said(target_name="human", like=()).startswith("Score of human: nothing among the landmarks speaks for it;")
    assert _said(target_name=None, prediction=None).startswith("Like 'Where")
    assert _said(target_name=None, prediction=None, like=(), unlike=()) == "Nothing among the landmarks speaks for it."
    assert (
        _said(like=(replace(LIKE[0], text=None),), unlike=())
        == "Said location because it is like example 402 (location)."
    )


def test_words_and_logged_texts_stand_in_turn_and_braces_are_no_words():
    braces = replace(LIKE[0], text="{} {0}", gold="{}")
    pieces = sentence(landmarks(like=(braces,), prediction="{}", target_name="{}", gold="{}"))
    assert pieces[1::2] == ("{}", "{} {0}", "{}", "Who painted the Mona Lisa ?", "human")
    assert pieces[::2] == ("Said ", " because it is like '", "' (", "), unlike '", "' (", ").")
    card = card_of(landmarks(absorbed={"{}": 1.0, "b": 2.0}, target_name="{x}"))
    assert card.total[1::2] == ("{}", "b", "{x}")


def test_the_card_says_what_is_listed_and_what_it_adds_up_to():
    card = card_of(landmarks())
    assert (card.title, card.origin) == ("Right: predicted location", "landmarks · rbf kernel")
    assert dict(card.facts)["score"] == "+1.8 (location)"
    like, unlike = card.tables
    assert [(line.example_id, line.number, line.label) for line in like.lines] == [
        (402, "+1.2", "location"), (17, "+0.8", "location (model: entity)"), (88, "+0.7", "entity"),
    ]  # fmt: skip
    assert [(line.number, line.label, round(line.strength, 2)) for line in unlike.lines] == [
        ("-0.9", "human", -0.75), ("-0.2", "–", -0.17),
    ]  # fmt: skip
    assert "".join(card.total) == (
        "Σ of 64 landmarks +2.05 (the 5 shown: +1.6) and bias -0.25 = F(location) +1.8, error +2.0e-09."
    )
    assert card.strip.tokens[1] == ("Where", 0.9)
    said = "\n".join(card.stated)
    assert "Kernel rbf with 64 landmarks. They stand for the kernel matrix of the training examples up to a rel" in said
    assert "relative error of 8.7% (Frobenius)" in said
    assert "Of 64 landmarks 30 speak for it." in said
    assert "The sizes of all their scores sum to 8.2, of which 75% cancels." in said
    assert "k: the kernel between query and landmark. One that is near may speak against it" in said
    assert "(k 0.95, loss 0.05, kNN disagree 0%)" in str(landmarks())
    assert "baseline" not in said


def test_the_parts_of_any_record_add_up_as_they_are_said():
    row = landmarks(target=-3.5, absorbed={"bias": 0.75, "epsilon": -0.25}, error=1e-9)
    assert row.total + 0.75 - 0.25 == pytest.approx(row.target + row.error, abs=1e-12)
    assert row.converged
    assert "".join(card_of(landmarks(landmarks=5, absorbed={})).total) == (
        "Σ of 5 landmarks +1.8 = F(location) +1.8, error +2.0e-09."
    )


def test_what_does_not_add_up_and_what_is_not_known_is_said():
    assert "".join(card_of(landmarks(error=0.1)).total).endswith("error +1.0e-01: it does NOT ADD UP.")
    assert landmarks(error=0.1).converged is False
    assert landmarks(error=0.1, magnitude=50.0).converged  # of scores that cancel even small roundings are large
    assert landmarks(absorbed={"a": 1.0, "b": -0.5}, magnitude=1.5).bias_share == 0.25
    assert landmarks(magnitude=None).bias_share is landmarks(magnitude=0.0, absorbed={}).bias_share is None
    assert landmarks(error=math.nan).converged is False
    unknown = landmarks(error=None)
    assert (unknown.total, unknown.converged) == (None, None)
    assert "".join(card_of(unknown).total) == (
        "F(location) +1.8, of which bias -0.25; the sum of all landmarks is not given."
    )
    assert card_of(landmarks(target=None)).total == ()
    empty = card_of(LandmarksRow())
    assert (empty.total, empty.strip, empty.tables[0].lines) == ((), None, ())
    assert "None" not in str(LandmarksRow())
    lost = LandmarksRow.from_dict(landmarks(absorbed={"bias": math.inf}).to_dict())
    assert (lost.absorbed, lost.total) == ({"bias": None}, None)
    assert "bias –" in str(lost)


@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>", "\x1b[2J", "a" * 10_000, "字" * 1_000_000])
def test_as_text_and_in_a_notebook_every_text_is_literal(text):
    example = TrainingExample(1, 0.5, None, text, text, text + "?")
    row = landmarks(
        text=text, prediction=text, gold=text + "!", target_name=text, kernel=text, why=text, notes=(text,),
        reasons={"tokens": text}, like=(example, replace(example, example_id=2)),
        unlike=(replace(example, score=-1.0),), absorbed={text: 1.0}, tokens=(text,), scores=(1.0,),
    )  # fmt: skip
    said, page = str(row), row._repr_html_()
    assert not any(ord(character) < 32 and character != "\n" for character in said + page)
    assert not any("\u2066" > character >= "\u202a" or "\ud800" <= character <= "\udfff" for character in said + page)
    for mark in ("<script", "<b>x", "<i>"):
        assert mark not in page
    assert page.count("<table>") == page.count("</table>") == 2
    assert page.count("<bdi>") == page.count("</bdi>")
    assert max(len(said), len(page)) < 20_000
    isolated = [html.unescape(each) for each in re.findall(r"<bdi>(.*?)</bdi>", page.split("</p>")[0])]
    assert isolated == [printable(piece) for piece in sentence(row)[1::2]]
    assert len(card_of(row).tables[0].lines[0].gold) <= NAME
    assert len(card_of(row).tables[0].lines[0].text or "") <= EXAMPLE


def test_a_record_comes_back_and_a_call_is_shown_row_by_row():
    row = landmarks()
    assert LandmarksRow.from_dict(row.to_dict()) == row
    assert LandmarksRow.from_dict(row.to_dict() | {"novel": 1, "total": 3, "sentence": ["x"]}) == row
    found = Landmarks((row, landmarks(gold="entity", unlike=UNLIKE[1:])))
    assert [said.splitlines()[0][:12] for said in str(found).split("\n\n")] == ["Said locatio", "Wrongly said"]
    assert found._repr_html_().count("<hr>") == 1


def test_influence_without_gradients_says_nothing_of_gradients_or_curvature():
    said = str(influence(approximation=TURNED_OVER))
    assert "Approximation: turn_over_dropout; seed 3; 2,000 training examples scored; 3 skipped, as their " in said
    assert "outputs were not finite." in said
    masked = replace(TURNED_OVER, layers=("encoder.0", "encoder.1"))
    assert "seed 3; 2 layers; 2,000 training examples" in str(influence(approximation=masked))
    assert "Score: query's loss in the part of the network that has not learnt the example, less that in the" in said
    assert "- turn-over dropout of 0.5 at encoder.0, encoder.1" in said
    for word in ("gradient", "curvature", "parameters", "solver"):
        assert word not in said
    of_gradients = Approximation("gradient_similarity", "cosine of gradients", coverage=0.5, layers=("head",))
    said = str(influence(approximation=of_gradients))
    assert "gradient_similarity, no curvature; 50% of the trainable parameters (layer head); 2,000" in said
    assert "3 skipped, as their gradients were not finite." in said
