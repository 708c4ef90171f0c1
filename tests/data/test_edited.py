import csv
import gzip
import json
from io import BytesIO

import pytest

from lightning_interpret.data import read_rows
from lightning_interpret.data.edited import Edits, NewRow, raw_rows, write_edited
from lightning_interpret.data.rows import Columns

LABELS = ["negative", "positive"]
COLUMNS = Columns("text", "label", "id")
TABLE = [
    ("note", "id", "text", "label"),
    ("a", "7", "good food", "positive"),
    ("", "12", "it was cold", "negative"),
    ("c", "-3", "fine , fine", "positive"),
]
FORMS = {
    ".tsv": "".join("\t".join(row) + "\n" for row in TABLE),
    ".csv": 'note,id,text,label\na,7,"good food",positive\n,12,it was cold,negative\nc,-3,"fine , fine",positive\n',
    ".jsonl": "".join(json.dumps(dict(zip(TABLE[0], row, strict=True))) + "\n" for row in TABLE[1:]),
}
EDITS = Edits(labels={12: "positive"}, dropped={7}, added=(NewRow(-3, "negative", "not fine"),))


@pytest.fixture
def edit(tmp_path):
    """Edit a file of this content and return the new content; the names of missing ids come as an error."""

    def edit(name, content, edits, columns=COLUMNS, labels=LABELS):
        raw = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        out = BytesIO()
        assert write_edited(path, out, edits, columns, labels) == set()
        return out.getvalue().decode()

    return edit


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", FORMS)
def test_rows_that_are_not_edited_stay_as_they_are(edit, suffix, end, packed):
    content = "\ufeff" + FORMS[suffix].replace("\n", end).removesuffix(end)
    assert edit(f"rows{suffix}{packed}", content, Edits()) == content
    assert edit(f"rows{suffix}{packed}", content, Edits(dropped=[-3])).split(end)[:-1] == content.split(end)[:-1]


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
@pytest.mark.parametrize("suffix", FORMS)
def test_rows_are_labelled_anew_left_out_and_added(edit, tmp_path, suffix, end):
    content = FORMS[suffix].replace("\n", end) if end else FORMS[suffix].removesuffix("\n")
    made = edit("rows" + suffix, content, EDITS)
    (tmp_path / ("made" + suffix)).write_bytes(made.encode())
    rows = list(read_rows(tmp_path / ("made" + suffix), id_column="id"))
    assert [(row.example_id, row.text, row.label) for row in rows] == [
        (12, "it was cold", "positive"),
        (-3, "fine , fine", "positive"),
        (13, "not fine", "negative"),
    ]
    assert made.endswith(end or "\n")
    assert made.count("\r") == (made.count("\n") if end == "\r\n" else 0)
    kept = [line for line in content.splitlines() if "fine , fine" in line or "note,id" in line or "note\tid" in line]
    assert set(kept) <= set(made.splitlines())
    assert [raw.record["note"] for raw in raw_rows(tmp_path / ("made" + suffix), COLUMNS)] == [
        "",
        "c",
        None if suffix == ".jsonl" else "",
    ]


def test_a_field_of_several_lines_is_one_row(edit):
    content = 'id,text,label\n1,"one\n\ntwo ""quoted""",positive\n2,x,negative\n'
    assert edit("rows.csv", content, Edits(dropped=[1])) == "id,text,label\n2,x,negative\n"
    made = edit("rows.csv", content, Edits(labels={1: "negative"}, dropped=[2]))
    assert list(csv.reader(made.splitlines(keepends=True))) == [
        ["id", "text", "label"],
        ["1", 'one\n\ntwo "quoted"', "negative"],
    ]


def test_a_table_that_quotes_everything_goes_on_so(edit):
    made = edit("rows.csv", '"text","label"\n"a","negative"\n', Edits({0: "positive"}), Columns("text", "label", None))
    assert made == '"text","label"\n"a","positive"\n'


@pytest.mark.parametrize(
    ("own", "label", "labels", "written"),
    [
        ('"negative"', "positive", LABELS, '"positive"'),
        ('"0"', "positive", LABELS, '"1"'),
        ("0", "positive", LABELS, "1"),
        ("0.0", "positive", LABELS, "1.0"),
        ("3", "4", ["3", "4"], "4"),
        ("1", "-1", ["-1", "1"], "-1"),
        ("true", "False", ["False", "True"], "false"),
        ("7", "word", ["7", "word"], '"word"'),
    ],
)
def test_a_label_is_written_as_the_row_has_its_own(edit, own, label, labels, written):
    columns = Columns("text", "label", None)
    row = '{"text": "a", "label": %s}\n'
    edits = Edits({0: label}, added=[NewRow(0, label, "b")])
    made = edit("rows.jsonl", row % own, edits, columns, labels)
    assert made == row % written + (row % written).replace('"a"', '"b"')


@pytest.mark.parametrize("style", [{}, {"ensure_ascii": False}, {"separators": (",", ":")}])
def test_json_keeps_its_style(edit, style):
    row = {"text": "süß 好", "label": "negative", "more": {"deep": [1, 2.5]}}
    columns = Columns("text", "label", None)
    made = edit("rows.jsonl", json.dumps(row, **style) + "\n", Edits({0: "positive"}), columns)
    assert made == json.dumps(row | {"label": "positive"}, **style) + "\n"


def test_ids_of_json_are_of_the_kind_they_were(edit):
    made = edit("rows.jsonl", '{"id": 5, "text": "a", "label": "negative"}', Edits(added=[NewRow(5, "positive", "b")]))
    assert json.loads(made.splitlines()[1]) == {"id": 6, "text": "b", "label": "positive"}


def test_what_breaks_a_line_is_a_space_in_a_table_of_tabs(edit):
    made = edit("rows.tsv", FORMS[".tsv"], Edits(added=[NewRow(12, "positive", "a\tb\nc")]))
    assert made.splitlines()[-1] == "\t13\ta b c\tpositive"


def test_a_carriage_return_inside_of_a_field_stays(edit):
    made = edit("rows.tsv", "text\tlabel\na\rb\tnegative\n", Edits({0: "positive"}), Columns("text", "label", None))
    assert made == "text\tlabel\na\rb\tpositive\n"


def test_half_a_character_of_json_is_written_as_it_was(edit):
    row = '{"text": "ü \\uD83D", "label": "%s"}\n'
    made = edit("rows.jsonl", row % "negative", Edits({0: "positive"}), Columns("text", "label", None))
    assert made == row.replace("D83D", "d83d") % "positive"


def test_ids_that_no_row_has_are_returned(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text(FORMS[".tsv"])
    edits = Edits({1: "positive", 12: "positive"}, [2], [NewRow(3, "positive", "b")])
    assert write_edited(path, BytesIO(), edits, COLUMNS, LABELS) == {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "content", "edits", "said"),
    [
        ("rows.tsv", FORMS[".tsv"], Edits(dropped=[7, 12, -3]), "no row would be left"),
        ("rows.txt", "a\n", Edits(), "has no columns"),
        ("rows.csv", "id,x,text,label,x\n1,,a,b,\n", Edits(), r"line 1: 2 columns are called 'x'"),
        (
            "rows.tsv",
            f"id\ttext\tlabel\n{2**63 - 1}\ta\tnegative\n",
            Edits(added=[NewRow(2**63 - 1, "positive", "b")]),
            "no new row can have one",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(edit, name, content, edits, said):
    with pytest.raises(ValueError, match=said):
        edit(name, content, edits)


def test_the_file_is_streamed(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("id\ttext\tlabel\n" + "1\ta\tnegative\n" + "broken\n")
    rows = raw_rows(path, COLUMNS)
    assert next(rows).before == "id\ttext\tlabel\n"
    with pytest.raises(ValueError, match="line 3: 1 fields"):
        next(rows)
