import csv
import gzip
import json
from itertools import islice

import pytest

from lightning_interpret.data import TextRow, read_rows


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        raw = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return write


def values(path, **options):
    return [(row.text, row.label) for row in read_rows(path, **options)]


CONTENT = {
    ".tsv": "text\tlabel\ngood food\tpos\nbad food\tneg\n",
    ".csv": "text,label\ngood food,pos\nbad food,neg\n",
    ".jsonl": '{"text": "good food", "label": "pos"}\n{"text": "bad food", "label": "neg"}\n',
    ".json": '{"text": "good food", "label": "pos"}\n{"text": "bad food", "label": "neg"}\n',
}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", CONTENT)
def test_formats_agree(write, suffix, end, packed):
    path = write("rows" + suffix + packed, CONTENT[suffix].replace("\n", end))
    first = 1 if "json" in suffix else 2
    assert list(read_rows(path)) == [
        TextRow("good food", "pos", first, 0),
        TextRow("bad food", "neg", first + 1, 1),
    ]


@pytest.mark.parametrize("suffix", CONTENT)
@pytest.mark.parametrize("ending", ["", "\n\n\n", "\n  \r\n"])
def test_byte_order_mark_and_blank_ends_are_ignored(write, suffix, ending):
    content = "\ufeff" + CONTENT[suffix].rstrip("\n") + ending
    assert values(write("rows" + suffix, content)) == [("good food", "pos"), ("bad food", "neg")]


@pytest.mark.parametrize("name", ["rows.TSV", "rows.v1.tsv", "rows.v1.tsv.GZ"])
def test_suffix_is_read_from_the_end_in_any_case(tmp_path, name):
    content = CONTENT[".tsv"].encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    assert len(list(read_rows(str(tmp_path / name)))) == 2


def test_txt_is_one_text_a_line(write):
    path = write("rows.txt", 'a "quoted" one\n\n  spaces kept \n\n')
    assert list(read_rows(path)) == [
        TextRow('a "quoted" one', None, 1, 0),
        TextRow("", None, 2, 1),
        TextRow("  spaces kept ", None, 3, 2),
    ]
    with pytest.raises(ValueError, match=r"`id_column='id'`.*no columns"):
        read_rows(path, id_column="id")


def test_tsv_has_no_quoting_and_breaks_at_line_feeds_only(write):
    path = write("rows.tsv", 'text\tlabel\n"half a quote\t1\na \u2028 b \x85 c \r d\t0\n')
    assert values(path) == [('"half a quote', "1"), ("a \u2028 b \x85 c \r d", "0")]


def test_csv_fields_may_hold_line_breaks_and_lines_are_counted(write):
    path = write("rows.csv", 'text,label\n"one, ""two""\n\nthree",pos\nfour,neg\n')
    assert list(read_rows(path)) == [
        TextRow('one, "two"\n\nthree', "pos", 2, 0),
        TextRow("four", "neg", 5, 1),
    ]


def test_csv_fields_may_be_long(write):
    limit = csv.field_size_limit()
    assert values(write("rows.csv", f"text,label\n{'a' * 200_000},pos\n")) == [("a" * 200_000, "pos")]
    assert csv.field_size_limit() == limit


def test_columns_are_named_and_ids_read(write):
    path = write("rows.tsv", "uid\tsentence\tgold\n7\ta\tx\n-3\tb\ty\n")
    assert list(read_rows(path, text_column="sentence", label_column="gold", id_column="uid")) == [
        TextRow("a", "x", 2, 7),
        TextRow("b", "y", 3, -3),
    ]


def test_empty_texts_are_left_to_the_caller(write):
    assert values(write("rows.tsv", "text\tlabel\n\tpos\n \tneg\n")) == [("", "pos"), (" ", "neg")]


def test_labels_are_optional(write):
    assert values(write("rows.tsv", "text\na\n\nb\n"), label_column=None) == [("a", None), ("", None), ("b", None)]


@pytest.mark.parametrize(("label", "read"), [("pos", "pos"), (1, "1"), (True, "True"), (1.0, "1"), (-2.0, "-2")])
def test_json_labels_become_strings(write, label, read):
    path = write("rows.jsonl", json.dumps({"text": "a", "label": label}))
    assert values(path) == [("a", read)]


def test_rows_are_streamed(write):
    path = write("rows.tsv", "text\tlabel\n" + "a\tb\n" * 3 + "too\tmany\tfields\n")
    assert len(list(islice(read_rows(path), 3))) == 3


ERRORS = {
    "unknown suffix": ("rows.parquet", "", {}, r"rows\.parquet: the suffix '\.parquet'.*\.tsv, \.csv, \.jsonl"),
    "no suffix": ("rows", "", {}, r"the suffix ''.*Accepted: \.tsv"),
    "gz alone": ("rows.gz", "", {}, r"the suffix ''.*each also with \.gz"),
    "tsv column": (
        "rows.tsv",
        "sentence\tlabel\na\tb\n",
        {"text_column": "sentense"},
        r"line 1: `text_column='sentense'` does not exist. Did you mean 'sentence'\? There is: sentence, label",
    ),
    "csv column": ("rows.csv", "text,gold\na,b\n", {}, r"line 1: `label_column='label'`.*There is: text, gold"),
    "json column": (
        "rows.jsonl",
        '{"text": "a", "label": 1, "id": 1}\n{"text": "a", "labels": 1}\n',
        {},
        r"line 2: `label_column='label'`.*Did you mean 'labels'",
    ),
    "id column": ("rows.tsv", "text\tlabel\na\tb\n", {"id_column": "uid"}, r"line 1: `id_column='uid'`"),
    "column twice": ("rows.csv", "text,text,label\na,b,c\n", {}, r"line 1: 2 columns are called 'text'"),
    "tsv fields": (
        "rows.tsv",
        "text\tlabel\na\tb\na\tb\tc\n",
        {},
        r"rows\.tsv, line 3: 3 fields, but the header has 2 \(text, label\)",
    ),
    "csv fields": ("rows.csv", 'text,label\n"a\nb",c\na\n', {}, r"rows\.csv, line 4: 1 fields, but the header has 2"),
    "blank inside": ("rows.csv", "text,label\n\na,b\n", {}, r"line 2: 0 fields"),
    "csv quotes": ("rows.csv", 'text,label\na,b\n"open,b\nc,d\n', {}, r"rows\.csv, line 3: not CSV.*or use \.jsonl"),
    "json broken": (
        "rows.jsonl",
        '{"text": "a", "label": 1}\n{"text": \n',
        {},
        r"rows\.jsonl, line 2: not JSON \(.*column",
    ),
    "json array": ("rows.json", '["a", "b"]\n', {}, r"line 1: expected a JSON object, found list"),
    "text type": ("rows.jsonl", '{"text": 5, "label": 1}', {}, r"line 1: column 'text' holds 5 \(int\), not a text"),
    "text null": ("rows.jsonl", '{"text": null, "label": 1}', {}, r"holds None \(NoneType\), not a text"),
    "not utf-8": (
        "rows.tsv",
        b"text\tlabel\na\tb\n" + "caf\u00e9\tc\n".encode("latin-1"),
        {},
        r"rows\.tsv, line 3: byte 4 of the line is not UTF-8.*Save the file as UTF-8",
    ),
    "label empty": ("rows.tsv", "text\tlabel\na\t \n", {}, r"line 2: column 'label' has no label.*`label_column=None`"),
    "label null": ("rows.jsonl", '{"text": "a", "label": null}', {}, r"line 1: column 'label' has no label"),
    "label float": (
        "rows.jsonl",
        '{"text": "a", "label": 0.5}',
        {},
        r"column 'label' holds 0\.5 \(float\), not a label",
    ),
    "label list": ("rows.jsonl", '{"text": "a", "label": [1]}', {}, r"holds \[1\] \(list\), not a label"),
    "id twice": (
        "rows.tsv",
        "id\ttext\tlabel\n1\ta\tb\n2\ta\tb\n1\ta\tb\n",
        {"id_column": "id"},
        r"line 4: id 1 was used on line 2 already",
    ),
    "id word": (
        "rows.tsv",
        "id\ttext\tlabel\nx7\ta\tb\n",
        {"id_column": "id"},
        r"line 2.*'x7' \(str\), not an integer",
    ),
    "id float": (
        "rows.jsonl",
        '{"id": 1.5, "text": "a", "label": 1}',
        {"id_column": "id"},
        r"1\.5 \(float\), not an int",
    ),
    "id bool": (
        "rows.jsonl",
        '{"id": true, "text": "a", "label": 1}',
        {"id_column": "id"},
        r"True \(bool\), not an int",
    ),
    "id too long": ("rows.tsv", f"id\ttext\tlabel\n{2**63}\ta\tb\n", {"id_column": "id"}, r"not an integer of 64 bits"),
    "nothing": ("rows.tsv", "", {}, r"rows\.tsv has no rows"),
    "blank": ("rows.jsonl", "\n\n", {}, r"rows\.jsonl has no rows"),
    "header only": ("rows.csv", "text,label\n", {}, r"rows\.csv has no rows"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_place_and_the_way_out(write, name):
    file, content, options, message = ERRORS[name]
    path = write(file, content)
    with pytest.raises(ValueError, match=message):
        list(read_rows(path, **options))


def test_long_values_are_cut_in_messages(write):
    path = write("rows.jsonl", json.dumps({"text": ["word"] * 1000, "label": 1}))
    with pytest.raises(ValueError, match=r"\.\.\. \(list\), not a text") as caught:
        list(read_rows(path))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("content", [b"not gzip at all", gzip.compress(b"text\tlabel\na\tb\n" * 100, mtime=0)[:-12]])
def test_broken_gzip(tmp_path, content):
    path = tmp_path / "rows.tsv.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.tsv\.gz, after line \d+: not a whole gzip file"):
        list(read_rows(path))


def test_missing_file_is_refused_at_once(write):
    path = write("train.tsv", CONTENT[".tsv"])
    with pytest.raises(FileNotFoundError, match=r"trian\.tsv'` does not exist.*Did you mean .*train\.tsv"):
        read_rows(path.with_name("trian.tsv"))
    with pytest.raises(FileNotFoundError, match=r"Relative paths start at /"):
        read_rows("no/such/folder/rows.tsv")


def test_folder_is_refused(tmp_path):
    folder = tmp_path / "rows.tsv"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="is a folder: name a file in it"):
        read_rows(folder)
