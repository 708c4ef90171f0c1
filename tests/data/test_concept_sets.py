"""Concepts as a configuration writes them down: what tells them, and what is refused."""

import math
from dataclasses import dataclass

import pytest
import torch

from lightning_interpret.data import ReviewCorpus, TextRow, WithIds
from lightning_interpret.data.concept_sets import concept_sources, text_in, value_in


def source(**spec):
    return concept_sources({"it": spec})["it"]


def test_words_are_whole_words_and_phrases_in_any_case_unless_it_is_asked_for():
    found = source(words=["fish", "in the end", "naïve"])
    for text in ("Fish!", "we had fish.", "IN THE END", "so naïve, really", "(fish)"):
        assert found.said_in(text)
    for text in ("fishing", "catfish", "in the ending", "fish_1", ""):
        assert not found.said_in(text)
    cased = source(words=["US"], case=True)
    assert cased.said_in("the US army")
    assert not cased.said_in("tell us")
    assert source(words=["c++", "a.b"]).said_in("in C++ of course")
    assert not source(words=["a.b"]).said_in("aXb")
    assert source(words=[" fish "]).said_in("we had fish, twice")


def test_a_list_stands_for_words_and_aspects_are_those_that_the_reviews_say():
    assert concept_sources({"it": ["a", "b"]})["it"] == source(words=["a", "b"])
    found = concept_sources("aspects")
    assert list(found) == ["food", "service", "price", "ambience"]
    corpus = ReviewCorpus(300)
    for review in (corpus[i] for i in range(300)):
        assert {name for name, each in found.items() if each.said_in(review.text)} == set(review.aspects)


def test_templates_are_filled_and_files_read(tmp_path):
    filled = source(words=["good", "bad"], templates=["the food was {}", "{} food"])
    assert filled.written == ["the food was good", "the food was bad", "good food", "bad food"]
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "a.tsv").write_text("label\tsentence\n1\tthree\n")
    (tmp_path / "a.jsonl").write_text('{"text": "four"}\n')
    assert source(file=str(tmp_path / "a.txt")).written == ["one", "two"]
    assert source(file=str(tmp_path / "a.tsv"), text_column="sentence").written == ["three"]
    assert source(file=str(tmp_path / "a.jsonl")).written == ["four"]
    assert source(texts=["five", "six", "five"]).written == ["five", "six"]
    assert source(words=["a"]).written is source(column="a").written is None
    with pytest.raises(FileNotFoundError, match=r"b\.txt'. does not exist"):
        _ = source(file=str(tmp_path / "b.txt")).written


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((1, True), ("true", True), (0.7, True), (torch.tensor(1), True)),
        *((0, False), ("0", False), (torch.tensor(0.0), False)),
        *((None, None), (math.nan, None), ("", None), (-1, None)),
    ],
)
def test_a_column_says_yes_or_no_or_nothing(value, told):
    assert source(column="cheap").told_by(value, "example 3") is told


def test_a_column_can_be_asked_for_a_value_and_else_holds_a_truth():
    thai = source(column="cuisine", value="thai")
    assert [thai.told_by(value, "") for value in ("thai", "greek", None)] == [True, False, None]
    assert source(column="stars", value=5).told_by("5", "")
    for asked in ({}, {"value": 1}):
        with pytest.raises(ValueError, match=r"example 3: column 'ids' holds \(8,\) numbers, not one that says"):
            source(column="ids", **asked).told_by(torch.ones(8), "example 3")
    with pytest.raises(ValueError, match=r"example 3: column 'cuisine' holds 'thai' \(str\), not a concept"):
        source(column="cuisine").told_by("thai", "example 3")


@dataclass
class Example:
    text: str
    cheap: int


def test_texts_and_columns_are_found_in_examples_of_any_form():
    row = TextRow("a text", "good", 1, 7, concepts=(1.0, math.nan))
    (identified,) = WithIds([{"text": "x", "cheap": 1}], list)
    for example, text in (
        ("x", "x"),
        ({"text": "x"}, "x"),
        (Example("x", 1), "x"),
        ((row, 1), "a text"),
        (identified, "x"),
    ):
        assert text_in(example) == text
    assert text_in({"input_ids": torch.ones(3)}) is text_in((torch.ones(2), 1)) is text_in({"text": 3}) is None
    for example in ({"cheap": 1}, Example("x", 1), ({"cheap": 1}, 0), identified):
        assert value_in(example, "cheap") == 1
    assert value_in((row, 1), "cheap", ["cheap", "near"]) == 1.0
    assert math.isnan(value_in((row, 1), "near", ["cheap", "near"]))
    assert value_in((row, 1), "label") == "good"
    assert value_in({"concepts": torch.tensor(5), "cheap": 1}, "cheap") == 1
    assert value_in({"a": 1}, "b") is value_in((torch.ones(2), 1), "b") is None


@pytest.mark.parametrize(
    ("concepts", "said"),
    [
        ({}, r"`concepts=\{\}` must name concepts"),
        ("aspect", r"`concepts='aspect'` must name concepts .* or be 'aspects'"),
        ({"it": "fish"}, r"Concept 'it' is told by 'fish': give one of words, column, file, texts"),
        ({"it": {}}, r"Concept 'it' is told by nothing"),
        ({"it": {"words": ["a"], "column": "b"}}, r"told by \['words', 'column'\]"),
        ({"it": {"word": ["a"]}}, r"`key='word'` does not exist. Did you mean 'words'"),
        ({"it": {"words": "fish"}}, r"`words='fish'` must be a list of texts"),
        ({"it": ["fish", " "]}, r"`words=\['fish', ' '\]` must be a list of texts"),
        ({"it": {"column": 3}}, r"Concept 'it': `column=3` must be a text"),
        ({"it": {"words": ["a"], "case": "no"}}, r"Concept 'it': `case='no'` must be true or false"),
        ({"it": []}, r"`words=\[\]` must be a list of texts"),
        ({"it": {"column": "a", "case": True}}, r"`case=True` goes with `words`"),
        ({"it": {"words": ["a"], "templates": ["x"]}}, r"the template 'x' has no '\{\}'"),
        ({"it": {"words": ["a"], "against": "them"}}, r"`against='them'` does not exist"),
        ({"it": {"words": ["a"], "against": "it"}}, r"`against='it'` does not exist"),
        ({"a/b": ["a"]}, r"A concept is called 'a/b'"),
    ],
)
def test_what_tells_no_concept_is_refused_by_name(concepts, said):
    with pytest.raises(ValueError, match=said):
        concept_sources(concepts)
