"""Filling a datastore: one pass over the training data, or none where its file is of the same weights and data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.fingerprint import Digest, weights_hash
from lightning_interpret.functional.store import collect, write
from lightning_interpret.methods.describe import class_names, labels_of, number_names, numbers_of
from lightning_interpret.methods.examples import Examples, data_hash
from lightning_interpret.methods.neighbors.features import Reader
from lightning_interpret.methods.neighbors.store import Datastore, Header, facts, load
from lightning_interpret.tasks import Task, batches


def build(
    module: nn.Module, examples: Examples, task: Task, reader: Reader, folder: Path | None, in_memory_bytes: int
) -> tuple[Datastore, list[str]]:
    """Return the datastore of the training examples, and notes; called inside the explaining scope.

    Args:
        module: The module.
        examples: The training data.
        task: How module and batches are read.
        reader: Reads the features.
        folder: Where they are kept, or ``None``.
        in_memory_bytes: Most bytes that are held in memory.

    Raises:
        OSError: If the features cannot be written.
    """
    header, notes = Header(reader.layer, reader.pooling, weights_hash(module)), list[str]()
    before = None if folder is None else load(folder, header)
    if before is not None:
        if before.header.data == data_hash(examples):
            return before, notes
        notes.append("the training data changed since the datastore was made: it was made anew")
    kept: dict[str, Any] = {}
    parts = _parts(examples, task, reader, header, kept)
    found = collect(parts, kept, in_memory_bytes) if folder is None else write(header.path(folder), parts, kept)
    if not len(found):
        skipped = kept["skipped"]
        raise ValueError(f"The features of all {skipped} training examples are not finite: there are no neighbours.")
    return Datastore.of(found), notes


def _parts(
    examples: Examples, task: Task, reader: Reader, header: Header, kept: dict[str, Any]
) -> Iterator[tuple[Tensor, ...]]:
    """Yield features, ids, labels and gold numbers of the training examples, and fill in what is kept with them."""
    digest, seen, skipped, zero = Digest(), set[int](), 0, 0
    classes: tuple[str, ...] | None = None
    for ids, batch in examples.batches():
        digest.add(ids, batch)
        batch = batches.clone(batch)
        logits, features = reader.read(batch)
        numbers = numbers_of(task, batch)
        if classes is None:
            classes = class_names(task, logits) if numbers is None else number_names(task, logits)
        new = torch.tensor([i not in seen and not seen.add(i) for i in ids.tolist()])  # type: ignore[func-returns-value]
        finite = features.isfinite().all(dim=1).cpu()
        skipped += int((new & ~finite).sum())
        rows = (new & finite).nonzero().flatten()
        found = features[rows.to(features.device)]
        zero += int((found == 0).all(dim=1).sum())
        labels = labels_of(task, batch, len(classes)).cpu()[rows]
        # columns are long numbers: the others stand in them bit by bit
        others = () if numbers is None else numbers.cpu()[rows].T.contiguous().view(torch.int64)
        yield found, ids[rows], labels, *others
    kept.update(facts(replace(header, data=str(digest)), classes or (), skipped, zero))
