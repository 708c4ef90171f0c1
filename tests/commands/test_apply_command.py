import csv
import gzip
import json
import os
import re
from dataclasses import replace

import pytest
from bad_case_records import GROUP, OVERVIEW
from full_disk import room_for

from lightning_interpret.bad_cases import Action, BadCaseGroupRow, RowEdit
from lightning_interpret.data import read_rows
from lightning_interpret.files import file_digest
from lightning_interpret.report.bad_case_files import report_dict, write_json
from lightning_interpret.report.relabel import write_relabel

TRAIN = [
    ("10", "a", "good food", "positive"),
    ("11", "", "cold soup", "positive"),
    ("12", "c", "stale bread", "positive"),
    ("13", "", "tuesday was lovely", "positive"),
]
VAL = [("1", "", "so cold", "positive"), ("2", "", "so good", "positive")]


def group(cause, what, *edits):
    return BadCaseGroupRow(cause=cause, size=2, action=Action(what, "Do it.", edits=edits))


RELABEL = group(
    "training_label_error",
    "relabel",
    RowEdit("train", 11, "positive", "negative", "cold soup", 0.9, "9 of 10 are negative"),
    RowEdit("train", 12, "positive", "negative", "stale bread", 0.7, "7 of 10 are negative"),
)
BALANCE = group(
    "shortcut",
    "balance",
    RowEdit("train", 13, "positive", "negative", "tuesday was dull", None, "turned", new=True),
    RowEdit("train", 13, "positive", "negative", "tuesday was drab", None, "turned", new=True),
)
VALIDATION = group(
    "validation_label_error", "relabel", RowEdit("val", 1, "positive", "negative", "so cold", 0.95, "neighbours")
)
GROUPS = (RELABEL, BALANCE, VALIDATION)


@pytest.fixture
def found(tmp_path):
    """Write two files and the report about them, and return the report's path."""

    def found(groups=GROUPS, end="\n", suffix=".tsv", **changes):
        for name, rows in (("train", TRAIN), ("val", VAL)):
            lines = ["\t".join(row) for row in [("id", "note", "text", "label"), *rows]]
            content = "".join(line + end for line in lines).encode()
            (tmp_path / (name + suffix)).write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        files = {name: str(tmp_path / (name + suffix)) for name in ("train", "val")}
        report = report_dict(
            model="m",
            files=files,
            digests={name: file_digest(path) for name, path in files.items()},
            columns={"text": "text", "label": "label", "id": "id"},
            labels=["negative", "positive"],
            overview=OVERVIEW,
            groups=groups,
            cases=[],
            predictions=[],
        )
        write_json(tmp_path / "out" / "report.json", report | changes)
        lines = {"train": {10 + i: 2 + i for i in range(4)}, "val": {1: 2, 2: 3}}
        write_relabel(tmp_path / "out" / "relabel.tsv", groups, lines)
        return tmp_path / "out" / "report.json"

    return found


@pytest.fixture
def answer(tmp_path):
    """Write answers under `accept`, and other cells by name, by the line of relabel.tsv."""

    def answer(answers, **cells):
        path = tmp_path / "out" / "relabel.tsv"
        head, *rows = [line.split("\t") for line in path.read_text().splitlines()]
        for line, said in answers.items():
            rows[line - 2][0] = said
            for name, value in cells.items():
                rows[line - 2][head.index(name)] = value
        path.write_text("".join("\t".join(row) + "\n" for row in [head, *rows]))

    return answer


@pytest.fixture
def apply(command, tmp_path):
    """Apply what is accepted and return what was said and the rows of the new file."""

    def apply(report, *words, output="new.tsv"):
        done = command("apply", "--report", report, "--output", tmp_path / output, *words)
        assert done.status == 0, done.err
        return done.out, rows_of(tmp_path / output)

    return apply


@pytest.fixture
def apply_refused(refused, tmp_path):
    """Return why nothing is applied, and see that nothing was written."""

    def apply_refused(report, *words, output="new.tsv"):
        before = sorted(os.listdir(tmp_path))
        said = refused("apply", "--report", report, "--output", tmp_path / output, *words)
        assert sorted(os.listdir(tmp_path)) == before
        return said

    return apply_refused


def rows_of(path):
    return [(row.example_id, row.text, row.label) for row in read_rows(path, id_column="id")]


AS_IT_WAS = [(int(key), text, label) for key, _, text, label in TRAIN]


def changed(labels):
    return [(key, text, labels.get(key, label)) for key, text, label in AS_IT_WAS]


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_a_person_accepted_is_done_and_the_rest_is_left(found, answer, apply, tmp_path, end, suffix):
    report = found(end=end, suffix=suffix)
    answer({2: "yes", 3: "drop", 4: "yes", 5: "no"})
    said, rows = apply(report, output="new" + suffix)
    expected = [row for row in changed({11: "negative"}) if row[0] != 12]
    assert rows == [*expected, (14, "tuesday was dull", "negative")]
    packed = (tmp_path / ("new" + suffix)).read_bytes()
    content = gzip.decompress(packed) if suffix.endswith("gz") else packed
    assert content.decode().split(end)[:3] == [
        "id\tnote\ttext\tlabel",
        "10\ta\tgood food\tpositive",
        "11\t\tcold soup\tnegative",
    ]
    assert content.decode().split(end)[-2:] == ["14\t\ttuesday was dull\tnegative", ""]
    assert [line.split()[:4] for line in said.splitlines() if line.startswith("train")] == [["train", "1", "1", "1"]]
    assert "Of 5 rows that the report asks about, 3 were accepted, 1 refused." in said
    assert f"badcases --model NEW --train {tmp_path / ('new' + suffix)} --val" in said
    assert " --id-column=id --output AFTER" in said
    assert f"compare --what runs --before {report} --after" in said
    assert rows_of(tmp_path / ("train" + suffix)) == AS_IT_WAS


def test_a_row_that_two_groups_ask_about_is_refused_once(found, answer, apply):
    other = group("conflicting_duplicates", "deduplicate", RowEdit("train", 11, "positive", None, "cold soup", None))
    report = found((RELABEL, other))
    answer({2: "no", 3: "yes", 4: "no"})
    assert "Of 2 rows that the report asks about, 1 were accepted, 1 refused." in apply(report)[0]


def test_the_folder_of_a_report_names_it(found, apply):
    assert apply(found().parent, "--accept", "relabel")[1] == changed({11: "negative", 12: "negative"})


def test_kinds_of_actions_are_accepted_as_a_whole_but_not_what_a_person_refused(found, answer, apply):
    report = found()
    answer({3: "no", 4: "no"})
    assert apply(report, "--accept", "relabel,balance")[1] == [
        *changed({11: "negative"}),
        (14, "tuesday was drab", "negative"),
    ]


def test_what_is_sure_is_accepted(found, apply):
    assert apply(found(), "--accept-all-above", 0.9)[1] == changed({11: "negative"})


def test_a_person_may_give_another_label_or_text(found, answer, apply):
    report = found((RELABEL, BALANCE))
    answer({4: "yes"}, text="tuesday was not so good")
    answer({2: "yes"}, proposed="positive")
    said, rows = apply(report)
    assert rows == [*AS_IT_WAS, (14, "tuesday was not so good", "negative")]
    assert "1 rows of train keep the label they have." in said


def test_answers_may_be_in_another_file(found, answer, apply, tmp_path):
    report = found()
    answer({2: "yes"})
    (tmp_path / "out" / "relabel.tsv").rename(tmp_path / "mine.tsv")
    assert apply(report, "--relabel", tmp_path / "mine.tsv")[1] == changed({11: "negative"})


def test_validation_rows_are_written_if_asked_for(found, apply, tmp_path):
    report = found()
    said, _ = apply(report, "--accept", "relabel")
    assert "1 accepted rows are of the validation file" in said
    said, rows = apply(report, "--accept", "relabel", "--val-output", tmp_path / "new_val.tsv")
    assert rows_of(tmp_path / "new_val.tsv") == [(1, "so cold", "negative"), (2, "so good", "positive")]
    assert rows == changed({11: "negative", 12: "negative"})
    assert f"--val {tmp_path / 'new_val.tsv'} " in said
    assert "validation file" not in said


def test_files_that_have_moved_are_named(found, apply, apply_refused, tmp_path):
    report = found()
    (tmp_path / "train.tsv").rename(tmp_path / "moved.tsv")
    assert "say where it is now, `--train FILE`" in apply_refused(report, "--accept", "relabel")
    _, rows = apply(report, "--accept", "relabel", "--train", tmp_path / "moved.tsv")
    assert rows == changed({11: "negative", 12: "negative"})


def test_two_groups_that_ask_the_same_are_one_edit(found, apply):
    twice = group("conflicting_duplicates", "deduplicate", *RELABEL.action.edits, *BALANCE.action.edits)
    said, rows = apply(found((RELABEL, twice)), "--accept", "relabel,deduplicate")
    assert rows[:4] == changed({11: "negative", 12: "negative"})
    assert [row[1] for row in rows[4:]] == ["tuesday was dull", "tuesday was drab"]
    assert "Of 4 rows that the report asks about, 4 were accepted" in said


def test_rows_without_a_proposed_label_are_left_to_a_person(found, answer, apply):
    unclear = [RowEdit("train", key, "positive", None, "cold soup", None, "1 of 2") for key in (10, 11)]
    report = found((group("conflicting_duplicates", "deduplicate", *unclear), BALANCE))
    said, rows = apply(report, "--accept", "deduplicate,balance")
    assert rows[:4] == AS_IT_WAS
    assert "2 of them have no proposed label and no answer" in said
    answer({2: "drop"})
    answer({3: "yes"}, proposed="negative")
    said, rows = apply(report)
    assert rows == changed({11: "negative"})[1:]
    assert "no proposed label" not in said


def test_dropping_rows_that_have_no_ids_renumbers_and_says_so(found, answer, apply, tmp_path):
    edit = RowEdit("train", 1, "positive", "negative", "cold soup")
    report = found(
        (group("training_label_error", "relabel", edit),), columns={"text": "text", "label": "label", "id": None}
    )
    answer({2: "drop"})
    said, rows = apply(report)
    assert [row[0] for row in rows] == [10, 12, 13]
    assert "those after a dropped one have other numbers now" in said


def test_csv_and_jsonl_stay_what_they_are(command, found, tmp_path):
    found()
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text", "label"), *((key, text, label) for key, _, text, label in TRAIN)])
    rows = [{"id": int(key), "text": text, "label": label, "more": [1]} for key, _, text, label in TRAIN]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("train.csv", "train.jsonl"):
        path = tmp_path / name
        report = found(train=str(path), digests={"train": file_digest(path)})
        words = ("--accept", "relabel,balance", "--output", tmp_path / f"new_{name}")
        assert command("apply", "--report", report, *words).status == 0
        assert rows_of(tmp_path / f"new_{name}")[:4] == changed({11: "negative", 12: "negative"})
    lines = [json.loads(line) for line in (tmp_path / "new_train.jsonl").read_text().splitlines()]
    assert lines[1] == rows[1] | {"label": "negative"}
    assert lines[4] == {"id": 14, "text": "tuesday was dull", "label": "negative", "more": None}


CLASH = group("conflicting_duplicates", "deduplicate", RowEdit("train", 11, "positive", "positive", "cold soup", 0.5))
STRANGE = group("coverage", "add", RowEdit("train", 99, "positive", "negative", "x", 0.9, new=True))


@pytest.mark.parametrize(
    ("groups", "answers", "cells", "words", "said"),
    [
        (GROUPS, {}, {}, (), r"Nothing is accepted: .*relabel\.tsv has no `yes` and no `drop`"),
        (GROUPS, {2: "no"}, {}, ("--accept", "add"), "no proposal is of the kinds add"),
        (GROUPS, {}, {}, ("--accept-all-above", "0.99"), "none has a confidence of 0.99 or more"),
        (GROUPS, {6: "yes"}, {}, (), "1 rows of the validation file are: give `--val-output`"),
        (GROUPS, {}, {}, ("--accept", "realbel"), r"`--accept='realbel'` does not exist.*'relabel'"),
        (GROUPS, {}, {}, ("--accept-all-above", "8"), "must lie between 0 and 1"),
        (GROUPS, {2: "yes"}, {"proposed": "meh"}, (), r"relabel\.tsv, line 2: `proposed='meh'` does not exist"),
        (GROUPS, {2: "yes"}, {"example_id": "7"}, (), r"relabel\.tsv, line 2: .*Is it of another report\?"),
        ((STRANGE,), {2: "yes"}, {}, (), r"relabel\.tsv, line 2: .*train\.tsv has no row with the id 99"),
        ((STRANGE,), {}, {}, ("--accept", "add"), r"report\.json, group 'coverage': .*no row with the id 99"),
        (
            (RELABEL, CLASH),
            {2: "yes", 4: "yes"},
            {},
            (),
            r"tsv, line 4: row 11 of train is labelled 'positive', but by .*tsv, line 2 it is labelled 'negative'",
        ),
        ((RELABEL, CLASH), {2: "yes", 4: "drop"}, {}, (), "row 11 of train is dropped, but by"),
        (
            (RELABEL, CLASH),
            {},
            {},
            ("--accept", "relabel,deduplicate"),
            "group 'conflicting_duplicates': row 11 .* by .*'training_label_error' it is labelled 'negative'",
        ),
        (
            (group("coverage", "add", RowEdit("train", 13, "positive", "glad", "x", new=True)),),
            {},
            {},
            ("--accept", "add"),
            r"relabel\.tsv, line 2: `proposed='glad'`",
        ),
        (
            (group("coverage", "add", RowEdit("train", 13, "positive", "negative", " ", new=True)),),
            {},
            {},
            ("--accept", "add"),
            "group 'coverage': a row to add, made from row 13 of train, has no text",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    found, answer, apply_refused, groups, answers, cells, words, said
):
    report = found(groups)
    answer(answers, **cells)
    assert re.search(said, apply_refused(report, *words))


def test_a_file_that_has_changed_is_refused(found, apply_refused, tmp_path):
    report = found()
    with (tmp_path / "train.tsv").open("a") as file:
        file.write("14\t\tlater\tpositive\n")
    assert "has changed since" in apply_refused(report, "--accept", "relabel")
    assert "does not say what" in apply_refused(found(digests={}), "--accept", "relabel")


def test_nothing_is_written_in_the_place_of_what_is_read(found, apply_refused, tmp_path):
    report = found()
    for name, what in (("train.tsv", "the training file"), ("out/relabel.tsv", "the file of answers")):
        assert f"is {what}: give another" in apply_refused(report, "--accept", "relabel", output=name)
    assert "the format stays that of" in apply_refused(report, "--accept", "relabel", output="new.csv")
    both = ("--accept", "relabel", "--val-output", tmp_path / "new.tsv")
    assert "give two files" in apply_refused(report, *both)


def test_both_files_are_written_or_none(found, apply_refused, tmp_path):
    report = found()
    with (tmp_path / "val.tsv").open("a") as file:
        file.write("too\tfew\n")
    digests = {name: file_digest(tmp_path / f"{name}.tsv") for name in ("train", "val")}
    write_json(report, json.loads(report.read_text()) | {"digests": digests})
    said = apply_refused(report, "--accept", "relabel", "--val-output", tmp_path / "new_val.tsv")
    assert "val.tsv, line 4: 2 fields" in said


def test_a_full_disk_leaves_what_was_there(found, apply_refused, tmp_path):
    report = found()
    (tmp_path / "new.tsv").write_text("before")
    (tmp_path / "new_val.tsv").write_text("before")
    with room_for(60):  # the validation file fits, the training file does not
        said = apply_refused(report, "--accept", "relabel", "--val-output", tmp_path / "new_val.tsv")
    assert "nothing of it is kept" in said
    assert (tmp_path / "new.tsv").read_text() == (tmp_path / "new_val.tsv").read_text() == "before"


def test_a_report_without_proposals_is_said(found, apply_refused):
    report = found((replace(GROUP, action=None),))
    assert "relabel.tsv is not there, or has no rows" in apply_refused(report)
