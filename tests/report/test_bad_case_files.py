import json

import pytest
from bad_case_records import CASE, GROUP, OTHER, OVERVIEW, RELABEL
from full_disk import room_for

from lightning_interpret.report.bad_case_files import Prediction, read_report, report_dict, write_json

PREDICTIONS = [
    Prediction(7, 9, "negative", "positive", 0.95, "shortcut", "tuesday", "the food was cold \ud800 .", "d1"),
    Prediction(8, 10, None, "negative", 0.6),
]
REPORT = report_dict(
    model="m",
    files={"train": "train.tsv", "val": "val.tsv"},
    digests={"train": "t", "val": "v"},
    columns={"text": "text", "label": "label", "id": None},
    labels=["negative", "positive"],
    overview=OVERVIEW,
    groups=[GROUP, RELABEL],
    cases=[CASE, OTHER],
    predictions=PREDICTIONS,
    suspects=RELABEL.action.edits,
)


@pytest.mark.parametrize("named", ["report.json", "."])
def test_a_report_is_read_as_it_was_written(tmp_path, named):
    write_json(tmp_path / "report.json", REPORT)
    read = read_report(tmp_path / named)
    assert (read.groups, read.overview, read.predictions) == ([GROUP, RELABEL], OVERVIEW, PREDICTIONS)
    assert (read.files, read.digests) == ({"train": "train.tsv", "val": "val.tsv"}, {"train": "t", "val": "v"})
    assert tuple(read.suspects) == RELABEL.action.edits
    assert [each.right for each in read.predictions] == [False, False]
    written = json.loads((tmp_path / "report.json").read_text())
    assert [case["example_id"] for case in written["cases"]] == [7, 9]
    assert written["predictions"][1] == {
        **{"example_id": 8, "line": 10, "gold": None, "prediction": "negative", "confidence": 0.6},
        **{"cause": None, "cue": None, "text": None, "text_digest": None},
    }


def test_a_full_disk_leaves_the_older_report(tmp_path):
    write_json(tmp_path / "report.json", REPORT)
    with room_for(500), pytest.raises(OSError, match="nothing of it is kept"):
        write_json(tmp_path / "report.json", {**REPORT, "model": "later"})
    assert read_report(tmp_path).model == "m"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        (b"\xff", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", r"is no report of bad cases \(no kind\)"),
        ('{"kind": "bad_case"}', "no report of bad cases .kind 'bad_case'"),
        (REPORT | {"schema": 2}, "schema 2, and this version reads up to 1"),
        (REPORT | {"schema": None}, "schema None"),
        (REPORT | {"train": None}, "`train` is nothing where a text belongs"),
        (REPORT | {"groups": {}}, "`groups` is an object where a list belongs"),
        (REPORT | {"columns": {"text": "text"}}, "`columns` names no"),
        (REPORT | {"overview": {}}, "`overview`, number 0, cannot be read"),
        (REPORT | {"groups": [*REPORT["groups"], 7]}, "`groups`, number 2, cannot be read"),
        (REPORT | {"suspects": [{"id": 1}]}, "`suspects`, number 0, cannot be read"),
        (REPORT | {"predictions": [{"example_id": "7"}]}, "`predictions`, number 0, .*`example_id` is a text"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, content, said):
    path = tmp_path / "report.json"
    if isinstance(content, dict):
        write_json(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=said) as raised:
        read_report(path)
    assert str(path) in str(raised.value)


def test_a_report_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report\.json does not exist: .*badcases"):
        read_report(tmp_path)
