"""One row of a user's labelled text, and the checks it passes wherever it was read from."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_interpret.data.columns import ColumnNames, from_json, label_of, placed, shown, text_of
from lightning_interpret.data.rationales import NOTHING, Spans, read_rationale
from lightning_interpret.names import unknown

#: What the labels of a text are: one of several, some of several, or numbers.
PROBLEMS = ("single_label", "multi_label", "regression")
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class TextRow:
    """A text with its label and where it stands.

    Attributes:
        text: The text, as written; it may be empty.
        label: The label as a string, or ``None`` if none was asked for.
        line: The 1-based line of the file on which the row starts; in a data set, the row number plus one.
        example_id: The value of the id column, or else the 0-based row number.
        concepts: The values of the concept columns, from 0 to 1; NaN where there is none.
        explanation: What a person wrote to explain the label; empty or ``None`` where nobody did.
        rationale: What people selected of the text, spans of its characters; ``None`` where nobody was asked.
        pair: The second text, of a row that has two.
        several: The labels that hold, of a row that may have several.
        values: The numbers to predict, of a regression.
    """

    text: str
    label: str | None
    line: int
    example_id: int
    concepts: tuple[float, ...] = ()
    explanation: str | None = None
    rationale: Spans | None = None
    pair: str | None = None
    several: tuple[str, ...] = ()
    values: tuple[float, ...] = ()

    @property
    def blank(self) -> bool:
        """Whether it has no text to read."""
        return not self.text.strip()


def class_of(label: str | None, labels: Sequence[str]) -> int:
    """Return the place of a label among ``labels``; a whole number that is no label itself is a place.

    Raises:
        ValueError: If it is neither; the message names the near ones.
    """
    if label in labels:
        return labels.index(label)
    if label is not None and label.isdecimal() and int(label) < len(labels):
        return int(label)
    raise ValueError(unknown("label", label, labels))


@dataclass(frozen=True)
class Columns(ColumnNames):
    """The names of the columns to read.

    Attributes:
        text: The column of the text.
        label: The column of the label, or ``None`` to read without labels.
        id: The column of an integer id, or ``None`` to number the rows.
        concepts: The columns of concepts, which hold 0, 1, or nothing.
        explanation: The column of explanations, or ``None`` to read none.
        rationale: The column of what people selected, or ``None``.
        pair: The column of the second text, or ``None``.
        labels: The columns of several labels or numbers, in place of ``label``.
        problem: What the labels are, one of ``PROBLEMS``.
    """

    text: str
    label: str | None
    id: str | None
    concepts: tuple[str, ...] = ()
    explanation: str | None = None
    rationale: str | None = None
    pair: str | None = None
    labels: tuple[str, ...] = ()
    problem: str = "single_label"

    @property
    def named(self) -> tuple[tuple[str, str | None], ...]:
        """Each argument and the column it names."""
        one = [("text_column", self.text), ("pair_column", self.pair), ("label_column", self.label)]
        one += [("id_column", self.id), ("explanation_column", self.explanation), ("rationale_column", self.rationale)]
        several = [("label_columns", name) for name in self.labels]
        return (*one, *several, *(("concept_columns", name) for name in self.concepts))

    @property
    def main(self) -> str:
        """The column of the text."""
        return self.text

    @property
    def classes(self) -> tuple[str, ...]:
        """The column of the label, where it holds names."""
        return () if self.label is None or self.problem == "regression" else (self.label,)


def text_rows(
    records: Iterable[tuple[int, Mapping[str, Any]]], columns: Columns, source: str, unit: str = "line"
) -> Iterator[TextRow]:
    """Yield records as rows, checked one at a time.

    Args:
        records: Pairs of a number and a mapping that has all of ``columns``.
        columns: What to read.
        source: What is read, for messages.
        unit: What the number of a record counts, for messages.

    Raises:
        ValueError: If a value is missing or of a wrong type, an id comes twice, or there is no record.
    """
    for (where, number, example_id), record in placed(records, columns.id, source, unit):
        label, several, values = _labels(record, columns, where)
        concepts = tuple(share(record[name], name, where) for name in columns.concepts)
        text = text_of(record[columns.text], "text_column", columns.text, where)
        pair = explanation = rationale = None
        if columns.pair is not None:
            pair = text_of(record[columns.pair], "pair_column", columns.pair, where)
        if columns.explanation is not None:
            explanation = _explanation(record[columns.explanation], columns.explanation, where)
        if columns.rationale is not None:
            rationale = _rationale(record[columns.rationale], text, columns.rationale, where)
        yield TextRow(text, label, number, example_id, concepts, explanation, rationale, pair, several, values)


def _labels(
    record: Mapping[str, Any], columns: Columns, where: str
) -> tuple[str | None, tuple[str, ...], tuple[float, ...]]:
    """Return the label of a row, its several labels and its numbers; it has one of the three, or none."""
    if columns.problem == "regression":
        names = columns.labels or (() if columns.label is None else (columns.label,))
        return None, (), tuple(_number(record[name], name, where) for name in names)
    if columns.problem == "multi_label":
        if columns.labels:
            return None, tuple(name for name in columns.labels if _truth(record[name], name, where)), ()
        return None, () if columns.label is None else _several(record[columns.label], columns.label, where), ()
    return None if columns.label is None else _label(record[columns.label], columns.label, where), (), ()


def _number(value: object, column: str, where: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    raise ValueError(
        f"{where}: column {column!r} holds {shown(value)}, not a finite number, which `problem='regression'` predicts. "
        "Name the column of the numbers with `label_column` (or several with `label_columns`), and leave out rows "
        "without."
    )


def _truth(value: object, column: str, where: str) -> bool:
    number = share(value, column, where)
    if number in (0, 1):
        return bool(number)
    raise ValueError(
        f"{where}: column {column!r} holds {shown(value)}, but a label in a column of its own (`label_columns`) holds, "
        "1, or does not, 0."
    )


def _several(value: object, column: str, where: str) -> tuple[str, ...]:
    found = from_json(value)
    if isinstance(found, list | tuple):
        return tuple(dict.fromkeys(label_of(each, column, where) for each in found))
    raise ValueError(
        f"{where}: column {column!r} holds {shown(value)}, not a list of labels, which `problem='multi_label'` reads. "
        'Write a list, also as JSON (["a", "b"], or [] where none holds), or name one column a label with '
        "`label_columns`."
    )


def _label(value: object, column: str, where: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(
            f"{where}: column {column!r} has no label. Label every row, or read without labels: `label_column=None`."
        )
    return label_of(value, column, where)


def _explanation(value: object, column: str, where: str) -> str | None:
    if value is None or value != value:  # NaN, in a column that was a table's
        return None
    if isinstance(value, str):
        return value
    raise ValueError(
        f"{where}: column {column!r} holds {shown(value)}, not a text. Name the column of explanations with "
        "`explanation_column`; it may be empty where a row has none."
    )


def share(value: object, column: str, where: str) -> float:
    """Return the value of a concept, from 0 to 1; NaN where there is none.

    Raises:
        ValueError: If it is something else.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in NOTHING):
        return math.nan
    if isinstance(value, str | int | float):
        try:
            number = float(_TRUTH.get(value.strip().lower(), value) if isinstance(value, str) else value)
        except ValueError:
            pass
        else:
            if 0 <= number <= 1:
                return number
            if number == -1 or math.isnan(number):
                return math.nan
    raise ValueError(
        f"{where}: column {column!r} holds {shown(value)}, not a concept. A concept is 0 or 1 (or true or false, or a "
        "share between); an empty field, NaN or -1 is one that nobody has said. Make one column of each value."
    )


def _rationale(value: object, text: str, column: str, where: str) -> Spans | None:
    try:
        return read_rationale(value, text)
    except ValueError as error:
        raise ValueError(
            f"{where}: column {column!r} holds {shown(value)}, no rationale of its text: {error}. A rationale is a "
            "list of [start, end] in characters, or of 0 or 1 for each word between spaces; empty where nobody was "
            "asked."
        ) from error
