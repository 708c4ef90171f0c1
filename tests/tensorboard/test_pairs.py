"""What the Interpret tab knows of two records of one example, run as the JavaScript that it is."""

import boards
import pytest

from lightning_interpret.bad_cases import ACTIONS, CAUSES, KINDS, STATUSES

pytestmark = boards.needs_browser


@pytest.fixture(scope="module")
def pairs(functions):
    return functions("pairs.js")


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (("a", "b"), ("b", "b"), "fixed"), (("b", "b"), ("a", "b"), "broke"), (("a", "b"), ("c", "b"), "other"),
        (("a", "b"), ("a", "b"), "same"), (("a", None), ("b", None), "other"), (("a", "a"), (None, "a"), None),
        ((None, "a"), ("a", "a"), None),
    ],
)  # fmt: skip
def test_a_prediction_is_fixed_or_broke_or_is_another_one(pairs, before, after, change):
    of = [dict(zip(("prediction", "gold"), each, strict=True)) for each in (before, after)]
    assert pairs("changeOf", *of) == change


def test_an_entry_is_of_an_example_or_of_a_group_or_of_a_place(pairs):
    subjects = [
        pairs("subject", {"kind": kind, "probe": 3, "facts": facts})
        for kind, facts in (
            ("attribution", {"example_id": 3}), ("attribution", {}), ("trust", None), ("bad_case", None),
            ("bad_case", {"example_id": 0}), ("bad_case_group", {"cause": "shortcut", "cue": "x"}),
            ("bad_case_group", None),
        )
    ]  # fmt: skip
    assert subjects == [
        '["example",3]', '["probe",3]', '["probe",3]', None, '["example",0]', '["group","shortcut","x"]', None,
    ]  # fmt: skip


def test_other_records_of_an_example_are_found_in_its_run(pairs):
    entries = [
        {"run": run, "monitor": monitor, "facts": facts}
        for run, monitor, facts in (
            ("a", "0", {"example_id": 7}), ("a", "1", {"example_id": 7}), ("b", "2", {"example_id": 7}),
            ("a", "3", {"example_id": 8}), ("a", "4", None), ("a", "5", {}), ("a", "0", {"example_id": 7}),
            ("a", "1", {"example_id": 7}),
        )
    ]  # fmt: skip
    assert pairs("elsewhere", entries, entries[0]) == [entries[1]]
    assert pairs("elsewhere", entries, entries[5]) == []


def test_scores_of_the_same_tokens_are_compared(pairs):
    one = {"tokens": ["[CLS]", "a", "b", "c"], "scores": [9, 3, -4, 0], "special": [True, False, False, False]}
    turned = one | {"scores": [-9, -3, 4, 0]}
    assert pairs("alike", one, turned)["cosine"] == pytest.approx(-1)
    assert pairs("alike", one, one | {"scores": [0, 0, 4, 3]}, 1) == {
        "cosine": pytest.approx(-16 / (106**0.5 * 5)), "common": 1, "strongest": 1,
    }  # fmt: skip
    assert pairs("alike", one, one | {"scores": [0, 0, 0, 0]}) == {"cosine": None, "common": None, "strongest": 0}
    for other in (one | {"tokens": ["x"] * 4}, {}, one | {"scores": [1, 2, 3, None]}):
        assert pairs("alike", one, other) is None


def test_figures_that_both_have_are_told_with_their_difference(pairs):
    found = pairs("figures", {"confidence": 0.9, "loss": 1, "size": 3, "x": 1}, {"confidence": 0.4, "loss": 1, "x": 2})
    assert [tuple(each.values()) for each in found] == [
        ("Confidence", "90 %", "40 %", "−50 %"), ("Loss", "1", "1", "the same"),
    ]  # fmt: skip
    assert pairs("listedBoth", {"listed": "1 2 3"}, {"listed": "3 12 1"}) == {"common": 2, "of": 3}
    assert pairs("listedBoth", {"listed": "1"}, {}) is None


def test_every_key_of_the_records_is_in_words(functions):
    named = functions("causes.js")
    assert {key: meaning for key, (_, meaning) in named("CAUSES").items()} == CAUSES
    for function, keys in (("badness", KINDS), ("status", STATUSES), ("action", ACTIONS), ("file", ("train", "val"))):
        said = [named(function, key) for key in keys]
        assert len(set(said)) == len(keys)
        assert function == "status" or not set(said) & set(keys) - {"wrong"}
        assert named(function, "of a later version\u202e") == "of a later version\\u202e"
    assert named("groupName", {"cause": "toString", "cue": "<b>"}) == "toString: <b>"


def test_ids_are_saved_as_a_table_with_tabs(functions):
    facts = {"example_id": 7, "gold": "a\tb", "prediction": "c\nd", "cause": "shortcut", "cue": "="}
    entries = [
        {"run": "r", "monitor": "m", "probe": 0, "last_step": 5, "facts": facts},
        {"run": "r", "monitor": "m", "probe": None, "last_step": 6},
    ]
    assert functions("save.js")("table", entries) == (
        "example_id\trun\tmonitor\tprobe\tstep\tgold\tprediction\tcause\tcue\n"
        "7\tr\tm\t0\t5\ta b\tc d\tshortcut\t=\n\tr\tm\t\t6\t\t\t\t\n"
    )
