"""Rows of what is read and what is to be written: sources and targets, prompts and completions, or texts alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_interpret.data.columns import ColumnNames, placed, text_of


@dataclass(frozen=True)
class WrittenRow:
    """A text to read and one to write.

    Attributes:
        source: What is read; empty where a language model is to learn the whole ``target``.
        target: What is to be written, or ``None`` if none was asked for.
        line: The 1-based line of the file on which the row starts; in a data set, the row number plus one.
        example_id: The value of the id column, or else the 0-based row number.
    """

    source: str
    target: str | None
    line: int
    example_id: int

    @property
    def blank(self) -> bool:
        """Whether it has nothing to read or, where that is asked for, nothing to write."""
        return not (self.source if self.target is None else self.target).strip()


@dataclass(frozen=True)
class WrittenColumns(ColumnNames):
    """The names of the columns to read.

    Attributes:
        source: The column of what is read, or ``None``.
        target: The column of what is to be written, or ``None`` to read without; one of the two is given.
        id: The column of an integer id, or ``None`` to number the rows.
        arguments: How the user calls the first two.
    """

    source: str | None
    target: str | None
    id: str | None = None
    arguments: tuple[str, str] = ("source_column", "target_column")

    @property
    def named(self) -> tuple[tuple[str, str | None], ...]:
        """Each argument and the column it names."""
        return (*zip(self.arguments, (self.source, self.target), strict=True), ("id_column", self.id))

    @property
    def main(self) -> str:
        """The column that a file of texts alone has."""
        return self.source or self.target or ""


def written_rows(
    records: Iterable[tuple[int, Mapping[str, Any]]], columns: WrittenColumns, source: str, unit: str = "line"
) -> Iterator[WrittenRow]:
    """Yield records as rows, checked one at a time.

    Args:
        records: Pairs of a number and a mapping that has all of ``columns``.
        columns: What to read.
        source: What is read, for messages.
        unit: What the number of a record counts, for messages.

    Raises:
        ValueError: If a value is no text, an id comes twice, or there is no record.
    """
    for (where, number, example_id), record in placed(records, columns.id, source, unit):
        read, written = (
            None if name is None else text_of(record[name], argument, name, where)
            for argument, name in columns.named[:2]
        )
        yield WrittenRow(read or "", written, number, example_id)
