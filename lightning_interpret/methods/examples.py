"""Training examples as influence methods read them: batches with the id of each example, as often as asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_interpret.functional.fingerprint import Digest
from lightning_interpret.tasks import Task, batches


@runtime_checkable
class Examples(Protocol):
    """Training examples that can be gone through again and again, in the same order or another."""

    def batches(self) -> Iterator[tuple[Tensor, Any]]:
        """Yield the ids ``(B,)`` of some examples and their batch, on the module's device."""

    def take(self, ids: Sequence[int]) -> Iterator[tuple[Tensor, Any]]:
        """Yield the batches of the examples with these ids, in any order."""


class Whole:
    """The batches of a data set, which is known: for a method that reads another part of it, or none."""

    def __init__(self, source: Examples) -> None:
        self.source, self._batches = source, source.batches()

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        return self

    def __next__(self) -> tuple[Tensor, Any]:
        return next(self._batches)


class Loaded:
    """The examples of a loader whose batches carry ``example_id``.

    Args:
        loader: What yields batches, the same examples each time it is iterated.
        task: How batches are read.
        device: Where the batches are wanted; by default where they are.

    Raises:
        ValueError: If ``loader`` can be gone through once only, or is a data set or a batch.
    """

    def __init__(self, loader: Iterable[Any], task: Task, device: torch.device | None = None) -> None:
        name = type(loader).__name__
        if isinstance(loader, Iterator):
            raise ValueError(
                f"The training data are an iterator ({name}), which can be gone through once, and they are read "
                "several times: give a loader or a list of batches."
            )
        if isinstance(loader, Dataset):
            raise ValueError(
                f"The training data are a data set ({name}): give "
                "`lightning_interpret.data.TrainingExamples(data_set)`, or a loader of it whose batches carry "
                "`example_id`."
            )
        first = loader[0] if isinstance(loader, list | tuple) and loader else None
        if isinstance(loader, Tensor | Mapping) or isinstance(first, Tensor):
            raise ValueError(
                f"The training data are one batch ({name}): give a loader, or a list of batches, `[batch]`."
            )
        self._loader, self._task, self._device = loader, task, device

    def batches(self) -> Iterator[tuple[Tensor, Any]]:
        """Yield ids and batches in the loader's order.

        Raises:
            ValueError: If a batch carries no ids.
        """
        for batch in self._loader:
            ids = self._task.example_ids(batch)
            if ids is None:
                raise ValueError(
                    f"The batches of the training data ({type(batch).__name__}) carry no `example_id`: give "
                    "`lightning_interpret.data.TrainingExamples(data_set)`, or a loader of "
                    "`data = WithIds(data_set, in_batch='always')` with `collate_fn=data.collate`."
                )
            yield (
                torch.tensor(ids, dtype=torch.long),
                batch if self._device is None else batches.to(batch, self._device),
            )

    def take(self, ids: Sequence[int]) -> Iterator[tuple[Tensor, Any]]:
        """Yield what has one of these ids, in another pass over the loader."""
        wanted = torch.tensor(sorted(set(ids)), dtype=torch.long)
        for found, batch in self.batches():
            rows = torch.isin(found, wanted).nonzero().flatten()
            if len(rows):
                yield found[rows], self._task.take(batch, rows)


def id_batches(examples: Examples, size: int) -> Iterator[Tensor] | None:
    """Yield the ids of all examples without reading one, ``size`` at a time; None where only reading them tells."""
    known = getattr(examples, "id_batches", None)
    return None if known is None else known(size)


def in_time(examples: Examples, parts: Iterable[Any]) -> Iterable[Any]:
    """Yield parts of the work on some examples for as long as these say that there is time; by default all."""
    until = getattr(examples, "in_time", None)
    return parts if until is None else until(parts)


def parts_of(queries: Any) -> Iterable[Any]:
    """Return the batches of an iterator or a loader; all else, a list too, is one batch."""
    return queries if isinstance(queries, Iterator | DataLoader) else [queries]


def examples_of(source: Any, task: Task, module: nn.Module) -> Examples:
    """Return training examples as they are, or those of a loader, on the module's device."""
    if isinstance(source, Examples):
        return source
    return Loaded(source, task, next((parameter.device for parameter in module.parameters()), None))


def data_hash(examples: Examples) -> str:
    """Return a digest of all ids and batches: in another order, or padded in another way, they are other data."""
    digest = Digest()
    for ids, batch in examples.batches():
        digest.add(ids, batch)
    return str(digest)
