"""Records on disk, one JSON object a line, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

_BLOCK = 1 << 16


def append(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append one JSON object a line; after an error the file is what it was before.

    The half line that a crashed writer left at the end of the file is cut off first.

    Args:
        path: The file, made if it does not exist.
        rows: The objects to write.

    Raises:
        ValueError: If a row is not JSON, e.g. holds a number that is not finite, or if the file ends in
            something else than a half line of JSON objects; nothing is written then.
        OSError: If the file cannot be written, e.g. because the disk is full.
    """
    lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    data = lines.encode(errors="backslashreplace")  # a lone surrogate, which UTF-8 cannot hold, becomes JSON's escape
    try:
        # Unbuffered: a buffer would write its rest when the file is closed, after it was truncated.
        with FileIO(path, "a+") as file:
            size = _end_of_lines(file)
            try:
                file.truncate(size)
                _write(file, data)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise OSError(error.errno, f"Could not append records ({error.strerror})", str(path)) from error


def read(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file, one at a time; a last line without its end is left out.

    Args:
        path: The file.

    Raises:
        ValueError: If a line is not a JSON object; the message has the file and the line.
    """
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: expected a JSON object, but got {type(row).__name__}.")
            yield row


def _write(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # the system may take less than all of it, e.g. up to the last free block
        rest = rest[file.write(rest) :]


def _end_of_lines(file: FileIO) -> int:
    """Return where the last complete line ends.

    Raises:
        ValueError: If what follows it cannot be a half line of ours, as in a file of another kind.
    """
    start = size = file.seek(0, os.SEEK_END)
    found = -1
    while found < 0 < start:
        end, start = start, max(0, start - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
    complete = start + found + 1
    file.seek(complete)
    if complete < size and file.read(1) != b"{":
        raise ValueError(f"{file.name} does not hold one JSON object a line; nothing was appended to it.")
    return complete
