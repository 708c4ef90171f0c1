"""The datastore: features, ids and labels of the training set, in memory or in a file that is mapped into it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.fingerprint import digest_of
from lightning_interpret.functional.store import Store, read

SCHEMA = 2


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

    def path(self, folder: Path) -> Path:
        """Return the file in a folder: one a layer and pooling, which other weights or data replace."""
        return Path(folder, f"neighbors-{digest_of(self.layer, self.pooling)[:12]}.bin")


@dataclass(frozen=True)
class Datastore:
    """Features of n training examples.

    Attributes:
        features: ``(n, d)``, single precision, all finite; may be mapped from a file.
        ids: Long ``(n,)``, each once.
        labels: Long ``(n,)``, classes; −1 for an example without one.
        classes: Names of the classes, or of the numbers.
        header: What they are of.
        skipped: Examples left out, as their features were not finite.
        zero: Examples whose features are all 0: without a direction, under cosine.
        path: The file that the features are in; ``None`` in memory.
        reused: Whether they were made by an earlier run.
        numbers: Gold numbers, double ``(n, C)``, of tasks that have some in the place of a class.
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
    numbers: Tensor | None = None
    holds: Any = field(default=None, repr=False)  # a temporary file goes with the last that refers to it

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, store: Store, *, reused: bool = False) -> Datastore:
        """Return the datastore that a store holds: features with ids and labels, under :func:`facts`."""
        known, (ids, labels, *numbers) = store.header, store.columns
        return cls(
            store.rows,
            ids,
            labels,
            tuple(known["classes"]),
            Header(**known["of"]),
            skipped=known["skipped"],
            zero=known["zero"],
            path=store.path,
            reused=reused,
            numbers=torch.stack(numbers, dim=1).contiguous().view(torch.float64) if numbers else None,
            holds=store.holds,
        )


def facts(header: Header, classes: tuple[str, ...], skipped: int, zero: int) -> dict[str, Any]:
    """Return what is kept with the features."""
    return {"schema": SCHEMA, "of": asdict(header), "classes": list(classes), "skipped": skipped, "zero": zero}


def load(folder: Path, header: Header) -> Datastore | None:
    """Return the datastore in a folder if it is whole, and of the same layer and weights; else None."""
    try:
        store = read(header.path(folder))
    except (OSError, ValueError):
        return None
    if store.header.get("schema") != SCHEMA or store.header["of"]["weights"] != header.weights:
        return None
    return Datastore.of(store, reused=True)
