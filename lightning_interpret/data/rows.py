"""One row of a user's labelled text, and the checks it passes wherever it was read from."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_interpret.data.rationales import NOTHING, Spans, read_rationale
from lightning_interpret.names import unknown

_TRUTH = {"true": 1.0, "false": 0.0}
_INT64 = range(-(2**63), 2**63)  # ids travel in batches as long tensors


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
    """

    text: str
    label: str | None
    line: int
    example_id: int
    concepts: tuple[float, ...] = ()
    explanation: str | None = None
    rationale: Spans | None = None


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
class Columns:
    """The names of the columns to read.

    Attributes:
        text: The column of the text.
        label: The column of the label, or ``None`` to read without labels.
        id: The column of an integer id, or ``None`` to number the rows.
        concepts: The columns of concepts, which hold 0, 1, or nothing.
        explanation: The column of explanations, or ``None`` to read none.
        rationale: The column of what people selected, or ``None``.
    """

    text: str
    label: str | None
    id: str | None
    concepts: tuple[str, ...] = ()
    explanation: str | None = None
    rationale: str | None = None

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        known = (self.text, self.label, self.id, self.explanation, self.rationale, *self.concepts)
        return [name for name in known if name is not None]

    def check(self, present: Collection[str], where: str) -> None:
        """Raise a ValueError that names the first column that is not ``present``."""
        known = [("text_column", self.text), ("label_column", self.label), ("id_column", self.id)]
        known += [("explanation_column", self.explanation), ("rationale_column", self.rationale)]
        for argument, name in (*known, *(("concept_columns", name) for name in self.concepts)):
            if name is not None and name not in present:
                raise ValueError(f"{where}: {unknown(argument, name, present)}")


def text_rows(
    records: Iterable[tuple[int, Mapping[str, Any]]], columns: Columns, source: str, *, unit: str = "line"
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
    number_of: dict[int, int] = {}
    row = -1
    for row, (number, record) in enumerate(records):
        where = f"{source}, {unit} {number}"
        label = None if columns.label is None else _label(record[columns.label], columns.label, where)
        example_id = row
        if columns.id is not None:
            example_id = _integer(record[columns.id], columns.id, where)
            first = number_of.setdefault(example_id, number)
            if first != number:
                raise ValueError(f"{where}: id {example_id} was used on {unit} {first} already; ids name one row each.")
        concepts = tuple(share(record[name], name, where) for name in columns.concepts)
        text = _text(record[columns.text], columns.text, where)
        explanation = rationale = None
        if columns.explanation is not None:
            explanation = _explanation(record[columns.explanation], columns.explanation, where)
        if columns.rationale is not None:
            rationale = _rationale(record[columns.rationale], text, columns.rationale, where)
        yield TextRow(text, label, number, example_id, concepts, explanation, rationale)
    if row < 0:
        raise ValueError(f"{source} has no rows.")


def _text(value: object, column: str, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: column {column!r} holds {_shown(value)}, not a text. "
            "Name the column of the text with `text_column`."
        )
    return value


def _label(value: object, column: str, where: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(
            f"{where}: column {column!r} has no label. Label every row, or read without labels: `label_column=None`."
        )
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers with gaps is often written as 1.0
    if not isinstance(value, str | int):
        raise ValueError(
            f"{where}: column {column!r} holds {_shown(value)}, not a label. A label is a string or a whole number."
        )
    return str(value)


def _explanation(value: object, column: str, where: str) -> str | None:
    if value is None or value != value:  # NaN, in a column that was a table's
        return None
    if isinstance(value, str):
        return value
    raise ValueError(
        f"{where}: column {column!r} holds {_shown(value)}, not a text. Name the column of explanations with "
        "`explanation_column`; it may be empty where a row has none."
    )


def _integer(value: object, column: str, where: str) -> int:
    if isinstance(value, str | int) and not isinstance(value, bool):
        try:
            number = int(value)
        except ValueError:
            pass
        else:
            if number in _INT64:
                return number
    raise ValueError(
        f"{where}: column {column!r} holds {_shown(value)}, not an integer of 64 bits. "
        "Leave out `id_column` to number the rows."
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
        f"{where}: column {column!r} holds {_shown(value)}, not a concept. A concept is 0 or 1 (or true or false, or a "
        "share between); an empty field, NaN or -1 is one that nobody has said. Make one column of each value."
    )


def _rationale(value: object, text: str, column: str, where: str) -> Spans | None:
    try:
        return read_rationale(value, text)
    except ValueError as error:
        raise ValueError(
            f"{where}: column {column!r} holds {_shown(value)}, no rationale of its text: {error}. A rationale is a "
            "list of [start, end] in characters, or of 0 or 1 for each word between spaces; empty where nobody was "
            "asked."
        ) from error


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"
