"""Training examples as influence methods read them: batches with the id of each example, as often as asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_interpret.tasks import Task


@runtime_checkable
class Examples(Protocol):
    """Training examples that can be gone through again and again, in the same order or another."""

    def batches(self) -> Iterator[tuple[Tensor, Any]]:
        """Yield the ids ``(B,)`` of some examples and their batch, on the module's device."""

    def take(self, ids: Sequence[int]) -> Iterator[tuple[Tensor, Any]]:
        """Yield the batches of the examples with these ids, in any order."""


class Loaded:
    """The examples of a loader whose batches carry ``example_id``.

    Args:
        loader: What yields batches, the same examples each time it is iterated.
        task: How batches are read.
        device: Where the batches are wanted.
    """

    def __init__(self, loader: Iterable[Any], task: Task, device: torch.device | None = None) -> None:
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
                    "The batches of the training data carry no `example_id`: wrap the data set in "
                    "`lightning_interpret.data.WithIds`, or give `id_column=`."
                )
            yield torch.tensor(ids, dtype=torch.long), batch

    def take(self, ids: Sequence[int]) -> Iterator[tuple[Tensor, Any]]:
        """Yield what has one of these ids, in another pass over the loader."""
        wanted = torch.tensor(sorted(set(ids)), dtype=torch.long)
        for found, batch in self.batches():
            rows = torch.isin(found, wanted).nonzero().flatten()
            if len(rows):
                yield found[rows], self._task.take(batch, rows)


def parts_of(queries: Any) -> Iterable[Any]:
    """Return the batches of an iterator or a loader; all else, a list too, is one batch."""
    return queries if isinstance(queries, Iterator | DataLoader) else [queries]


def examples_of(source: Any, task: Task) -> Examples:
    """Return training examples as they are, or those of a loader."""
    return source if isinstance(source, Examples) else Loaded(source, task)
