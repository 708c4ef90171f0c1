"""Rows of other kinds than labelled text: read from files and data sets, checked by the line."""

import gzip
import json

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from lightning_interpret.data import (
    Answer,
    QuestionColumns,
    QuestionRow,
    TaggedColumns,
    TaggedRow,
    WrittenColumns,
    WrittenRow,
    file_records,
    hub_records,
    hub_rows,
    question_rows,
    read_rows,
    tagged_rows,
    written_rows,
)

MAKERS = {TaggedColumns: tagged_rows, QuestionColumns: question_rows, WrittenColumns: written_rows}
CONTEXT = "Denver won 24 to 10."
ANSWERS = [{"text": "24", "start": 11}, {"text": "24 to 10", "start": 11}]


def read(path, columns):
    found = file_records(path, columns)
    return list(MAKERS[type(columns)](found.records, columns, found.source, found.unit))


@pytest.fixture
def lines(tmp_path):
    def lines(name, *rows):
        path = tmp_path / name
        data = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return lines


TAGGED = [
    TaggedRow(("Redondo", "Beach", "!"), ("B-location", "I-location", "O"), 1, 0),
    TaggedRow(("hi",), ("O",), 2, 1),
]


def test_tagged_words_are_read_from_objects_and_tables(lines):
    rows = [{"tokens": list(row.tokens), "tags": list(row.tags)} for row in TAGGED]
    assert read(lines("a.jsonl.gz", *rows), TaggedColumns()) == TAGGED
    table = ["w\tt", *(f"{json.dumps(row['tokens'])}\t{' '.join(row['tags'])}" for row in rows)]
    found = read(lines("a.tsv", *table), TaggedColumns("w", "t"))
    assert [(row.tokens, row.tags) for row in found] == [(row.tokens, row.tags) for row in TAGGED]


@pytest.mark.parametrize("between", [" ", "\t", " NNP x "])
def test_tagged_words_are_read_from_a_line_each(lines, between):
    sentences = ["-DOCSTART- -X- O", ""]
    for row in TAGGED:
        sentences += [f"{token}{between}{tag}" for token, tag in zip(row.tokens, row.tags, strict=True)] + ["", ""]
    found = read(lines("a.conll", *sentences), TaggedColumns())
    assert [(row.tokens, row.tags, row.line) for row in found] == [
        (TAGGED[0].tokens, TAGGED[0].tags, 3),
        (TAGGED[1].tokens, TAGGED[1].tags, 8),
    ]


def test_words_to_predict_may_be_a_text_a_line(lines):
    found = read(lines("a.txt", "Redondo Beach  !", ""), TaggedColumns(tags=None))
    assert found == [TaggedRow(("Redondo", "Beach", "!"), None, 1, 0)]
    assert [found[0].text[a:b] for a, b in found[0].spans] == ["Redondo", "Beach", "!"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "line 2: 2 words in column 'tokens', but 1 tags"),
        ({"tokens": ["a", " "], "tags": ["O", "O"]}, "line 2: word 1 of column 'tokens' is ' ' "),
        ({"tokens": ["a"], "tags": [None]}, "line 2: column 'tags' holds None"),
        ({"tokens": 3, "tags": []}, "line 2: column 'tokens' holds 3 .*`tokens_column`"),
        ({"tokens": ["a"]}, "line 2: `tags_column='tags'` does not exist"),
    ],
)
def test_a_bad_row_of_tags_has_its_line_and_the_remedy(lines, row, said):
    with pytest.raises(ValueError, match=rf"a\.jsonl, {said}"):
        read(lines("a.jsonl", {"tokens": ["a"], "tags": ["O"]}, row), TaggedColumns())


def test_a_line_without_its_tag_is_said(lines):
    with pytest.raises(ValueError, match=r"a\.conll, line 2: 'Beach' is not a token and its tag. Write both"):
        read(lines("a.conll", "Redondo B-location", "Beach"), TaggedColumns())
    with pytest.raises(ValueError, match=r"`tags_column='tag'` does not exist. Did you mean 'tags'"):
        read(lines("b.conll", "Redondo B-location"), TaggedColumns(tags="tag"))


ROW = QuestionRow(CONTEXT, "How many points?", (Answer("24", 11), Answer("24 to 10", 11)), 1, 0)


@pytest.mark.parametrize(
    "answers",
    [
        ANSWERS,
        {"text": ["24", "24 to 10"], "answer_start": [11, 11]},
        [{"text": each["text"], "answer_start": each["start"]} for each in ANSWERS],
        json.dumps(ANSWERS),
    ],
)
def test_answers_are_read_in_each_form(lines, answers):
    row = {"context": CONTEXT, "question": ROW.question, "answers": answers}
    assert read(lines("a.jsonl", row), QuestionColumns()) == [ROW]
    assert [CONTEXT[answer.start : answer.end] for answer in ROW.answers] == ["24", "24 to 10"]


@pytest.mark.parametrize("answers", [[], {"text": [], "answer_start": []}])
def test_a_question_without_an_answer_has_none(lines, answers):
    row = {"context": CONTEXT, "question": "Who?", "answers": answers}
    assert read(lines("a.jsonl", row), QuestionColumns())[0].answers == ()
    assert read(lines("a.jsonl", row), QuestionColumns(answers=None))[0].answers is None


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([{"text": "24", "start": 10}], "the answer '24' is said to start at character 10 .* where ' 2' stands"),
        ([{"text": "24", "start": -9}], "is said to start at character -9"),
        ([{"text": "", "start": 0}], "the answer '' is said to start"),
        ([{"text": "24"}], "holds the answer .* Write a list of"),
        (["24"], "holds the answer '24' .* Write a list of"),
        ("24", "column 'answers' holds '24' .*not answers. Write a list of"),
        ({"text": ["24"], "answer_start": []}, "not answers"),
    ],
)
def test_an_answer_that_does_not_stand_where_it_says_is_refused(lines, answers, said):
    with pytest.raises(ValueError, match=rf"a\.jsonl, line 1: .*{said}"):
        read(lines("a.jsonl", {"context": CONTEXT, "question": "Who?", "answers": answers}), QuestionColumns())


def test_sources_and_targets(lines):
    path = lines("a.tsv", "en\tde", "a dog\tein Hund", "two\tzwei")
    expected = [WrittenRow("a dog", "ein Hund", 2, 0), WrittenRow("two", "zwei", 3, 1)]
    assert read(path, WrittenColumns("en", "de")) == expected
    assert read(path, WrittenColumns("en", None)) == [WrittenRow("a dog", None, 2, 0), WrittenRow("two", None, 3, 1)]
    assert read(lines("b.txt", "a text"), WrittenColumns(None, "text")) == [WrittenRow("", "a text", 1, 0)]
    with pytest.raises(ValueError, match=r"line 1: `target_column='fr'` does not exist"):
        read(path, WrittenColumns("en", "fr"))
    with pytest.raises(ValueError, match=r"`target_column='de'`: .*b\.txt has no columns"):
        read(lines("b.txt", "a text"), WrittenColumns("en", "de"))
    with pytest.raises(ValueError, match=r"line 1: column 'de' holds 3 .*`target_column`"):
        read(lines("c.jsonl", {"en": "a", "de": 3}), WrittenColumns("en", "de"))


def test_pairs_of_texts(lines):
    path = lines("a.jsonl", {"premise": "a man", "hypothesis": "a person", "label": "entailment"})
    (row,) = read_rows(path, text_column="premise", pair_column="hypothesis")
    assert (row.text, row.pair, row.label) == ("a man", "a person", "entailment")
    with pytest.raises(ValueError, match=r"line 1: `pair_column='hypo'` does not exist. Did you mean 'hypothesis'"):
        list(read_rows(path, text_column="premise", pair_column="hypo"))


@pytest.mark.parametrize("labels", [["a", 2], '["a", 2]'])
def test_several_labels_are_a_list(lines, labels):
    path = lines("a.jsonl", {"text": "x", "label": labels}, {"text": "y", "label": []})
    assert [row.several for row in read_rows(path, problem="multi_label")] == [("a", "2"), ()]


def test_several_labels_are_a_column_each(lines):
    path = lines("a.tsv", "text\ttoxic\trude", "x\t1\t0", "y\t0.0\ttrue")
    rows = list(read_rows(path, label_columns=["toxic", "rude"], problem="multi_label"))
    assert [row.several for row in rows] == [("toxic",), ("rude",)]
    with pytest.raises(ValueError, match=r"line 2: column 'rude' holds '0.5' .*holds, 1, or does not, 0"):
        list(read_rows(lines("b.tsv", "text\trude", "x\t0.5"), label_columns=["rude"], problem="multi_label"))
    with pytest.raises(ValueError, match=r"line 2: column 'rude' holds 'x' .*not a list of labels"):
        list(read_rows(lines("b.tsv", "text\trude", "x\tx"), label_column="rude", problem="multi_label"))


def test_numbers_are_read_and_must_be_finite(lines):
    path = lines("a.tsv", "text\tscore\tother", "x\t1.5\t2", "y\t-3\t1e3")
    assert [row.values for row in read_rows(path, label_column="score", problem="regression")] == [(1.5,), (-3.0,)]
    rows = read_rows(path, label_columns=["score", "other"], problem="regression")
    assert [row.values for row in rows] == [(1.5, 2.0), (-3.0, 1000.0)]
    for bad in ("", "nan", "inf", "high"):
        with pytest.raises(ValueError, match=r"line 2: column 'score' holds .*not a finite number"):
            list(read_rows(lines("b.tsv", "text\tscore", f"x\t{bad}"), label_column="score", problem="regression"))


def test_names_of_a_list_of_classes_are_those_of_the_data_set(tmp_path):
    names = ClassLabel(names=["O", "B-x"])
    features = Features({"tokens": List(Value("string")), "ner_tags": List(names), "text": Value("string")})
    rows = {"tokens": [["a", "b"]], "ner_tags": [[1, 0]], "text": ["a b"]}
    DatasetDict({"train": Dataset.from_dict(rows, features=features)}).save_to_disk(tmp_path / "saved")
    columns = TaggedColumns(tags="ner_tags")
    found = hub_records(str(tmp_path / "saved"), columns)
    assert list(tagged_rows(found.records, columns, found.source, found.unit)) == [
        TaggedRow(("a", "b"), ("B-x", "O"), 1, 0)
    ]
    (row,) = hub_rows(str(tmp_path / "saved"), label_column="ner_tags", problem="multi_label")
    assert row.several == ("B-x", "O")
