"""Files that are there whole or not at all, and that are told from others by what is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from io import BufferedWriter, FileIO
from pathlib import Path
from secrets import token_hex
from typing import IO, Any


@contextmanager
def replacing(path: str | Path, advice: str = "make room, or name another folder") -> Iterator[IO[bytes]]:
    """Open a new file that takes a path's place when all of it is on disk; after an error the path is what it was.

    Args:
        path: The file; its folder is made if it does not exist.
        advice: What is said to a user whose file cannot be written.

    Raises:
        OSError: If it cannot be written, e.g. because the disk is full.
    """
    path = Path(path)
    new = path.with_name(f".{path.name}.{token_hex(4)}.part")
    with _said(path, advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = _New(new, path, advice)
    try:
        with BufferedWriter(raw) as file:
            yield file
            file.flush()
            with _said(path, advice):
                os.fsync(raw.fileno())
        with _said(path, advice):
            new.replace(path)
    finally:
        with suppress(OSError):
            raw.close()
        with suppress(OSError):
            new.unlink(missing_ok=True)


def file_digest(path: str | Path) -> str:
    """Return a digest of the bytes of a file, which is read a piece at a time.

    Raises:
        OSError: If it cannot be read.
    """
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


class _New(FileIO):
    """A file whose own errors say what could not be written: what else goes wrong meanwhile keeps its words."""

    def __init__(self, new: Path, path: Path, advice: str) -> None:
        super().__init__(new, "x+")
        self._told = path, advice

    def write(self, data: Any) -> int:
        with _said(*self._told):
            return super().write(data)


@contextmanager
def _said(path: Path, advice: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = f"Could not write the file ({error.strerror}), and nothing of it is kept: {advice}"
        raise OSError(error.errno, said, str(path)) from error
