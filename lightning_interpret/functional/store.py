"""Rows of numbers, and long numbers beside each: in memory, or in one file that is mapped into it when it is read.

The file is the rows, the columns of long numbers, a JSON header, the header's length and a mark at the very end, so
that a file that was cut short is never taken for one. It gets its name only when it is whole.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.files import replacing
from lightning_interpret.functional.fingerprint import as_bytes

_MARK = b"LIROWS02"
_CHUNK = 8192
_ADVICE = "make room, or choose another `folder`"

Part = tuple[Tensor, ...]
"""Rows ``(B, k)`` and, beside them, long ``(B,)`` columns: ids first."""


@dataclass(frozen=True)
class Store:
    """Rows with their ids.

    Attributes:
        rows: ``(n, k)``; mapped from a file where there is one: a change to them stays in memory.
        columns: What stands beside the rows, each long ``(n,)``; the first are the ids.
        header: What was kept with them.
        path: The file; ``None`` in memory.
    """

    rows: Tensor
    columns: tuple[Tensor, ...]
    header: Mapping[str, Any]
    path: Path | None = None
    holds: Any = field(default=None, repr=False)  # the temporary directory: removed with the last that refers to it

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> Tensor:
        """The ids, long ``(n,)``."""
        return self.columns[0]

    def chunks(self, size: int = _CHUNK) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ids and rows, so many at a time."""
        yield from zip(self.ids.split(size), self.rows.split(size), strict=True)


def read(path: str | Path) -> Store:
    """Return the store in a file, memory-mapped.

    Raises:
        ValueError: If the file is not whole.
        OSError: If it is not there.
    """
    path = Path(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - 16))
        end = file.read()
        length = int.from_bytes(end[:8], "little")
        if end[8:] != _MARK or length > size - 16:
            raise ValueError(f"{str(path)!r} is no store of rows, or was cut short: it has to be made anew.")
        file.seek(size - 16 - length)
        header: dict[str, Any] = json.loads(file.read(length))
    count, width, columns, dtype = (header.pop(name) for name in ("n", "k", "columns", "dtype"))
    kind = getattr(torch, dtype)
    values, start = count * width * kind.itemsize, size - 16 - length - 8 * count * columns
    if start != values + -values % 8:
        raise ValueError(f"{str(path)!r} does not hold the {count} rows that it says: it has to be made anew.")
    mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    rows = mapped[:values].view(kind).reshape(count, width)
    beside = mapped[start : start + 8 * count * columns].view(torch.int64).reshape(columns, count)
    return Store(rows, tuple(beside), header, path)


def write(path: str | Path, parts: Iterable[Part], header: Mapping[str, Any]) -> Store:
    """Write a file and return the store in it; a file of that name stays as it was until the new one is whole.

    Args:
        path: The file.
        parts: Rows and columns, a batch at a time. They are gone through first, then ``header`` is read: it may be
            filled by then.
        header: What is kept with them, as JSON.

    Raises:
        OSError: If it cannot be written, the disk being full, say; nothing is left behind then.
    """
    # not lists of tensors: small ones that stay keep the memory between them from being used again
    kept: list[array[int]] = []
    count, width, dtype = 0, 0, torch.float32
    with replacing(path, _ADVICE) as file:
        for rows, *columns in parts:
            count, width, dtype = count + len(rows), rows.shape[1], rows.dtype
            file.write(as_bytes(rows))
            kept = kept or [array("q") for _ in columns]
            for own, values in zip(kept, columns, strict=True):
                own.frombytes(as_bytes(values.long()))
        file.write(bytes(-count * width * dtype.itemsize % 8))
        for own in kept:
            file.write(own)
        facts = {"n": count, "k": width, "columns": len(kept), "dtype": str(dtype).removeprefix("torch.")}
        text = json.dumps({**header, **facts}).encode()
        file.write(text + len(text).to_bytes(8, "little") + _MARK)
    return read(path)


def collect(parts: Iterable[Part], header: Mapping[str, Any], in_memory_bytes: int) -> Store:
    """Return a store in memory or, past a number of bytes, in a temporary file that goes with it.

    Args:
        parts: Rows and columns, a batch at a time.
        header: What is kept with them; it may be filled while the parts are gone through.
        in_memory_bytes: Most bytes of rows that are held in memory.

    Raises:
        OSError: If the file cannot be written.
    """
    source, held, size = iter(parts), list[Part](), 0
    for part in source:
        held.append(tuple(each.cpu() for each in part))
        size += part[0].nbytes
        if size > in_memory_bytes:
            folder = TemporaryDirectory(prefix="lightning_interpret_")
            found = write(Path(folder.name, "rows.bin"), _after(held, source), header)
            return replace(found, holds=folder)
    if not held:
        return Store(torch.zeros(0, 0), (torch.zeros(0, dtype=torch.long),), header)
    rows, *columns = (torch.cat(each) for each in zip(*held, strict=True))
    return Store(rows, tuple(column.long() for column in columns), header)


def _after(held: list[Part], source: Iterator[Part]) -> Iterator[Part]:
    """Yield what is held, which is let go of, and then what comes."""
    held.reverse()
    while held:
        yield held.pop()
    yield from source
