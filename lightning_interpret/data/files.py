"""Labelled text from .tsv, .csv, .jsonl, .conll and .txt files, read one row at a time."""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import IO, Any, cast

from lightning_interpret.data.columns import ColumnNames, Found
from lightning_interpret.data.rows import Columns, TextRow, text_rows
from lightning_interpret.names import unknown

_LONGEST = 2**31 - 1  # characters of a field of CSV, the most that every platform takes: the module's own are 131,072

Lines = Iterator[tuple[int, str]]
Records = Iterator[tuple[int, dict[str, Any]]]


def read_rows(
    path: str | PathLike[str],
    *,
    text_column: str = "text",
    label_column: str | None = "label",
    id_column: str | None = None,
    concept_columns: Sequence[str] = (),
    explanation_column: str | None = None,
    rationale_column: str | None = None,
    pair_column: str | None = None,
    label_columns: Sequence[str] = (),
    problem: str = "single_label",
) -> Iterator[TextRow]:
    """Yield the rows of a UTF-8 file, one at a time.

    The suffix says how to read it: ``.tsv`` (no quoting at all: quote marks are text), ``.csv`` (standard quoting,
    fields may hold line breaks), ``.jsonl`` or ``.json`` (one object a line), ``.txt`` (one text a line and no label,
    so the columns are not looked at), ``.conll`` (columns ``tokens`` and ``tags``: a token and its tag a line, blank
    lines between sentences), each also compressed as ``.gz``. Blank lines at the end are ignored.

    Args:
        path: The file.
        text_column: The column of the text.
        label_column: The column of the label, or ``None`` to read without labels. Numbers and booleans become strings.
        id_column: The column of an integer id; without it, rows are numbered from 0.
        concept_columns: The columns of concepts, 0 or 1, or nothing where nobody has said.
        explanation_column: The column of explanations; a row may have none.
        rationale_column: The column of what people selected: ``[start, end]`` in characters, or a flag for each word.
        pair_column: The column of a second text.
        label_columns: The columns of several labels or numbers, in place of ``label_column``.
        problem: What the labels are: ``single_label``; ``multi_label``, a list in ``label_column`` (also as JSON), or 0
            or 1 in each of ``label_columns``; ``regression``, numbers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the suffix is not one of those above or, while rows are read, if one of them cannot be; the
            message names the file and the line.
    """
    path = Path(path).expanduser()
    extra = {"explanation": explanation_column, "rationale": rationale_column, "pair": pair_column}
    columns = Columns(
        text_column,
        None if label_columns else label_column,
        id_column,
        tuple(concept_columns),
        labels=tuple(label_columns),
        problem=problem,
        **extra,
    )
    if reader_of(path) is _texts:
        if id_column is not None:
            raise ValueError(f"`id_column={id_column!r}`: {path} has no columns. Leave it out to number the lines.")
        for name, column in extra.items():
            if column is not None:
                raise ValueError(f"`{name}_column={column!r}`: {path} has no columns. Leave it out.")
        for name, several in (("concept_columns", concept_columns), ("label_columns", label_columns)):
            if several:
                raise ValueError(f"`{name}={list(several)}`: {path} has no columns. Give another format.")
        columns = Columns("text", None, None)
    found = file_records(path, columns)
    return text_rows(found.records, columns, found.source)


def file_records(path: str | PathLike[str], columns: ColumnNames) -> Found:
    """Return the records of a file, which is read as :func:`read_rows` says, with all of its columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the suffix says no known format, or that of lines alone where more than one column is read.
    """
    path = Path(path).expanduser()
    read = reader_of(path)
    more = [(argument, name) for argument, name in columns.named if name not in (None, columns.main)]
    if read is _texts and more:
        raise ValueError(f"`{more[0][0]}={more[0][1]!r}`: {path} has no columns. Give another format.")
    return Found(read(lines_of(path), columns, str(path)), str(path), "line")


def reader_of(path: Path) -> Callable[[Lines, ColumnNames, str], Records]:
    """Return what makes records of the lines of a file, each with all its columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If its suffix says no known format.
    """
    read = _READERS[suffix_of(path)]
    if not path.is_file():
        raise FileNotFoundError(_missing(path))
    return read


def suffix_of(path: Path) -> str:
    """Return the suffix that says the format of a file, in lower case and without ``.gz``.

    Raises:
        ValueError: If it says none that is known.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in _READERS:
        accepted = ", ".join(_READERS)
        raise ValueError(
            f"{path}: the suffix {suffix!r} says no known format. Accepted: {accepted}, each also with .gz."
        )
    return suffix


def opened(path: Path) -> IO[bytes]:
    """Open a file to read its bytes, unpacked where it is packed."""
    return cast("IO[bytes]", (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb"))


def _missing(path: Path) -> str:
    if path.is_dir():
        return f"`path={str(path)!r}` is a folder: name a file in it."
    siblings = sorted(str(file) for file in path.parent.glob("*") if file.is_file())
    return f"{unknown('path', str(path), siblings)} Relative paths start at {Path.cwd()}."


def lines_of(path: Path) -> Lines:
    """Yield numbered lines with their line ends, without the blank ones at the end of the file."""
    blank: list[tuple[int, str]] = []
    number = 0
    try:
        with opened(path) as handle:
            # Lines are split as bytes: as text they would also break at a lone carriage return inside a field.
            for number, raw in enumerate(handle, 1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if line.strip(" \r\n"):
                    yield from blank
                    blank.clear()
                    yield number, line
                else:
                    blank.append((number, line))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: byte {error.start + 1} of the line is not UTF-8 ({error.reason}). "
            "Save the file as UTF-8."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}, after line {number}: not a whole gzip file ({error}).") from error


def _chomped(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _texts(lines: Lines, columns: ColumnNames, source: str) -> Records:
    for number, line in lines:
        yield number, {columns.main: _chomped(line)}


def _json_objects(lines: Lines, columns: ColumnNames, source: str) -> Records:
    for number, line in lines:
        where = f"{source}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{where}: not JSON ({error.msg}, column {error.colno}). Write one whole object on each line."
            ) from error
        if not isinstance(record, dict):
            raise ValueError(
                f"{where}: expected a JSON object, found {type(record).__name__}. Write one object a line."
            )
        columns.check(record, where)
        yield number, record


def _tab_separated(lines: Lines, columns: ColumnNames, source: str) -> Records:
    return _table(((number, _chomped(line).split("\t")) for number, line in lines), columns, source)


def _comma_separated(lines: Lines, columns: ColumnNames, source: str) -> Records:
    return _table(_csv_fields(lines, source), columns, source)


def _csv_fields(lines: Lines, source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each row with the number of the line it starts on."""
    reader = csv.reader((line for _, line in lines), strict=True)
    while True:
        number = reader.line_num + 1
        limit = csv.field_size_limit(_LONGEST)  # of the process: it is others' again before they can read
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{source}, line {number}: not CSV ({error}). Put fields that hold commas, quotes or line breaks in "
                "quotes and double the quotes in them, or use .jsonl."
            ) from error
        finally:
            csv.field_size_limit(limit)
        yield number, fields


def _sentences(lines: Lines, columns: ColumnNames, source: str) -> Records:
    """Yield sentences of a token and its tag a line, first and last field of it, with blank lines between them."""
    columns.check(("tokens", "tags"), source)
    first, tokens, tags = 0, list[str](), list[str]()
    for number, line in chain(lines, [(0, "")]):
        fields = line.split("\t") if "\t" in line else line.split()  # a token may hold a space where tabs divide
        fields = [field.strip() for field in fields]
        if not any(fields) or fields[0] == "-DOCSTART-":
            if tokens:
                yield first, {"tokens": tokens, "tags": tags}
            tokens, tags = [], []
            continue
        if len(fields) < 2 or not (fields[0] and fields[-1]):
            raise ValueError(
                f"{source}, line {number}: {line.strip()!r} is not a token and its tag. Write both on each line, with "
                "a tab or a space between them, and a blank line between sentences."
            )
        first = first if tokens else number
        tokens.append(fields[0])
        tags.append(fields[-1])


def _table(rows: Iterator[tuple[int, list[str]]], columns: ColumnNames, source: str) -> Records:
    """Yield the rows under a header as mappings."""
    _, header = next(rows, (1, None))
    if header is None:
        return
    columns.check(header, f"{source}, line 1")
    for name in columns.names:
        if header.count(name) > 1:
            raise ValueError(f"{source}, line 1: {header.count(name)} columns are called {name!r}. Rename all but one.")
    for number, fields in rows:
        if len(fields) != len(header):
            raise ValueError(
                f"{source}, line {number}: {len(fields)} fields, but the header has {len(header)} "
                f"({', '.join(header)}). Each row has as many fields as the header."
            )
        yield number, dict(zip(header, fields, strict=True))


_READERS: dict[str, Callable[[Lines, ColumnNames, str], Records]] = {
    ".tsv": _tab_separated,
    ".csv": _comma_separated,
    ".jsonl": _json_objects,
    ".json": _json_objects,
    ".txt": _texts,
    ".conll": _sentences,
}
