import json
from dataclasses import replace
from math import comb

import pytest
from bad_case_records import GROUP, OVERVIEW

from lightning_interpret.commands.runs import mcnemar
from lightning_interpret.report.bad_case_files import Prediction, report_dict, write_json


def said(key, gold, prediction, confidence=0.9, cause=None, cue=None, text=None):
    text = text or f"text {key}"
    return Prediction(key, key + 2, gold, prediction, confidence, cause, cue, text, f"digest of {text}")


BEFORE = [
    said(0, "pos", "neg", 0.95, "shortcut", "tuesday"),
    said(1, "pos", "neg", 0.7, "shortcut", "tuesday"),
    said(2, "neg", "pos", 0.8, "coverage", ""),
    said(3, "neg", "neg"),
    said(4, "pos", "pos"),
]
AFTER = [
    said(0, "pos", "pos"),
    said(1, "pos", "neg", 0.6, "shortcut", "tuesday"),
    said(2, "neg", "neg"),
    said(3, "neg", "pos", 0.99, "confusion", "neg / pos"),
    said(4, "pos", "pos"),
]


def group(cause, cue, size, accuracy=None):
    return replace(GROUP, cause=cause, cue=cue, size=size, accuracy=accuracy, members=(), action=None)


GROUPS = {
    "before": [group("shortcut", "tuesday", 2, 0.4), group("coverage", "", 1)],
    "after": [group("shortcut", "tuesday", 1, 0.8), group("coverage", "", 0), group("confusion", "neg / pos", 1)],
}


@pytest.fixture
def reports(tmp_path):
    """Write a report before and one after, and return their folders."""

    def reports(before=BEFORE, after=AFTER, groups=GROUPS):
        folders = {}
        for name, predictions in (("before", before), ("after", after)):
            report = report_dict(
                model=f"model <{name}>",
                files={"train": "train.tsv", "val": f"{name}.tsv"},
                digests={},
                columns={"text": "text", "label": "label", "id": None},
                labels=["neg", "pos"],
                overview=replace(OVERVIEW, explained=3, wrong_cases=3, unsure=0),
                groups=groups[name],
                cases=[],
                predictions=predictions,
            )
            folders[name] = tmp_path / name
            write_json(folders[name] / "report.json", report)
        return folders

    return reports


@pytest.fixture
def compare(command, tmp_path):
    """Compare two reports and return what was printed, the page and the numbers."""

    def compare(folders):
        words = ("--before", folders["before"], "--after", folders["after"] / "report.json")
        done = command("compare", "--what", "runs", *words, "--output-dir", tmp_path / "out")
        assert done.status == 0, done.err
        page = (tmp_path / "out" / "runs.md").read_text()
        return done.out, page, json.loads((tmp_path / "out" / "runs.json").read_text())

    return compare


def ids(pairs):
    return [pair["after"]["example_id"] for pair in pairs]


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (5, 0), (0, 5), (7, 7), (15, 5), (3, 9)])
def test_the_p_value_is_the_share_of_signs_as_uneven_as_these(fixed, broken):
    total = fixed + broken
    uneven = sum(comb(total, k) for k in range(total + 1) if abs(2 * k - total) >= abs(fixed - broken))
    assert mcnemar(fixed, broken) == pytest.approx(uneven / 2**total)


def test_a_p_value_of_many_rows_is_a_number():
    assert mcnemar(5000, 5000) == 1.0
    assert mcnemar(9000, 0) == 0.0


def test_what_was_fixed_and_what_broke_is_said(reports, compare):
    out, page, found = compare(reports())
    assert (ids(found["fixed"]), ids(found["broken"]), ids(found["wrong"])) == ([0, 2], [3], [1])
    assert (found["rows"], found["matched_by"], found["p_value"]) == (5, "example_id", 1.0)
    assert (found["before"]["right"], found["after"]["right"]) == (2, 3)
    lines = [line.split() for line in out.splitlines()]
    assert ["accuracy", "0.400", "0.600"] in lines
    assert ["confidently", "wrong", "1", "1"] in lines
    assert "2 were fixed, 1 broke, 1 stayed wrong, 1 stayed right; exact McNemar p = 1." in out
    assert "text 3" in out
    assert "| 5 | neg | neg 0.90 | pos 0.99 | confusion: neg / pos | text 3 |" in page
    assert "model &#60;before&#62;" in page


def test_groups_are_followed(reports, compare):
    out, page, found = compare(reports())
    kept = {each["cause"]: each for each in found["groups"]}
    names = ("before", "after", "status", "fixed", "wrong", "broken")
    shown = {cause: [each[name] for name in names] for cause, each in kept.items()}
    assert shown == {
        "shortcut": [2, 1, "shrinking", 1, 1, 0],
        "coverage": [1, 0, "solved", 1, 0, 0],
        "confusion": [0, 1, "new", 0, 0, 1],
    }
    assert [line for line in out.splitlines() if line.startswith("shortcut")] == [
        "shortcut   tuesday         2      1  shrinking      1            1      0         0.400        0.800"
    ]
    assert "| shortcut | tuesday | 2 | 1 | shrinking | 1 | 1 | 0 | 0.400 | 0.800 |" in page


@pytest.mark.parametrize(("sizes", "status"), [((2, 2), "steady"), ((2, 3), "growing")])
def test_a_group_that_stays_has_its_status(reports, compare, sizes, status):
    before, after = ([group("shortcut", "tuesday", size)] for size in sizes)
    _, _, found = compare(reports(groups={"before": before, "after": after}))
    assert [each["status"] for each in found["groups"]] == [status]


def test_rows_whose_ids_differ_are_matched_by_text(reports, compare):
    moved = [replace(each, example_id=each.example_id - 1) for each in AFTER[1:]]
    twice = said(9, "pos", "pos", text="text 4")
    out, _, found = compare(reports([*BEFORE, twice], [*moved, replace(twice, prediction="neg")]))
    assert found["matched_by"] == "text"
    assert (found["rows"], found["only_before"], found["only_after"]) == (5, 1, 0)
    assert ids(found["broken"]) == [2, 9]  # of two rows of one text the second was right, and is wrong
    assert "Ids are not those of the same texts in both" in out
    assert "1 rows are in the run before alone, 0 in the run after alone." in out


def test_rows_with_another_label_are_said_apart(reports, compare):
    after = [replace(AFTER[0], gold="neg"), *AFTER[1:3], replace(AFTER[3], gold="pos"), replace(AFTER[4], gold=None)]
    out, page, found = compare(reports(after=after))
    assert (found["rows"], found["unlabelled"]) == (2, 1)
    assert [(each["before"]["gold"], each["after"]["gold"]) for each in found["relabelled"]] == [
        ("pos", "neg"),
        ("neg", "pos"),
    ]
    assert "2 more rows have another label now" in out
    assert "by the old label 1 were right before, by the new one 1 are right after" in out
    assert "## Labelled anew: 2" in page
    assert "1 rows without a label are left out." in out


def test_bad_cases_that_were_not_explained_are_said(reports, compare):
    folders = reports()
    assert "Not every bad case was explained" not in compare(folders)[0]
    path = folders["after"] / "report.json"
    report = json.loads(path.read_text())
    write_json(path, report | {"overview": report["overview"] | {"unsure": 1}})
    assert "Not every bad case was explained" in compare(folders)[0]


def test_nothing_in_common_is_refused(reports, refused, tmp_path):
    other = [replace(each, example_id=each.example_id + 9, text_digest=f"other {each.line}") for each in AFTER]
    folders = reports(after=other)
    words = ("--before", folders["before"], "--after", folders["after"], "--output-dir", tmp_path / "out")
    assert "have no validation row in common" in refused("compare", "--what", "runs", *words)
    same_ids = [replace(each, text_digest=f"other {each.line}") for each in AFTER]
    reports(after=same_ids)
    assert "have no validation row in common" in refused("compare", "--what", "runs", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--before", "a"), "needs `--before` and `--after`"),
        (("--before", "a", "--after", "b"), r"a does not exist: `lightning-interpret badcases` writes it"),
        (("--before", "a", "--after", "b", "--model", "m"), "`--model` is an option of `--what"),
        (("--before", "a", "--after", "b", "--seed", "1"), "`--seed` is an option of `--what"),
    ],
)
def test_what_does_not_fit_is_refused(refused, tmp_path, words, said):
    assert said in refused("compare", "--what", "runs", "--output-dir", tmp_path, *words)


def test_reports_without_labels_or_groups_are_compared(reports, compare):
    nothing = {"before": [], "after": []}
    out, _, found = compare(reports([said(0, None, "pos")], [said(0, None, "neg")], nothing))
    assert (found["rows"], found["unlabelled"], found["p_value"]) == (0, 1, 1.0)
    assert ["accuracy", "–", "–"] in [line.split() for line in out.splitlines()]
