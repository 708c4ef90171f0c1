"""A file of rows made from another one: some rows labelled anew, some left out, some added; the rest byte by byte."""

from __future__ import annotations

import csv
import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import tee
from pathlib import Path
from typing import IO, Any

from lightning_interpret.data.files import lines_of, opened, reader_of, suffix_of
from lightning_interpret.data.rows import Columns, TextRow, text_rows

_LONE = "backslashreplace"  # half a character, which JSON can say by an escape alone, is written so again


@dataclass(frozen=True)
class RawRow:
    """A row with all its columns, and as it is written.

    Attributes:
        row: What :func:`~lightning_interpret.data.read_rows` makes of it.
        record: Its columns, in their order.
        before: Lines that stand before it: the header, with the first row of a table.
        written: Its lines, with their ends.
    """

    row: TextRow
    record: Mapping[str, Any]
    before: str
    written: str


@dataclass(frozen=True)
class NewRow:
    """A row to add.

    Attributes:
        source: Id of the row that it is made from: its label and id are written in the way of that row's.
        label: Its label.
        text: Its text.
    """

    source: int
    label: str
    text: str


@dataclass(frozen=True)
class Edits:
    """What to change in a file.

    Attributes:
        labels: The new label of rows, by id.
        dropped: Ids of rows that are left out.
        added: Rows that come after all others.
    """

    labels: Mapping[int, str] = field(default_factory=dict)
    dropped: Collection[int] = ()
    added: Sequence[NewRow] = ()

    @property
    def named(self) -> set[int]:
        """Every id that is spoken of."""
        return {*self.labels, *self.dropped, *(new.source for new in self.added)}


class _AllColumns(Columns):
    """Columns to read of a table whose other columns are to be written again."""

    def check(self, present: Collection[str], where: str) -> None:
        """Raise a ValueError for a column that is missing, or for a name that two columns have."""
        super().check(present, where)
        names = list(present)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{where}: {names.count(twice)} columns are called {twice!r}. Rename all but one.")


def raw_rows(path: Path, columns: Columns) -> Iterator[RawRow]:
    """Yield the rows of a file with all their columns and as they are written, one at a time.

    Args:
        path: The file, of a format that has columns.
        columns: What is read of it as text, label and id.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a row cannot be read, or two columns have one name; the message has the line.
    """
    _writer(path)
    read = reader_of(path)
    every = _AllColumns(columns.text, columns.label, columns.id)
    seen: list[tuple[int, str]] = []  # lines read since the last row: the readers take no more than a row needs

    def lines() -> Iterator[tuple[int, str]]:
        for numbered in lines_of(path):
            seen.append(numbered)
            yield numbered

    records, same = tee(read(lines(), every, str(path)))
    for row, (number, record) in zip(text_rows(records, every, str(path)), same, strict=True):
        before = "".join(line for at, line in seen if at < number)
        written = "".join(line for at, line in seen if at >= number)
        seen.clear()
        yield RawRow(row, record, before, written)


def write_edited(path: Path, file: IO[bytes], edits: Edits, columns: Columns, labels: Sequence[str]) -> set[int]:
    """Write a file's rows with some of them edited, and return the ids that none of them has.

    Rows that are not edited are written as they stand. A label is written as the row's own is: as a name or as its
    place among ``labels``, in JSON as a string or a number. New rows have ids after the largest one, where there are
    ids, and nothing in the other columns.

    Args:
        path: The file that is read, one row at a time.
        file: Where to write.
        edits: What to change.
        columns: The columns of text, label and id.
        labels: The labels there are.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, if no row is left, or if there is no id left to give.
    """
    write = _writer(path)
    with opened(path) as start:
        file.write(BOM_UTF8 if start.read(len(BOM_UTF8)) == BOM_UTF8 else b"")
    assert columns.label is not None
    sources: dict[int, RawRow] = {}
    wanted, missing = {new.source for new in edits.added}, edits.named
    largest, left, end, ended = -1, 0, "", True
    for raw in raw_rows(path, columns):
        row_id = raw.row.example_id
        largest = max(largest, row_id)
        missing.discard(row_id)
        if row_id in wanted:
            sources[row_id] = raw
        end = end or _end_of(raw.before or raw.written)
        line = raw.written
        if row_id in edits.labels:
            label = _written_label(raw, edits.labels[row_id], columns.label, labels)
            line = write({**raw.record, columns.label: label}, raw.written) + _end_of(raw.written)
        if row_id in edits.dropped:
            line = ""
        else:
            left, ended = left + 1, line.endswith("\n")
        file.write((raw.before + line).encode(errors=_LONE))
    end = end or "\n"
    if edits.added and not ended:
        file.write(end.encode())
    for number, new in enumerate((each for each in edits.added if each.source in sources), largest + 1):
        left += 1
        file.write((_new(new, number, sources[new.source], columns, labels, write) + end).encode(errors=_LONE))
    if not left:
        raise ValueError(f"{path}: every row of it is to be dropped, and no row would be left.")
    return missing


def _writer(path: Path) -> Callable[[Mapping[str, Any], str], str]:
    suffix = suffix_of(path)
    if suffix not in _WRITERS:
        raise ValueError(f"{path} has no columns, so its rows have no labels: give another format.")
    return _WRITERS[suffix]


def _end_of(written: str) -> str:
    return "\r\n" if written.endswith("\r\n") else "\n" if written.endswith("\n") else ""


def _written_label(raw: RawRow, label: str, column: str, labels: Sequence[str]) -> Any:
    """Return a label in the way in which a row has its own: a name or a place, a string or a number."""
    text = label if raw.row.label in labels else str(labels.index(label))
    own = raw.record[column]
    if isinstance(own, bool):
        return {"True": True, "False": False}.get(text, text)
    if isinstance(own, int | float) and text.removeprefix("-").isdecimal():
        return type(own)(text)
    return text


def _new(
    new: NewRow, number: int, source: RawRow, columns: Columns, labels: Sequence[str], write: Callable[..., str]
) -> str:
    nothing = "" if write is not _json else None
    record = dict.fromkeys(source.record, nothing) | {columns.text: new.text}
    assert columns.label is not None
    record[columns.label] = _written_label(source, new.label, columns.label, labels)
    if columns.id is not None:
        if number >= 2**63:
            raise ValueError(f"The ids go up to {number - 1}, the largest there can be: no new row can have one.")
        record[columns.id] = type(source.record[columns.id])(number)
    return write(record, source.written)


def _tabs(record: Mapping[str, Any], like: str) -> str:
    # a carriage return inside of a field is text, at the end of a line it would be read as the line's
    return "\t".join(re.sub(r"\t|\r?\n|\r$", " ", str(value)) for value in record.values())


def _commas(record: Mapping[str, Any], like: str) -> str:
    line = StringIO()
    quoted = like.startswith('"') and like.rstrip("\r\n").endswith('"')
    write = csv.writer(line, lineterminator="\r\n", quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    write.writerow(record.values())
    return line.getvalue().removesuffix("\r\n")


def _json(record: Mapping[str, Any], like: str) -> str:
    """Return a record as JSON, with spaces and escapes as the row has them that it is like."""
    options: list[dict[str, Any]] = [
        {"ensure_ascii": escaped, "separators": separators}
        for escaped in (False, True)
        for separators in ((", ", ": "), (",", ":"))
    ]
    of = json.loads(like)
    chosen = next((each for each in options if json.dumps(of, **each) == like.strip()), options[0])
    return json.dumps(record, **chosen)


_WRITERS: dict[str, Callable[[Mapping[str, Any], str], str]] = {
    ".tsv": _tabs,
    ".csv": _commas,
    ".jsonl": _json,
    ".json": _json,
}
