"""Rows of a question, a context, and the answers that stand in it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lightning_interpret.data.columns import ColumnNames, from_json, placed, shown, text_of


class Answer(NamedTuple):
    """An answer in a context.

    Attributes:
        text: The answer.
        start: Its first character in the context.
    """

    text: str
    start: int

    @property
    def end(self) -> int:
        """One past its last character."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class QuestionRow:
    """A question of a context.

    Attributes:
        context: The text that the answer stands in.
        question: The question.
        answers: What people answered; none where the context does not say, ``None`` if none were asked for.
        line: The 1-based line of the file on which the row starts; in a data set, the row number plus one.
        example_id: The value of the id column, or else the 0-based row number.
    """

    context: str
    question: str
    answers: tuple[Answer, ...] | None
    line: int
    example_id: int

    @property
    def blank(self) -> bool:
        """Whether it has no context to read."""
        return not self.context.strip()


@dataclass(frozen=True)
class QuestionColumns(ColumnNames):
    """The names of the columns to read.

    Attributes:
        context: The column of the context.
        question: The column of the question.
        answers: The column of the answers, or ``None`` to read without.
        id: The column of an integer id, or ``None`` to number the rows.
    """

    context: str = "context"
    question: str = "question"
    answers: str | None = "answers"
    id: str | None = None

    @property
    def named(self) -> tuple[tuple[str, str | None], ...]:
        """Each argument and the column it names."""
        texts = (("context_column", self.context), ("question_column", self.question))
        return (*texts, ("answers_column", self.answers), ("id_column", self.id))

    @property
    def main(self) -> str:
        """The column of the context."""
        return self.context


def question_rows(
    records: Iterable[tuple[int, Mapping[str, Any]]], columns: QuestionColumns, source: str, unit: str = "line"
) -> Iterator[QuestionRow]:
    """Yield records as rows, checked one at a time.

    Answers are a list of objects with ``text`` and ``start`` (or ``answer_start``), as in XQuAD, or an object of two
    lists, as Hugging Face has SQuAD, also as JSON in a field of a table; an empty list where there is no answer.

    Args:
        records: Pairs of a number and a mapping that has all of ``columns``.
        columns: What to read.
        source: What is read, for messages.
        unit: What the number of a record counts, for messages.

    Raises:
        ValueError: If a value is missing or of a wrong type, an answer does not stand where it says, or an id comes
            twice.
    """
    for (where, number, example_id), record in placed(records, columns.id, source, unit):
        context = text_of(record[columns.context], "context_column", columns.context, where)
        question = text_of(record[columns.question], "question_column", columns.question, where)
        answers = None
        if columns.answers is not None:
            answers = tuple(_answers(record[columns.answers], columns.answers, context, where))
        yield QuestionRow(context, question, answers, number, example_id)


def _answers(value: object, column: str, context: str, where: str) -> Iterator[Answer]:
    found = from_json(value)
    if isinstance(found, Mapping) and isinstance(found.get("text"), list | tuple):
        starts = found.get("answer_start", found.get("start"))
        same = isinstance(starts, list | tuple) and len(starts) == len(found["text"])
        found = [{"text": t, "start": s} for t, s in zip(found["text"], starts, strict=True)] if same else None
    if not isinstance(found, list | tuple):
        raise ValueError(f"{where}: column {column!r} holds {shown(value)}, not answers. {_FORM}")
    for each in found:
        text = each.get("text") if isinstance(each, Mapping) else None
        start = each.get("start", each.get("answer_start")) if isinstance(each, Mapping) else None
        if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
            raise ValueError(f"{where}: column {column!r} holds the answer {shown(each)}. {_FORM}")
        if not text or start < 0 or context[start : start + len(text)] != text:
            there = context[max(start, 0) : max(start, 0) + len(text)]
            raise ValueError(
                f"{where}: the answer {text!r} is said to start at character {start} of the context, where "
                f"{there!r} stands. Give the place of its first character, counted from 0."
            )
        yield Answer(text, start)


_FORM = (
    'Write a list of {"text": ..., "start": ...}, with the first character of each in the context, or [] where the '
    "context does not answer."
)
