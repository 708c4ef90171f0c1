"""Texts as words: scripts, phrases, what training examples have, and the negations of languages."""

import pytest
import torch

from lightning_interpret.causes.words import NEGATORS, WordIndex, cues_of, places_of, words_of
from lightning_interpret.functional.bags import jaccard


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The soup, was GOOD!", ["the", "soup", "was", "good"]),
        ("don't", ["don", "t"]),
        ("don’t", ["don", "t"]),
        ("snake_case 3.5", ["snake", "case", "3", "5"]),
        ("服务不好", ["服", "务", "不", "好"]),
        ("すし bar 東京", ["す", "し", "bar", "東", "京"]),
        ("iPhone手机", ["iphone", "手", "机"]),
        ("الطعام لذيذ!", ["الطعام", "لذيذ"]),
        ("האוכל טוב", ["האוכל", "טוב"]),
        ("ấn tượng", ["ấn", "tượng"]),
        ("맛이 없다", ["맛이", "없다"]),
        ("अच्छा नहीं है।", ["अच्छा", "नहीं", "है"]),  # vowels that stand on letters part no word
        ("الطَّعامُ لَذيذٌ", ["الطَّعامُ", "لَذيذٌ"]),
        ("טוֹב־מְאֹד", ["טוֹב", "מְאֹד"]),
        ("cafe\u0301 nai\u0308ve", ["cafe\u0301", "nai\u0308ve"]),
        ("İstanbul", ["i\u0307stanbul"]),
        ("<b>&amp;</b>\x00\x1b[31m", ["b", "amp", "b", "31m"]),
        ("", []),
        (" \t\n…", []),
    ],
)
def test_words_are_lower_case_without_punctuation_and_characters_where_no_spaces_are_set(text, words):
    assert words_of(text) == words


def test_cues_are_the_words_and_the_phrases_of_up_to_three():
    assert cues_of(["a", "b", "a", "c"]) == {
        *(("a",), ("b",), ("c",), ("a", "b"), ("b", "a"), ("a", "c")),
        *(("a", "b", "a"), ("b", "a", "c")),
    }
    assert cues_of([]) == set()
    assert cues_of(["a", "b"], 1) == {("a",), ("b",)}


def test_a_phrase_may_begin_in_itself():
    assert places_of(("a", "a"), ["a", "a", "a", "b", "a"]) == [0, 1]
    assert places_of(("a",), []) == []
    assert places_of(("a", "b"), ["a"]) == []


def test_negations_are_words_as_texts_are_read():
    assert all(words_of(word) == [word] for word in NEGATORS)


TEXTS = ["good good soup", "not a good soup", "bad soup", "soup of the day", "", "好吃"]
LABELS = [1, 0, 0, -1, 1, 1]


@pytest.fixture
def index():
    index = WordIndex()
    index.add(range(10, 16), TEXTS, LABELS)
    return index


def test_an_id_that_is_there_is_left_out(index):
    index.add([11, 20], ["other words", "more"], [1, 1])
    assert (len(index), index.texts[11], index.ids[-1]) == (7, TEXTS[1], 20)
    assert index.unseen(["more", "other"]) == ["other"]


def test_counts_are_of_examples_with_a_label_and_once_each(index):
    cues = [("good",), ("good", "soup"), ("soup",), ("soup", "good"), ("day",), ("never", "there"), ("好", "吃")]
    wanted = []
    for cue in cues:
        rows = [label for text, label in zip(TEXTS, LABELS, strict=True) if places_of(cue, words_of(text))]
        wanted.append([rows.count(0), rows.count(1)])
    assert index.counts(cues, 2).tolist() == wanted
    assert index.counts([], 2).shape == (0, 2)


def test_examples_with_a_cue_are_listed_with_and_without_a_label(index):
    assert index.with_cue(("soup",)) == [10, 11, 12, 13]
    assert index.with_cue(("good", "soup")) == [10, 11]
    assert index.with_cue(("soup", "good")) == []
    assert index.with_cue(("good", "never")) == []


def test_words_that_no_example_has_are_named_once(index):
    assert index.unseen(["tea", "soup", "tea", "cake"]) == ["tea", "cake"]


def test_bags_of_other_texts_are_those_of_the_same_texts(index):
    alike = jaccard(index.bags_of([words_of(text) for text in TEXTS]), index.bags())
    assert alike.diag().tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 1.0]  # nothing is like nothing
    assert index.bags().sizes.tolist() == [4, 7, 3, 7, 0, 3]  # words, each once, and their pairs
    apart = jaccard(index.bags_of([["unknown", "words"]]), index.bags())
    assert torch.equal(apart, torch.zeros(1, 6))
