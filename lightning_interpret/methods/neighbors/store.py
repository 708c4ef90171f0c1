"""The datastore: features, ids and labels of the training set, in memory or in a file that is mapped into it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.fingerprint import digest_of

SCHEMA = 1


@dataclass(frozen=True)
class Header:
    """What a datastore is of: while it is the same, the features are those that would be read again.

    Attributes:
        layer: Whose features they are.
        pooling: How a sequence became one vector.
        weights: Digest of the module's weights.
        data: Digest of the training data, in the order that they come in.
    """

    layer: str
    pooling: str
    weights: str
    data: str = ""


@dataclass(frozen=True)
class Datastore:
    """Features of n training examples.

    Attributes:
        features: ``(n, d)``, single precision, all finite; may be mapped from a file.
        ids: Long ``(n,)``, each once.
        labels: Long ``(n,)``, classes; −1 for an example without one.
        classes: Names of the classes.
        header: What they are of.
        skipped: Examples left out, as their features were not finite.
        zero: Examples whose features are all 0: without a direction, under cosine.
        path: The file that the features are in; ``None`` in memory.
        reused: Whether they were made by an earlier run.
    """

    features: Tensor
    ids: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    header: Header
    skipped: int = 0
    zero: int = 0
    path: Path | None = None
    reused: bool = False
    holds: Any = field(default=None, repr=False)  # the temporary directory: removed with the last that refers to it

    def __len__(self) -> int:
        return len(self.ids)

    def saved(self, folder: Path) -> None:
        """Write what finds the features again to a folder, which has the file of features already."""
        assert self.path is not None
        told = asdict(self.header) | {"n": len(self), "d": self.features.shape[1], "features": self.path.name}
        told |= {"classes": self.classes, "skipped": self.skipped, "zero": self.zero, "schema": SCHEMA}
        told |= {"ids": self.ids.tolist(), "labels": self.labels.tolist()}
        place = _header_path(folder, self.header)
        with disk(place):
            part = place.with_suffix(".part")
            part.write_text(json.dumps(told), encoding="utf8")
            before = _read(place)
            os.replace(part, place)
        if before is not None and before["features"] != self.path.name:
            Path(folder, before["features"]).unlink(missing_ok=True)


def load(folder: Path, header: Header) -> Datastore | None:
    """Return the datastore in a folder if it is of the same layer, weights and data; else None.

    An empty ``header.data`` asks for the weights alone.
    """
    told = _read(_header_path(folder, header))
    if told is None or told["weights"] != header.weights or (header.data and told["data"] != header.data):
        return None
    path = Path(folder, told["features"])
    n, d = told["n"], told["d"]
    if not path.is_file() or path.stat().st_size != n * d * 4:
        return None
    return Datastore(
        features=mapped(path, n, d),
        ids=torch.tensor(told["ids"], dtype=torch.long),
        labels=torch.tensor(told["labels"], dtype=torch.long),
        classes=tuple(told["classes"]),
        header=Header(told["layer"], told["pooling"], told["weights"], told["data"]),
        skipped=told["skipped"],
        zero=told["zero"],
        path=path,
        reused=True,
    )


class Writer:
    """Collects features in memory, and in a file once they are more than a number of bytes.

    Args:
        folder: Where the file is to be; with one, features are written there from the first on. ``None`` for a
            temporary directory, where it is needed.
        in_memory_bytes: Most bytes that are held in memory.
    """

    def __init__(self, folder: Path | None, in_memory_bytes: int) -> None:
        self._folder, self._limit = folder, in_memory_bytes
        self._parts: list[Tensor] = []
        self._bytes, self._rows, self._width = 0, 0, 0
        self._file: Any = None
        self._path: Path | None = None
        self.holds: Any = None
        if folder is not None:
            with disk(folder):
                folder.mkdir(parents=True, exist_ok=True)
                self._open(folder)

    def add(self, features: Tensor) -> None:
        """Add features ``(B, d)``."""
        features = features.float().cpu().contiguous()
        self._rows, self._width = self._rows + len(features), features.shape[1]
        self._parts.append(features)
        self._bytes += features.numel() * 4
        if self._file is None and self._bytes > self._limit:
            self.holds = tempfile.TemporaryDirectory(prefix="lightning_interpret_")
            self._open(Path(self.holds.name))
        if self._file is not None:
            self._flush()

    def close(self, name: str) -> tuple[Tensor, Path | None]:
        """Return the features ``(n, d)``, and the file of this name that they are in, if they are in one."""
        if self._file is None:
            return torch.cat(self._parts) if self._parts else torch.zeros(0, 0), None
        assert self._path is not None
        path = self._path.with_name(name)
        with disk(path):
            self._file.close()
            os.replace(self._path, path)
        self._file = None
        return mapped(path, self._rows, self._width), path

    def abandon(self) -> None:
        """Remove what is half written."""
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
            self._file = None

    def _open(self, folder: Path) -> None:
        handle, name = tempfile.mkstemp(dir=folder, prefix="neighbors-", suffix=".part")
        self._path, self._file = Path(name), os.fdopen(handle, "wb")

    def _flush(self) -> None:
        assert self._path is not None
        with disk(self._path):
            for part in self._parts:
                self._file.write(part.numpy().data)
        self._parts = []


def mapped(path: Path, n: int, d: int) -> Tensor:
    """Return the features in a file, read as they are asked for; a change to them stays in memory."""
    if n * d == 0:
        return torch.zeros(n, d)
    return torch.from_file(str(path), shared=False, size=n * d, dtype=torch.float32).reshape(n, d)


def features_name(header: Header) -> str:
    """Return the file name of the features: another one for other weights or data, as the old may be mapped still."""
    return f"neighbors-{digest_of(asdict(header))[:16]}.f32"


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Say of an error while writing what was written, and what helps."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"The neighbours' datastore cannot be written to {str(path)!r} ({error.strerror or error}): free some "
            "space, give another `folder=`, or a larger `in_memory_bytes=`",
        ) from error


def _header_path(folder: Path, header: Header) -> Path:
    return Path(folder, f"neighbors-{digest_of(header.layer, header.pooling)[:8]}.json")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        told = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and told.get("schema") == SCHEMA else None
