"""What the Interpret tab knows of records, run as the JavaScript that it is."""

import json

import boards
import pytest
from records import NASTY, arbitrary_row, image_row, row

from lightning_interpret.report.interpret_summary import payloads

pytestmark = boards.needs_browser


@pytest.fixture(scope="module")
def model(functions):
    """Call a function of ``model.js``: ``model("units", record, "word")``."""
    return functions("model.js")


def _record(sample):
    return json.loads(json.dumps(sample.to_dict()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("word", "word"), ("<b>x</b>", "<b>x</b>"), ("", "␣"), ("   ", "␣"), ("a\nb\tc\r", "a↵b⇥c␍"),
        ("\u202eevil", "\\u202eevil"), ("\x00", "\\u0000"), ("\x1b[31m", "\\u001b[31m"), ("\ud800", "\\ud800"),
        ("👩‍👩‍👧", "👩‍👩‍👧"), ("مرحبا", "مرحبا"), ("\u2028", "␣"), ("a\u2028", "a\\u2028"), (3, "3"), (None, "null"),
    ],
)  # fmt: skip
def test_texts_show_what_cannot_be_seen(model, text, shown):
    assert model("printable", text) == shown


@pytest.mark.parametrize("text", NASTY)
def test_no_text_is_invisible_or_turns_the_line_round(model, text):
    shown = model("printable", text)
    assert shown.strip()
    assert not set(shown) & set("\n\r\t\x00\x1b\u202e")


@pytest.mark.parametrize(
    ("number", "signed", "plain"),
    [
        (1.23456, "+1.23", "1.23"), (-0.5, "−0.5", "−0.5"), (0, "0", "0"), (-1234567, "−1.2e+6", "−1.2e+6"),
        (0.00001234, "+1.2e−5", "1.2e−5"), (-1e-12, "−1.0e−12", "−1.0e−12"), (99999, "+100000", "100000"),
        (None, "not a number", "–"), ("x", "not a number", "–"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_and_scores_their_sign(model, number, signed, plain):
    assert model("signed", number) == signed
    assert model("plain", number) == plain


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.5, "50 %"), (0, "0 %"), (0.00001, "< 0.01 %"), (12.345, "1230 %"), (0.0123, "1.2 %"), (None, "–"), ("x", "–")],
)
def test_shares_are_per_cent(model, share, shown):
    assert model("percent", share) == shown


@pytest.mark.parametrize("seed", range(30))
def test_words_are_those_of_the_record(model, seed):
    sample = arbitrary_row(seed)
    found = model("units", _record(sample), "word")
    merged = sample.merged()
    assert [unit["text"] for unit in found] == [word.text for word in merged]
    assert [unit["score"] for unit in found] == pytest.approx([word.score for word in merged])
    assert [unit["special"] for unit in found] == [word.special for word in merged]
    parts = [part for unit in found for part in unit["parts"]]
    assert [part["text"] for part in parts] == list(sample.tokens)
    assert [part["score"] for part in parts] == list(sample.scores)
    assert [unit["index"] for unit in found] == list(range(len(merged)))


@pytest.mark.parametrize("seed", range(5))
def test_tokens_are_those_of_the_record(model, seed):
    sample = arbitrary_row(seed)
    found = model("units", _record(sample), "token")
    assert [(unit["text"], unit["score"]) for unit in found] == list(zip(sample.tokens, sample.scores, strict=True))


def test_a_word_with_a_token_that_has_no_number_has_none(model):
    record = {"tokens": ["a", "b", "c"], "scores": [None, 1.0, 2.0], "word_ids": [0, 0, 1], "words": ["ab", "c"]}
    assert [unit["score"] for unit in model("units", record, "word")] == [None, 2.0]


@pytest.mark.parametrize(
    "record",
    [{}, {"tokens": []}, {"tokens": ["a"], "scores": []}, {"tokens": ["a"], "scores": [1], "word_ids": [0, 1]},
     {"tokens": ["a"], "scores": [1], "word_ids": [5], "words": ["x"]}, {"tokens": ["a"], "scores": None},
     {"tokens": ["1", "2"], "scores": [1, 2], "word_ids": [], "words": []}],
)  # fmt: skip
def test_records_with_missing_fields_have_units_all_the_same(model, record):
    for by in ("word", "token"):
        assert [unit["text"] for unit in model("units", record, by)] == (record.get("tokens") or [])


def test_gaps_are_where_the_text_has_them(model):
    record = {
        "tokens": ["un", "##fair", ",", "it", "is"], "scores": [1, 1, 1, 1, 1], "word_ids": [0, 0, 1, 2, 3],
        "words": ["unfair", ",", "it", "is"], "offsets": [[0, 2], [2, 6], [6, 7], [8, 10], [11, 13]],
    }  # fmt: skip
    assert [unit["space"] for unit in model("units", record, "word")] == [True, False, True, True]
    assert [unit["space"] for unit in model("units", record, "token")] == [True, False, False, True, True]


def test_pairs_of_texts_keep_their_segment(model):
    record = _record(row("a b", segment=(0, 0, 1, 1)))
    assert [unit["segment"] for unit in model("units", record, "word")] == [0, 0, 1, 1]


def _units(*scores, special=()):
    return [{"score": score, "special": i in special, "text": "x"} for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("found", "scale"),
    [
        (_units(1, -3, 2), 3), (_units(9, -3, 2, special=[0]), 3), (_units(9, 0, special=[0]), 9), (_units(0, 0), 1),
        ([], 1), (_units(None, 2), 2), (_units(None), 1),
    ],
)  # fmt: skip
def test_colours_are_divided_by_the_largest_word(model, found, scale):
    assert model("scaleOf", found) == scale


@pytest.mark.parametrize(("score", "share"), [(2, 0.5), (-8, -1), (None, 0), ("x", 0), (0, 0)])
def test_strength_stays_within_the_scale(model, score, share):
    assert model("strength", score, 4) == share


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("مرحبا بالعالم", "rtl"), ("שלום", "rtl"), ("good film", "ltr"), ("寿司 が 好き", "ltr"),
        ("1 2 !", "ltr"), ("", "ltr"),
        ("film שלום עולם", "rtl"), ("a good film called שלום", "ltr"),
    ],
)  # fmt: skip
def test_texts_are_read_in_the_direction_of_most_words(model, words, expected):
    found = [{"text": "[CLS]", "special": True}, *({"text": word, "special": False} for word in words.split())]
    assert model("direction", found) == expected


def test_wrong_needs_two_labels(model):
    assert model("wrong", {"gold": "a", "prediction": "b"}) is True
    assert model("wrong", {"gold": "a", "prediction": "a"}) is False
    assert [model("wrong", facts) for facts in (None, {}, {"gold": "a"}, {"prediction": "a", "gold": None})] == [
        None
    ] * 4


def test_an_entry_has_a_name_and_examples_are_counted(model):
    entry = {"kind": "attribution", "tag": "interpret/m/x", "probe": 3}
    assert model("nameOf", entry) == "Probe 3"
    assert model("nameOf", entry | {"probe": None}) == "interpret/m/x"
    assert model("nameOf", entry | {"kind": "trust"}) == "All probes"
    named = {"bad_cases": "Overview", "bad_case_group": "Group 3", "bad_case": "Case 3"}
    assert {kind: model("nameOf", entry | {"kind": kind}) for kind in named} == named
    assert [model("counted", *of) for of in ((1, 1), (0, 1), (2, 2), (1, 3), (0, 0))] == [
        "1 example", "0 of 1 example", "2 examples", "1 of 3 examples", "0 examples",
    ]  # fmt: skip


ENTRIES = [
    {"run": "one", "monitor": "m", "tag": "interpret/m/probe_0",
     "facts": {"text": "A Good film", "gold": "pos", "prediction": "neg", "example_id": 17}},
    {"run": "one", "monitor": "m", "tag": "interpret/m/probe_1",
     "facts": {"text": "bad", "gold": "neg", "prediction": "neg", "listed": "48213 7"}},
    {"run": "two", "monitor": "m", "tag": "interpret/m/probe_0", "facts": {"problem": "broken"}},
    {"run": "two", "monitor": "n", "tag": "interpret/n/probe_0"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "places"),
    [
        ({}, [0, 1, 2, 3]), ({"query": "good FILM"}, [0]), ({"query": " 17 "}, [0]), ({"query": "neg bad"}, [1]),
        ({"query": "probe_1"}, [1]), ({"query": "["}, []), ({"hidden": ["one"]}, [2, 3]), ({"onlyWrong": True}, [0]),
        ({"onlyWrong": True, "hidden": ["one"]}, []), ({"query": "48213"}, [1]),
    ],
)  # fmt: skip
def test_examples_are_found_by_words_runs_and_mistakes(model, asked, places):
    assert model("filtered", ENTRIES, asked) == [ENTRIES[i] for i in places]


KNOWN = [
    {"run": "one", "monitor": "m", "tag": "a", "last_step": 10, "facts": {"gold": "pos", "prediction": "neg"}},
    {"run": "one", "monitor": "n", "tag": "b", "last_step": 20, "facts": {"gold": "neg", "cause": "coverage"}},
    {"run": "one", "monitor": "n", "tag": "c", "last_step": 30},
    {"run": "one", "monitor": "n", "tag": "d", "last_step": 40, "facts": {"prediction": 10, "cue": "Tuesday"}},
    {"run": "one", "monitor": "n", "tag": "e", "last_step": 40, "facts": {"prediction": 9}},
]


@pytest.mark.parametrize(
    ("asked", "places"),
    [
        ({"monitor": "n"}, [1, 2, 3, 4]), ({"gold": "neg"}, [1]), ({"prediction": "10"}, [3]), ({"gold": "g"}, []),
        ({"cause": "coverage", "monitor": "m"}, []), ({"from": 20, "to": 30}, [1, 2]), ({"to": 0}, []),
        ({"query": "tuesday"}, [3]), ({"query": "COVERAGE"}, [1]), ({"change": "fixed"}, []),
    ],
)  # fmt: skip
def test_examples_are_filtered_by_what_is_known_of_them(model, asked, places):
    assert model("filtered", KNOWN, asked) == [KNOWN[i] for i in places]
    assert model("filtersOn", asked) == len({"to" if name == "from" else name for name in asked})


def test_the_values_of_a_filter_are_in_order_and_the_most_frequent(model):
    assert model("valuesOf", KNOWN, "monitor") == ["m", "n"]
    assert model("valuesOf", KNOWN, "prediction") == ["9", "10", "neg"]
    assert model("valuesOf", KNOWN, "monitor", 1) == ["n"]


@pytest.mark.parametrize(
    ("listed", "kept"),
    [
        (["1 2 3 4", "4 3 2 5", "5"], [None, 0.75, 1]), (["1 2", "12"], [None, 0]), ([], []), ([7, 7], [None, 1]),
        ([None, "1", None, "1"], [None, 0, None, 0]),
    ],
)  # fmt: skip
def test_examples_that_stay_from_step_to_step_are_counted(model, listed, kept):
    assert model("kept", [{} if ids is None else {"listed": ids} for ids in listed]) == kept


def test_examples_stand_under_their_run_and_monitor(model):
    groups = model("grouped", ENTRIES)
    assert [(group["run"], group["monitor"], len(group["entries"])) for group in groups] == [
        ("one", "m", 2), ("two", "m", 1), ("two", "n", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "place"), [(None, 2), (10, 0), (20, 1), (25, 1), (99, 2), (5, 0), (-1, 0), ("x", 0)]
)
def test_the_wanted_step_or_the_one_before_it_is_shown(model, wanted, place):
    assert model("placeOf", [{"step": step} for step in (10, 20, 30)], wanted) == place


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("values", [[], [None], [0], [3, 3], [-2, None, 5], [-1, -4], [1e-300, 1e300], [0, 0.2, 0.1]])
def test_an_axis_holds_all_values_and_has_a_height(model, values, zero):
    found = model("axis", values, {"zero": zero})
    known = [value for value in values if value is not None]
    assert found["low"] < found["high"]
    assert all(found["low"] <= value <= found["high"] for value in [*known, *found["marks"]])
    assert not zero or found["low"] <= 0 <= found["high"]


IMAGE = {"units": "location", "grid": [2, 3], "special": [True, *[False] * 6], "scores": [9, 1, 2, 3, 4, 5, -6]}


def test_locations_lie_row_by_row_where_they_are_in_the_image(model):
    found = model("locations", IMAGE)
    assert [cell["text"] for cell in found["cells"]][3] == "row 2, column 1"
    assert [cell["score"] for cell in found["cells"]] == [1, 2, 3, 4, 5, -6]
    assert found["cells"][4]["box"] == pytest.approx([1 / 3, 1 / 2, 2 / 3, 1])
    assert (found["outside"], found["shape"], found["pooled"]) == ([9], [2, 3], [1, 1])


def test_summed_locations_end_where_the_image_does(model):
    sample = image_row((5, 40), before=0)
    (page,) = payloads(sample, monitor="m", step=1, probe=0)
    (record,) = json.loads(page)["records"]
    found, grid = model("locations", record), sample.locations().pool()
    assert (found["full"], found["pooled"]) == ([5, 40], [1, 2])
    assert [cell["box"] for cell in found["cells"]] == [pytest.approx(list(grid.edges(i))) for i in range(100)]
    assert [cell["score"] for cell in found["cells"]] == pytest.approx(list(grid.scores))
    ragged = model("locations", IMAGE | {"full_grid": [3, 8], "pooled": [2, 3]})
    assert ragged["cells"][5]["box"] == pytest.approx([6 / 8, 2 / 3, 1, 1])


@pytest.mark.parametrize(("x", "y", "index"), [(0, 0, 0), (0.5, 0.2, 1), (0.99, 0.99, 5), (1, 0.5, -1), (-0.1, 0, -1)])
def test_a_place_belongs_to_one_location(model, x, y, index):
    assert model("cellAt", model("locations", IMAGE), x, y) == index


@pytest.mark.parametrize(
    ("index", "key", "to"),
    [(1, "ArrowLeft", 0), (0, "ArrowLeft", None), (2, "ArrowRight", None), (1, "ArrowDown", 4), (4, "ArrowUp", 1),
     (4, "ArrowDown", None), (4, "Home", 0), (0, "End", 5), (0, "x", None)],
)  # fmt: skip
def test_keys_lead_to_the_location_beside(model, index, key, to):
    assert model("besides", index, key, [2, 3]) == to


@pytest.mark.parametrize(
    ("image", "kept"),
    [("data:image/png;base64,AAAA", True), ("data:image/jpeg;base64,AA+/=", True), ("https://e.org/a.png", False),
     ("data:image/svg+xml;base64,AAAA", False), ("data:text/html,x", False), (None, False), ("", False), (3, False)],
)  # fmt: skip
def test_only_a_picture_in_the_record_itself_is_shown(model, image, kept):
    assert model("pictureOf", {"image": image}) == (image if kept else None)
