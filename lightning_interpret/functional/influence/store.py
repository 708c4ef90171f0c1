"""Rows of numbers by example id in one file: written in one go, memory-mapped when read.

The file is the rows, the ids as int64, a JSON header, the header's length and a mark at the very end, so that a file
whose writing was cut short is never taken for one. It gets its name only when it is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from tempfile import NamedTemporaryFile
from typing import IO, Any

import torch
from torch import Tensor

_MARK = b"LIROWS01"
_CHUNK = 8192


class Store:
    """A file of rows ``(n, k)`` and ids ``(n,)``, both memory-mapped.

    Attributes:
        header: What was written with it.
        ids: Long ``(n,)``.
        rows: ``(n, k)``.
    """

    def __init__(self, path: str) -> None:
        """Open a file.

        Raises:
            ValueError: If it is not whole.
            OSError: If it is not there.
        """
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            file.seek(max(0, size - 16))
            end = file.read()
            length = int.from_bytes(end[:8], "little")
            if end[8:] != _MARK or length > size - 16:
                raise ValueError(f"{path!r} is no file of gradients, or was cut short: it has to be made anew.")
            file.seek(size - 16 - length)
            self.header: dict[str, Any] = json.loads(file.read(length))
        count, width, dtype = self.header["n"], self.header["k"], getattr(torch, self.header["dtype"])
        values, start = count * width * dtype.itemsize, size - 16 - length - 8 * count
        if start != values + -values % 8:
            raise ValueError(f"{path!r} does not hold the {count} rows that it says: it has to be made anew.")
        mapped = torch.from_file(path, shared=False, size=size, dtype=torch.uint8)
        self.rows = mapped[:values].view(dtype).reshape(count, width)
        self.ids = mapped[start : start + 8 * count].view(torch.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def chunks(self, size: int = _CHUNK) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ids and rows, so many at a time."""
        yield from zip(self.ids.split(size), self.rows.split(size), strict=True)


def write(path: str, parts: Iterable[tuple[Tensor, Tensor]], header: Mapping[str, Any]) -> None:
    """Write a file and give it its name when it is whole; a file of that name stays until then.

    Args:
        path: The file.
        parts: Ids ``(B,)`` and rows ``(B, k)``, a batch at a time. They are gone through first, then ``header`` is
            read: it may be filled by then.
        header: What is written with them, as JSON; ``n``, ``k`` and ``dtype`` are added.

    Raises:
        OSError: If it cannot be written, the disk being full, say; nothing is left behind then.
    """
    folder = os.path.dirname(path) or "."
    with _named(path):
        os.makedirs(folder, exist_ok=True)
        file = NamedTemporaryFile(dir=folder, prefix=".", suffix=".part", delete=False)  # noqa: SIM115
    try:
        every, shape, dtype = [], (0, 0), torch.float32
        for ids, rows in parts:
            shape, dtype = (shape[0] + len(rows), rows.shape[1]), rows.dtype
            _put(file, rows, path)
            every.append(ids.long().cpu())
        with _named(path):
            file.write(bytes(-shape[0] * shape[1] * dtype.itemsize % 8))
        _put(file, torch.cat(every), path)
        facts = {"n": shape[0], "k": shape[1], "dtype": str(dtype).removeprefix("torch.")}
        text = json.dumps({**header, **facts}).encode()
        with _named(path):
            file.write(text + len(text).to_bytes(8, "little") + _MARK)
            file.close()
            os.replace(file.name, path)
    except BaseException:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            os.remove(file.name)
        raise


def _put(file: IO[bytes], values: Tensor, path: str) -> None:
    with _named(path):
        file.write(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = f"{path!r} could not be written, and nothing of it is kept: make room, or choose another `folder`"
        raise OSError(error.errno, f"{error.strerror}. {said}") from error
