"""Training examples read by index and known by id: as often as asked, and never by the trainer's loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lightning_interpret.data.find_ids import distinct, example_ids, field, size_of, whole_number, whole_numbers
from lightning_interpret.data.ids import Identified, collate_of
from lightning_interpret.data.random_states import random_states_kept, seed_all
from lightning_interpret.names import check_whole

_POOL = 50  # batches whose examples are sorted by length together

Row = tuple[int, Any]


class TrainingExamples:
    """The examples of an indexed data set, with their ids: the training data as influence and neighbours read them.

    It reads by index in the process that asks, draws no random number of the global generators (augmentations draw from
    a state of their own, seeded by the index, so that an example is the same in each pass), and holds one batch at
    a time. An example that cannot be read is left out and counted.

    Args:
        dataset: A sequence, or a data set with ``__getitem__`` and ``__len__``.
        collate_fn: How its examples become a batch; by default that of its ``WithIds``, or as ``DataLoader`` does it.
        ids: The id of each example, ``(n,)``; by default those that :func:`~lightning_interpret.data.example_ids`
            finds, or that the examples or batches hold as ``example_id``, read as they come.
        id_column: Column, key or field of the ids; by default ``example_id``.
        batch_size: Examples in a batch, where a call asks for no other.
        length: How long an example is, for batches of examples of similar length.

    Raises:
        ValueError: If the data set is not indexed, or has no ids; while reading, if ids are no integers or come twice.
    """

    @torch.inference_mode(False)  # what is made there can be changed nowhere else
    def __init__(
        self,
        dataset: Any,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        ids: Tensor | Sequence[int] | None = None,
        *,
        id_column: str | None = None,
        batch_size: int = 32,
        length: Callable[[Any], int] | None = None,
    ) -> None:
        size = size_of(dataset)
        check_whole(batch_size=batch_size)
        self.dataset, self.batch_size, self._column = dataset, batch_size, id_column
        self._collate = collate_fn or collate_of(dataset) or default_collate
        self._length = length or length_of
        found = example_ids(dataset, id_column) if ids is None else distinct(whole_numbers(ids, "ids", size))
        self._in_examples = found is None
        self._ids = torch.zeros(size, dtype=torch.long) if found is None else found
        self._known = torch.full((size,), found is not None)
        self._broken = torch.zeros(size, dtype=torch.bool)
        self._order: tuple[Tensor, Tensor] | None = None
        self.error: str | None = None
        if self._in_examples:  # the first that can be read shows whether they have ids
            next(self._batches(spread(size, min(size, 10)), 1), None)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> Tensor:
        """The ids in the order of the data set, without those of examples that cannot be read if only they tell it."""
        self._read_all()
        return self._ids[self._known]

    @property
    def unreadable(self) -> Tensor:
        """The examples that could not be read so far: their ids or, where only they tell it, their indices; ``(u,)``.

        ``error`` says what was wrong with the first.
        """
        rows = self._broken.nonzero().flatten()
        return rows if self._in_examples else self._ids[rows]

    def batches(
        self,
        *,
        batch_size: int | None = None,
        shard: tuple[int, int] = (0, 1),
        limit: int | None = None,
        by_length: bool = False,
    ) -> Iterator[tuple[Tensor, Any]]:
        """Return an iterator over the ids ``(B,)`` of some examples and their batch, on the CPU.

        Args:
            batch_size: Examples in a batch.
            shard: Rank and number of processes: each example is read by one of them.
            limit: How many examples are read in all, spread evenly over the data set.
            by_length: Whether examples of similar length are batched together, so that little is padding; where the
                first has no length, they come in their order.

        Raises:
            ValueError: If an option is out of its range; while reading, if an id is missing or comes twice, or if no
                example can be read.
        """
        return self._batches(self._rows(shard, limit), self._size(batch_size), by_length)

    def id_batches(
        self, size: int, *, shard: tuple[int, int] = (0, 1), limit: int | None = None
    ) -> Iterator[Tensor] | None:
        """Return an iterator over the ids of the examples, ``size`` at a time; None where only reading them tells.

        Raises:
            ValueError: If an option is out of its range.
        """
        rows = self._rows(shard, limit)
        return None if self._in_examples else iter(self._ids[rows].split(size))

    def take(self, ids: Sequence[int] | Tensor, batch_size: int | None = None) -> Iterator[tuple[Tensor, Any]]:
        """Return an iterator over the batches of the examples with these ids, in their order.

        Raises:
            ValueError: If there is no such example.
        """
        return self._batches(self.index_of(ids), self._size(batch_size), required=False)

    def index_of(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Return where examples stand in the data set, long ``(m,)``, by their ids ``(m,)``.

        Raises:
            ValueError: If there is no such example.
        """
        wanted = torch.as_tensor(ids, dtype=torch.long)
        rows = self._find(wanted)
        if bool((rows < 0).any()):
            self._read_all()
            rows = self._find(wanted)
        if bool((rows < 0).any()):
            missing = ", ".join(map(str, wanted[rows < 0][:3].tolist()))
            raise ValueError(f"`ids`: there is no {missing} among the ids of the {len(self)} training examples.")
        return rows

    def _rows(self, shard: tuple[int, int], limit: int | None) -> Tensor:
        rank, world = shard
        if not 0 <= rank < world:
            raise ValueError(f"`shard={shard}` must be (rank, number of processes), the rank from 0.")
        if limit is not None:
            check_whole(limit=limit)
        return spread(len(self), len(self) if limit is None else min(limit, len(self)))[rank::world]

    def _size(self, batch_size: int | None) -> int:
        if batch_size is None:
            return self.batch_size
        check_whole(batch_size=batch_size)
        return batch_size

    def _find(self, wanted: Tensor) -> Tensor:
        """Return the rows of ids, −1 where one is not known."""
        if self._order is None:
            rows = self._known.nonzero().flatten()
            values, order = self._ids[rows].sort()
            self._order = values, rows[order]
        values, rows = self._order
        if not len(values):
            return torch.full_like(wanted, -1)
        place = torch.searchsorted(values, wanted).clamp(max=len(values) - 1)
        return torch.where(values[place] == wanted, rows[place], -1)

    def _read_all(self) -> None:
        """Read the examples whose ids are not known yet."""
        left = (~self._known & ~self._broken).nonzero().flatten()
        for _ in self._batches(left, self.batch_size, required=False):
            pass

    def _batches(
        self, rows: Tensor, size: int, by_length: bool = False, required: bool = True
    ) -> Iterator[tuple[Tensor, Any]]:
        by_length = by_length and self._has_length(rows)
        for part in rows.split(size * (_POOL if by_length else 1)):
            read = self._read(part.tolist())
            if by_length:
                read.sort(key=lambda row: self._length(row[1]), reverse=True)
            for start in range(0, len(read), size):
                yield self._batch(read[start : start + size])
        if self._in_examples:
            known = self._known.nonzero().flatten()
            distinct(self._ids[known], known)
        if required and len(rows) and bool(self._broken[rows].all()):
            raise ValueError(f"None of {len(rows)} training examples can be read: {self.error}")

    def _has_length(self, rows: Tensor) -> bool:
        """Return whether it is worth while to read many examples before the first batch: not of pictures, say."""
        if self._length is not length_of:
            return True
        return any(length_of(example) for _, example in self._read(rows[:3].tolist()))  # an empty text has none

    def _read(self, rows: list[int]) -> list[Row]:
        found = []
        with random_states_kept():
            for row in rows:
                seed_all(row)
                try:
                    found.append((row, self.dataset[row]))
                except Exception as error:  # one broken file is no reason to lose the rest
                    self._broken[row] = True
                    self.error = self.error or f"example {row}: {type(error).__name__}: {error}"
        return found

    def _batch(self, read: list[Row]) -> tuple[Tensor, Any]:
        rows = [row for row, _ in read]
        with random_states_kept():
            seed_all(rows[0])
            batch = self._collate([example for _, example in read])
        index = torch.tensor(rows)
        if self._in_examples:
            self._ids[index] = self._told(read, batch)
            self._known[index], self._order = True, None
        return self._ids[index], batch

    def _told(self, read: list[Row], batch: Any) -> Tensor:
        """Return the ids that examples, or else their batch, hold."""
        column = self._column or "example_id"
        told = [each.example_id if isinstance(each, Identified) else field(each, column) for _, each in read]
        if all(value is None for value in told):
            values = field(batch, column)
            told = list(values) if values is not None else told
        if told == [None] * len(read):
            where = f"no `{column}`" if self._column is None else f"no `id_column={column!r}`"
            raise ValueError(
                f"The training examples have {where} (example {read[0][0]}, {type(read[0][1]).__name__}): wrap their "
                "data set, `data = WithIds(dataset, collate_fn)` with `DataLoader(data, collate_fn=data.collate)`, or "
                "name the column of their ids, `id_column=`. Where an example stands is no id: a data set that is "
                "shuffled, or a part of another, has it elsewhere."
            )
        return torch.tensor([whole_number(value, column, row) for (row, _), value in zip(read, told, strict=True)])


def spread(size: int, count: int) -> Tensor:
    """Return ``count`` indices spread evenly over ``size``."""
    return torch.arange(count) * size // max(count, 1)


def length_of(example: Any) -> int:
    """Return how long an example is: its ``input_ids``, else the characters of its ``text``; 0 where there is none."""
    if isinstance(example, Identified):
        return length_of(example.example)
    if isinstance(example, str):
        return len(example)
    for name in ("input_ids", "text"):
        value = field(example, name)
        if value is not None:
            return len(value)
    return max(map(length_of, example), default=0) if isinstance(example, tuple | list) else 0
