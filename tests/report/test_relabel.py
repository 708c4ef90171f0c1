import csv
from dataclasses import replace

import pytest
from bad_case_records import GROUP, RELABEL

from lightning_interpret.bad_cases import Action, BadCaseGroupRow, RowEdit
from lightning_interpret.report.relabel import COLUMNS, proposals, read_relabel, write_relabel

LABELS = ["negative", "positive"]
LOOK = BadCaseGroupRow(
    cause="validation_label_error",
    action=Action(
        "relabel",
        "Read them.",
        edits=(
            RowEdit("val", 11, "negative", None, "=SUM(A1)\twas\nbad", 0.9, "-- sure"),
            RowEdit("train", 11, "positive", "negative", "cold soup", 0.5, "the words say so"),
        ),
    ),
)
GROUPS = [GROUP, RELABEL, LOOK]
LINES = {"train": {11: 13, 12: 14}, "val": {11: 2}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "relabel.tsv"
    assert write_relabel(path, GROUPS, LINES, {"train": {12: "Stale bread!", 41: "not of a new row"}}) == 5
    return path


def answered(path, *cells):
    """Write cells, (line, column, value), into the file and return its answers."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    for line, column, value in cells:
        rows[line - 1][COLUMNS.index(column)] = value
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return read_relabel(path, proposals(GROUPS), LABELS)


def test_each_edit_is_a_line_the_surest_first(path):
    head, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert tuple(head) == COLUMNS
    why = "9 of 10 neighbours are negative; the words say so"
    assert [dict(zip(COLUMNS, row, strict=True)) for row in rows] == [
        dict(zip(COLUMNS, ("", *row), strict=True))
        for row in [
            ("train", "11", "13", "positive", "negative", "0.80", "training_label_error", why, "cold soup"),
            (
                *("train", "12", "14", "positive", "negative", "0.60", "training_label_error"),
                *("7 of 10 neighbours are negative", "Stale bread!"),
            ),
            (
                *("train", "41", "", "positive", "positive", "", "shortcut"),
                *("without 'tuesday'", "lovely soup on , number 1"),
            ),
            ("train", "50", "", "negative", "negative", "", "shortcut", "with 'tuesday'", "tuesday cold soup"),
            ("val", "11", "2", "negative", "", "0.90", "validation_label_error", "'-- sure", "'=SUM(A1) was bad"),
        ]
    ]


def test_suspects_that_no_group_asks_for_come_too(tmp_path):
    another = RowEdit("train", 13, "a", "b", "c", 0.7)
    suspects = [replace(edit, why="suspected") for edit in (*RELABEL.action.edits, another)]
    assert write_relabel(tmp_path / "relabel.tsv", [RELABEL], LINES, suspects=suspects) == 3
    rows = [line.split("\t") for line in (tmp_path / "relabel.tsv").read_text().splitlines()[1:]]
    assert [(row[2], row[8]) for row in rows] == [
        ("11", "9 of 10 neighbours are negative"),
        ("13", "suspected"),
        ("12", "7 of 10 neighbours are negative"),
    ]
    assert [each.what for each in proposals([RELABEL], suspects)] == ["relabel"] * 3


def test_no_edits_are_a_header_alone(tmp_path):
    assert write_relabel(tmp_path / "relabel.tsv", [replace(GROUP, action=None)], {}) == 0
    assert read_relabel(tmp_path / "relabel.tsv", [], LABELS) == []


def test_an_answer_is_that_of_its_proposal(path):
    found = answered(
        path, (2, "accept", " YES"), (3, "accept", "drop"), (4, "accept", "no"), (6, "proposed", "positive")
    )
    assert [answer.accept for answer in found] == ["yes", "drop", "no", "", ""]
    assert [answer.of for answer in found[:3]] == [
        ("train", 11),
        ("train", 12),
        ("train", 41, "lovely soup on , number 1"),
    ]
    assert [answer.line for answer in found] == [2, 3, 4, 5, 6]
    assert found[4].edit.proposed == "positive"


def test_a_new_row_keeps_its_text_unless_a_person_writes_another(path):
    quoted = '"lovely soup on , number 1"'
    found = answered(path, (4, "text", quoted), (5, "text", "tuesday's cold soup"))
    assert [answer.edit.text for answer in found[2:4]] == ["lovely soup on , number 1", "tuesday's cold soup"]
    assert found[3].of == ("train", 50, "tuesday cold soup")


def test_a_text_like_a_formula_is_that_text_again(tmp_path):
    edit = RowEdit("train", 1, "negative", "negative", "- not good", new=True)
    group = replace(GROUP, action=Action("add", "Add.", edits=(edit,)))
    write_relabel(tmp_path / "relabel.tsv", [group], {})
    assert "\t'- not good\n" in (tmp_path / "relabel.tsv").read_text()
    [answer] = read_relabel(tmp_path / "relabel.tsv", proposals([group]), LABELS)
    assert answer.edit.text == "- not good"


def test_a_spreadsheet_may_have_saved_it_as_csv(path):
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    with path.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with path.with_suffix(".csv").open("a") as file:
        file.write("," * (len(COLUMNS) - 1) + "\n")  # a row of nothing
    as_csv = read_relabel(path.with_suffix(".csv"), proposals(GROUPS), LABELS)
    assert as_csv == read_relabel(path, proposals(GROUPS), LABELS)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([(2, "accept", "ys")], r"line 2: `accept='ys'` does not exist. Did you mean 'yes'.* Or leave it empty"),
        ([(3, "proposed", "negativ")], r"line 3: `proposed='negativ'` does not exist. Did you mean 'negative'"),
        ([(6, "accept", "yes")], r"line 6: accepted, but no label is proposed: write one \(negative, positive\)"),
        ([(3, "example_id", "99")], r"line 3: the report changes no such row: .*example_id '99'.* of another report"),
        ([(3, "label", "negative")], r"line 3: the report changes no such row.*a new label goes under `proposed`"),
        ([(3, "line", "")], r"line 3: the report adds no row .*'12'"),
        ([(4, "text", "")], r"line 4: a row to add has no text"),
        ([(1, "accept", "ok")], r"line 1: there is no column 'accept'"),
    ],
)
def test_what_no_answer_can_be_is_refused_with_its_line(path, cells, said):
    with pytest.raises(ValueError, match=said) as raised:
        answered(path, *cells)
    assert str(path) in str(raised.value)


def test_an_edit_of_no_file_is_refused():
    edit = RowEdit("test", 1, new=True)
    with pytest.raises(ValueError, match=r"shortcut: tuesday.*`file='test'`"):
        proposals([replace(GROUP, action=Action("add", "Add.", edits=(edit,)))])


def saved_by_a_spreadsheet(path):
    """Read the file as spreadsheets do, quote marks at the start of a cell and all, and write it as they do."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        for row in rows:
            cells = (f'"{cell.replace(chr(34), 2 * chr(34))}"' if set(cell) & set(',"\n') else cell for cell in row)
            file.write("\t".join(cells).replace("\tTrue\t", "\tTRUE\t") + "\r\n")


TEXTS = ['"Great, said nobody', '"so" she said', "'= 1", "'\"it", "'tis, well", "a \u2028 b, c", '"a" and "b"', "+1"]


@pytest.mark.parametrize("label", ["True", "good, or fine"])
def test_a_spreadsheet_leaves_texts_and_labels_what_they_are(tmp_path, label):
    edits = [RowEdit("train", n, label, label, text, new=True) for n, text in enumerate(TEXTS)]
    edits += [RowEdit("val", n, label, "False", text, why=text) for n, text in enumerate(TEXTS)]
    groups = [replace(GROUP, action=Action("add", "Add.", edits=tuple(edits)))]
    path = tmp_path / "relabel.tsv"
    write_relabel(path, groups, {"val": dict(enumerate(range(2, 99)))})
    before = read_relabel(path, proposals(groups), [label, "False"])
    assert [answer.edit for answer in before] == edits
    saved_by_a_spreadsheet(path)
    assert read_relabel(path, proposals(groups), [label, "False"]) == before


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"cold, ""very"" cold"', 'cold, "very" cold'),
        ('"cold, very cold"', "cold, very cold"),
        ('"cold soup"', '"cold soup"'),
        ('"cold" or "warm, then"', '"cold" or "warm, then"'),
        ('\'"cold" soup', '"cold" soup'),
    ],
)
def test_a_text_that_a_person_writes_in_a_spreadsheet_has_no_quotes_of_its(path, cell, text):
    assert answered(path, (5, "text", cell))[3].edit.text == text
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    with path.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file).writerows([*rows[:4], [*rows[4][:-1], '"cold, wet"'], *rows[5:]])
    as_csv = read_relabel(path.with_suffix(".csv"), proposals(GROUPS), LABELS)
    assert as_csv[3].edit.text == '"cold, wet"'


def test_a_spreadsheet_that_parts_cells_by_semicolons_is_told_what_to_do(path):
    path.with_suffix(".csv").write_text(path.read_text().replace("\t", ";"))
    with pytest.raises(ValueError, match=r"no column 'accept'.* Save it with commas"):
        read_relabel(path.with_suffix(".csv"), proposals(GROUPS), LABELS)


def test_a_suffix_that_says_no_columns_is_refused(path):
    other = path.rename(path.with_suffix(".txt"))
    with pytest.raises(ValueError, match=r"relabel.txt says no columns.*save it as .tsv"):
        read_relabel(other, proposals(GROUPS), LABELS)
