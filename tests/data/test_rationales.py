"""Rationales as people write them down: spans of characters, flags of words or of other tokens; or refused."""

import json

import pytest

from lightning_interpret.data import read_rows
from lightning_interpret.data.rationales import offsets_of_words, read_rationale, spans_of_tokens

TEXT = "not  a bad film"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([[7, 10]], ((7, 10),)),
        ("[[7, 10], [0, 3]]", ((7, 10), (0, 3))),
        ([[6, 11], [3, 5]], ((7, 10),)),  # white space is nobody's
        ([0, 0, 1, 1], ((7, 15),)),
        ("[1, 0, 1, 0]", ((0, 3), (7, 10))),
        ([True, False, False, True], ((0, 3), (11, 15))),
        ([], ()),
        ("[]", ()),
        ([0, 0, 0, 0], ()),
        (None, None),
        ("  ", None),
        (float("nan"), None),
        ("NaN", None),
        ("nan", None),  # as a table is often written
        ("None", None),
        ("null", None),
    ],
)
def test_spans_of_characters_and_flags_of_words_say_the_same(value, expected):
    assert read_rationale(value, TEXT) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 0], "2 flags, but the text has 4 tokens"),
        ([0, 0, 2, 0], "the flag 2, which is neither 0 nor 1"),
        ([[7, 16]], r"the span \[7, 16\], but the text has 15 characters"),
        ([[3, 2]], r"the span \[3, 2\]"),
        ([[1]], r"the span \[1\]"),
        ([[0.5, 2]], r"the span \[0.5, 2\]"),
        ("[[7, 10]", r"not JSON \(Expecting ',' delimiter"),
        ("bad film", "not JSON"),
        (3, "a int, not a list of"),
        ({"start": 1}, "a dict, not a list of"),
    ],
)
def test_what_does_not_fit_the_text_is_refused(value, words):
    with pytest.raises(ValueError, match=words):
        read_rationale(value, TEXT)


def test_flags_of_another_tokenisation_are_stretches_of_characters():
    tokens = [(0, 0), (0, 3), (5, 6), (7, 8), (8, 10), (11, 15), (0, 0)]
    assert spans_of_tokens([1, 0, 0, 1, 1, 0, 1], tokens, TEXT) == ((7, 10),)
    assert spans_of_tokens([0, 1, 0, 1, 0, 1, 0], tokens, TEXT) == ((0, 3), (7, 8), (11, 15))
    with pytest.raises(ValueError, match=r"\[11, 16\], but the text has 15"):
        spans_of_tokens([1], [(11, 16)], TEXT)


def test_words_are_found_one_after_another_or_refused():
    assert offsets_of_words(["a", "film", "a", "film"], "a film, a film") == ((0, 1), (2, 6), (8, 9), (10, 14))
    with pytest.raises(ValueError, match="word 1, 'movie', is not in the text after character 1"):
        offsets_of_words(["a", "movie"], "a film")


def test_a_column_of_rationales_is_read_from_any_format_and_its_faults_have_their_line(tmp_path):
    rows = [(TEXT, "dull", [[7, 10]]), ("good", "good", None)]
    table = tmp_path / "rows.tsv"
    table.write_text("text\tlabel\twhy\n" + "".join(f"{t}\t{y}\t{json.dumps(w) if w else ''}\n" for t, y, w in rows))
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps({"text": t, "label": y, "why": w}) + "\n" for t, y, w in rows))
    for path in (table, lines):
        assert [row.rationale for row in read_rows(path, rationale_column="why")] == [((7, 10),), None]
        assert [row.rationale for row in read_rows(path)] == [None, None]
    with pytest.raises(ValueError, match=r"rows.tsv, line 1: `rationale_column='whys'` does not exist. Did you mean"):
        list(read_rows(table, rationale_column="whys"))
    with pytest.raises(ValueError, match=r"rows.tsv, line 2: column 'label' holds 'dull' .*no rationale .*: not JSON"):
        list(read_rows(table, rationale_column="label"))
    texts = tmp_path / "rows.txt"
    texts.write_text("good\n")
    with pytest.raises(ValueError, match=r"`rationale_column='why'`: .*rows.txt has no columns"):
        list(read_rows(texts, rationale_column="why"))
