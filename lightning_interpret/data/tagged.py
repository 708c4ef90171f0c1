"""Rows of words with a tag each, as for named entities."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_interpret.data.columns import ColumnNames, from_json, label_of, placed, shown


@dataclass(frozen=True)
class TaggedRow:
    """Words with their tags.

    Attributes:
        tokens: The words.
        tags: The tag of each as a string, or ``None`` if none were asked for.
        line: The 1-based line of the file on which the row starts; in a data set, the row number plus one.
        example_id: The value of the id column, or else the 0-based row number.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...] | None
    line: int
    example_id: int

    @property
    def blank(self) -> bool:
        """Whether it has no word to read."""
        return not self.tokens

    @property
    def text(self) -> str:
        """The words with a space between them, as a tokenizer is given them."""
        return " ".join(self.tokens)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where each word stands in :attr:`text`, in characters."""
        found, start = [], 0
        for token in self.tokens:
            found.append((start, start + len(token)))
            start += len(token) + 1
        return found


@dataclass(frozen=True)
class TaggedColumns(ColumnNames):
    """The names of the columns to read.

    Attributes:
        tokens: The column of the words.
        tags: The column of their tags, or ``None`` to read without.
        id: The column of an integer id, or ``None`` to number the rows.
    """

    tokens: str = "tokens"
    tags: str | None = "tags"
    id: str | None = None

    @property
    def named(self) -> tuple[tuple[str, str | None], ...]:
        """Each argument and the column it names."""
        return (("tokens_column", self.tokens), ("tags_column", self.tags), ("id_column", self.id))

    @property
    def main(self) -> str:
        """The column of the words."""
        return self.tokens

    @property
    def classes(self) -> tuple[str, ...]:
        """The column of the tags."""
        return () if self.tags is None else (self.tags,)


def tagged_rows(
    records: Iterable[tuple[int, Mapping[str, Any]]], columns: TaggedColumns, source: str, unit: str = "line"
) -> Iterator[TaggedRow]:
    """Yield records as rows, checked one at a time; a list may stand as JSON, or as words with spaces between them.

    Args:
        records: Pairs of a number and a mapping that has all of ``columns``.
        columns: What to read.
        source: What is read, for messages.
        unit: What the number of a record counts, for messages.

    Raises:
        ValueError: If there are no lists of one length, a word is empty, a tag is none, or an id comes twice.
    """
    for (where, number, example_id), record in placed(records, columns.id, source, unit):
        tokens = _list(record[columns.tokens], "tokens_column", columns.tokens, where)
        for place, token in enumerate(tokens):
            if not isinstance(token, str) or not token.strip():
                raise ValueError(
                    f"{where}: word {place} of column {columns.tokens!r} is {shown(token)}, not a word. Leave it out "
                    "with its tag."
                )
        tags = None
        if columns.tags is not None:
            given = _list(record[columns.tags], "tags_column", columns.tags, where)
            if len(given) != len(tokens):
                raise ValueError(
                    f"{where}: {len(tokens)} words in column {columns.tokens!r}, but {len(given)} tags in "
                    f"{columns.tags!r}. Each word has one."
                )
            tags = tuple(label_of(tag, columns.tags, where) for tag in given)
        yield TaggedRow(tuple(tokens), tags, number, example_id)


def _list(value: object, argument: str, column: str, where: str) -> list[Any]:
    found = from_json(value) if isinstance(value, str) and value.strip().startswith(('["', "[]")) else value
    if isinstance(found, str):
        return found.split()
    if isinstance(found, list | tuple):
        return list(found)
    raise ValueError(
        f"{where}: column {column!r} holds {shown(value)}, not a list of strings. Name the column with `{argument}`."
    )
