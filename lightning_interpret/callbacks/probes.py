"""The fixed examples that a Monitor explains: indices into a data set, independent of loaders' order and limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch.utils.data import IterableDataset

from lightning_interpret.tasks import Task, batches


class Probes:
    """Examples of one data set by index, batched as its loader batches them.

    Where a data set has no indices (iterable data sets, loaders of another kind) the first examples of a batch serve.

    Args:
        loaders: The trainer's loaders, in whatever structure the user gave; the first of them is probed.
        wanted: How many examples, spread evenly over the data set, or their indices.

    Raises:
        ValueError: If an index is outside the data set.
    """

    def __init__(self, loaders: Any, wanted: int | Sequence[int]) -> None:
        self._loaders = loaders
        found = [] if loaders is None else CombinedLoader(loaders, "sequential").flattened
        loader = found[0] if found else None
        self._dataset, self._collate = getattr(loader, "dataset", None), getattr(loader, "collate_fn", None)
        size = _length(self._dataset) if getattr(loader, "batch_sampler", None) is not None else None
        self.indexed = size is not None
        if size is None:
            self.indices = list(range(wanted if isinstance(wanted, int) else len(wanted)))
        elif isinstance(wanted, int):
            count = min(wanted, size)
            self.indices = [i * size // count for i in range(count)]
        else:
            outside = [i for i in wanted if not -size <= i < size]
            if outside:
                raise ValueError(f"`probes`: {outside} are outside the data set, which has {size} examples.")
            self.indices = [range(size)[i] for i in wanted]

    def spread(self, wanted: int) -> Probes:
        """Return other examples of the same data: so many, spread evenly."""
        return Probes(self._loaders, wanted)

    def owned(self, rank: int, world: int) -> list[int]:
        """Return the numbers of the probes that a process explains: ``k mod world``; without indices, rank 0 all."""
        if not self.indexed:
            return list(range(len(self.indices))) if rank == 0 else []
        return list(range(rank, len(self.indices), world))

    def batch(self, numbers: Sequence[int], current: Any, task: Task) -> Any:
        """Return the batch of some probes, on the CPU or wherever ``current`` is.

        Args:
            numbers: Which probes.
            current: The batch at hand, for data sets without indices.
            task: How batches are read.
        """
        if not self.indexed:
            return task.take(current, torch.tensor(list(numbers)))
        return self.collate([self.example(k) for k in numbers])

    def example(self, number: int) -> Any:
        """Return an example of indexed data as the data set has it."""
        assert self._dataset is not None
        return self._dataset[self.indices[number]]

    def collate(self, examples: list[Any]) -> Any:
        """Return the batch of some examples, as the loader makes it."""
        assert self._collate is not None
        return self._collate(examples)

    def within(self, current: Any) -> int:
        """Return how many probes there are with this batch at hand."""
        return len(self.indices) if self.indexed else min(len(self.indices), batches.batch_size(current))


def evaluated(trainer: Trainer) -> Any:
    """Return the loaders of the data that a run without training evaluates."""
    stage = str(getattr(trainer.state.fn, "value", trainer.state.fn))
    found = {"test": trainer.test_dataloaders, "predict": trainer.predict_dataloaders}
    return found.get(stage, trainer.val_dataloaders)


def _length(dataset: Any) -> int | None:
    if isinstance(dataset, IterableDataset):  # it may have a length, and inherits a `__getitem__` that only raises
        return None
    try:
        return len(dataset) if hasattr(dataset, "__getitem__") else None
    except (TypeError, NotImplementedError):
        return None
