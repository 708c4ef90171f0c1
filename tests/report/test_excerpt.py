"""Texts with the words that mattered: where they stand, what is shown of a long text, and what a sentence names."""

import re
import time

import pytest
from records import NASTY
from reviews import NOT_BAD, attribution

from lightning_interpret.report.excerpt import SHORT, WHOLE, excerpt, found_in, marked, plain, reasons, whole, words_of


def _words(text, scores, **changes):
    return words_of(attribution(text.split(), scores, **changes), text)


def _marks(html):
    return re.findall(r'<mark class="(\w+)">(.*?)</mark>', html)


def test_words_are_found_in_the_text_and_the_strong_ones_marked():
    text = "The soup was not bad ."
    words = _words(text, [0.1, 0, 0, 2.0, 1.5, -0.8])
    assert [text[word.start : word.end] for word in words] == text.split()
    assert _marks(excerpt(text, words)) == [("for", "not"), ("for", "bad"), ("against", ".")]
    assert excerpt(text, words).startswith("The soup was <mark")


def test_words_beside_each_other_are_one_phrase():
    scores = [0, 0.9, 0, 2.0, 1.5, 0]
    assert reasons(_words("The soup was not bad .", scores), "The soup was not bad .") == (["not bad", "soup"], True)
    weak = "a b c d e f g h i j"
    named, most = reasons(_words(weak, [1.0] * 10), weak)
    assert (named, most) == (["a b c d e f g h i j"], True)
    spread = "x a x b x c x d x e x f"
    assert not reasons(_words(spread, [0.2, 1.0] * 6), spread)[1]
    assert reasons([], "") == ([], False)
    assert reasons(_words("a b", [-1.0, -2.0]), "a b") == ([], False)


def test_punctuation_and_a_word_twice_are_not_named():
    text = "great . the soup . The end !"
    assert reasons(_words(text, [1.0, 1.0, 1.1, 0, 1.0, 1.0, 0, 1.0]), text)[0] == ["the", "great"]
    assert reasons(_words("a !", [0.1, 2.0]), "a !") == ([], False)


def test_offsets_give_the_places_and_sub_words_are_joined():
    text = "unbelievably bad"
    found = attribution(
        ["un", "##believ", "##ably", "bad"], [0.5, 1.0, 0.5, -0.2], words=("unbelievably", "bad"),
        word_ids=(0, 0, 0, 1), offsets=((0, 2), (2, 8), (8, 12), (13, 16)),
    )  # fmt: skip
    first, second = words_of(found, text)
    assert (first.start, first.end, first.score) == (0, 12, 2.0)
    assert text[second.start : second.end] == "bad"


@pytest.mark.parametrize("offsets", [((5, 9), (0, 2)), ((0, 999), (1000, 1001)), ((3, 1), (4, 5))])
def test_offsets_of_another_text_are_not_used(offsets):
    words = words_of(attribution(["good", "soup"], [1.0, 2.0], offsets=offsets), "Good soup")
    assert [(word.start, word.end) for word in words] == [(0, 4), (5, 9)]


def test_words_that_are_not_in_the_text_are_left_out():
    assert [word.number for word in words_of(attribution(["good", "rice", "soup"], [1, 1, 1]), "good soup")] == [0, 2]
    assert words_of(None, "good") == []
    found = words_of(attribution(["a", "b"], [float("nan"), 1.0]), "a b")
    assert [word.score for word in found] == [0.0, 1.0]


def test_a_cue_is_found_where_it_is_a_word_of_its_own():
    assert [(w.start, w.end) for w in found_in("Not nothing, not a knot", ["not"])] == [(0, 3), (13, 16)]
    assert [(w.start, w.end) for w in found_in("味道不差", ["不"])] == [(2, 3)]
    assert found_in("a", ["", " "]) == []


def test_a_long_text_is_shown_around_the_words_that_mattered():
    filler = "nothing of note here . " * 60
    text = filler + "not bad " + filler + "awful " + filler
    words = found_in(text, ["not", "awful"])
    shown = excerpt(text, words)
    assert _marks(shown) == [("for", "not"), ("for", "awful")]
    assert shown.count("…") == 3
    assert len(shown) < 600
    assert "note here . not" in re.sub("<[^>]*>", "", shown)
    begin = excerpt(text, [])
    assert begin.startswith("nothing of note")
    assert len(begin) <= SHORT + 20


def test_the_whole_text_is_bounded_and_says_how_much_is_left_out():
    shown, rest = whole("word " * 1000, [])
    assert rest == 5000 - WHOLE
    assert len(shown) <= WHOLE
    assert whole(NOT_BAD, []) == (NOT_BAD.replace("'", "&#x27;"), 0)


@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>", "</mark><b>", "a\u0301" * 9000, "x" * 3_000_000])
def test_any_text_is_literal_and_short(text):
    started = time.monotonic()
    for words in ([], found_in(text, [text[:40]]), words_of(attribution([text, text], [1, -1]), text)):
        for shown in (excerpt(text, words), whole(text, words)[0]):
            assert not re.search(r"<(?!/?mark)", shown)
            assert len(shown) < 12_000
            assert not any(ord(character) < 32 or 0x202A <= ord(character) <= 0x202E for character in shown)
            assert shown.count("<mark") == shown.count("</mark>")
        assert len(marked(words)) <= 12
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [
        ("a\n b\t c", 10, "a b c"), ("abcdef", 4, "abc…"), ("", 4, ""), (None, 4, ""), ("abcd", 4, "abcd"),
        ("abe\u0301f", 4, "ab…"), (" " * 900 + "a", 4, "…"),
    ],
)  # fmt: skip
def test_a_text_is_put_on_one_line(text, longest, expected):
    assert plain(text, longest) == expected
