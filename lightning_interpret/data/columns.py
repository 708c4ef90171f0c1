"""What all rows share: the columns that are named, their numbers and ids, and the words of their errors."""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from lightning_interpret.names import unknown

_INT64 = range(-(2**63), 2**63)  # ids travel in batches as long tensors


class ColumnNames(ABC):
    """Which columns are read, known by the arguments that name them."""

    @property
    @abstractmethod
    def named(self) -> tuple[tuple[str, str | None], ...]:
        """Each argument and the column it names, or ``None`` where it names none."""

    @property
    @abstractmethod
    def main(self) -> str:
        """The column that the lines of a file without columns are."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The columns whose numbers are places among names, where a data set has names for them."""
        return ()

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [name for _, name in self.named if name is not None]

    def check(self, present: Collection[str], where: str) -> None:
        """Raise a ValueError that names the first column that is not ``present``."""
        for argument, name in self.named:
            if name is not None and name not in present:
                raise ValueError(f"{where}: {unknown(argument, name, present)}")


class Place(NamedTuple):
    """Where a row stands.

    Attributes:
        where: In words, for messages.
        line: Its number.
        example_id: Its id.
    """

    where: str
    line: int
    example_id: int


class Found(NamedTuple):
    """Records of a file or a data set, before they are checked.

    Attributes:
        records: Pairs of a number and a mapping that has all the columns.
        source: What is read, for messages.
        unit: What the number of a record counts, for messages.
    """

    records: Iterator[tuple[int, Mapping[str, Any]]]
    source: str
    unit: str


def placed(
    records: Iterable[tuple[int, Mapping[str, Any]]], id_column: str | None, source: str, unit: str
) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Yield records with the place of each: its id is that of the column, or else its 0-based number.

    Raises:
        ValueError: If an id is no integer or comes twice, or there is no record.
    """
    number_of: dict[int, int] = {}
    row = -1
    for row, (number, record) in enumerate(records):
        where, example_id = f"{source}, {unit} {number}", row
        if id_column is not None:
            example_id = _integer(record[id_column], id_column, where)
            first = number_of.setdefault(example_id, number)
            if first != number:
                raise ValueError(f"{where}: id {example_id} was used on {unit} {first} already; ids name one row each.")
        yield Place(where, number, example_id), record
    if row < 0:
        raise ValueError(f"{source} has no rows.")


def text_of(value: object, argument: str, column: str, where: str) -> str:
    """Return a value that is a text.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: column {column!r} holds {shown(value)}, not a text. "
            f"Name the column of the text with `{argument}`."
        )
    return value


def label_of(value: object, column: str, where: str) -> str:
    """Return a label as a string.

    Raises:
        ValueError: If it is neither a string nor a whole number.
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers with gaps is often written as 1.0
    if not isinstance(value, str | int):
        raise ValueError(
            f"{where}: column {column!r} holds {shown(value)}, not a label. A label is a string or a whole number."
        )
    return str(value)


def from_json(value: object) -> object:
    """Return what a string says as JSON, as a field of a table holds a list; what is no such string stays as it is."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def shown(value: object) -> str:
    """Return a value as a message shows it, with its type."""
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"


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
        f"{where}: column {column!r} holds {shown(value)}, not an integer of 64 bits. "
        "Leave out `id_column` to number the rows."
    )
