"""Stable ids of examples: a wrapper that gives them to any indexed data set and collate function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from operator import index as as_index
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from lightning_interpret.data.find_ids import distinct, example_ids, field, positions, size_of, whole_number
from lightning_interpret.names import choose

IN_BATCH = ("named", "always", "never")
_FORGOTTEN = (
    "The examples of `WithIds` are collated by the data set's own `collate`: "
    "`data = WithIds(dataset, collate_fn)`, then `DataLoader(data, collate_fn=data.collate)`."
)


class WithIds(Dataset["Identified"]):
    """A map-style data set and its collate function, with a stable id for each example.

    Batches that are mappings (dict, ``BatchEncoding``, ``ModelOutput``) get the key ``example_id``, long ``(B,)``; a
    dataclass or named tuple gets its field of that name filled. Tuples, lists and tensors stay as they are, so that
    ``x, y = batch`` holds. Monitors need no ids in batches: they find them by :func:`example_ids`.

    An id is what the examples have already (``id_column``, or what :func:`example_ids` finds); else the 0-based index
    in ``dataset`` or, where that is a ``Subset`` or a shuffled or selected Hugging Face data set, in what it was
    selected from. Ids are the example's own under every sampler, in every worker and process, and after resuming.

    Args:
        dataset: A sequence, or a data set with ``__getitem__`` and ``__len__``.
        collate_fn: How its examples become a batch; by default as ``DataLoader`` does it.
        id_column: Column of Hugging Face data, or key or field of each example, that holds an integer id.
        in_batch: Which batches carry the ids: ``"named"`` those with names; ``"never"`` none, for a step that passes a
            batch on as it is, ``model(**batch)``; ``"always"`` tuples and lists too, as one more part
            ``{"example_id": ids}`` (a vector at the end of a tuple is read as labels), and a tensor in a tuple with it.

    Raises:
        ValueError: If ``dataset`` is not indexed, or ids are no integers or come more than once.

    Example::

        data = WithIds(TensorDataset(x, y))
        loader = DataLoader(data, batch_size=32, shuffle=True, collate_fn=data.collate)
    """

    def __init__(
        self,
        dataset: Any,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        id_column: str | None = None,
        *,
        in_batch: Literal["named", "always", "never"] = "named",
    ) -> None:
        choose("in_batch", in_batch, IN_BATCH)
        size_of(dataset)
        self.dataset, self.id_column = dataset, id_column
        inner = collate_of(dataset)
        self.collate = CollateWithIds(plain_collate(collate_fn or inner or default_collate), in_batch)
        self._ids = example_ids(dataset, id_column)
        if self._ids is None and id_column is None and inner is None:
            self._ids = distinct(positions(dataset))

    @property
    def example_ids(self) -> Tensor | None:
        """The id of each example, ``(n,)``; ``None`` where ``id_column`` can only be known by reading examples."""
        return self._ids

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Identified:
        place = range(len(self))[as_index(index)]
        return self._identified(place, self.dataset[place])

    def __getitems__(self, indices: Sequence[Any]) -> list[Identified]:
        places = [range(len(self))[as_index(index)] for index in indices]
        many = getattr(self.dataset, "__getitems__", None)
        examples = many(places) if many is not None else [self.dataset[place] for place in places]
        return [self._identified(place, example) for place, example in zip(places, examples, strict=True)]

    def _identified(self, place: int, example: Any) -> Identified:
        if isinstance(example, Identified):  # of another `WithIds`, or a selection of one
            return example
        if self._ids is not None:
            return Identified(int(self._ids[place]), example)
        assert self.id_column is not None
        return Identified(whole_number(field(example, self.id_column), self.id_column, place), example)


@dataclass(frozen=True, slots=True)
class Identified:
    """An example of a :class:`WithIds`; only that data set's ``collate`` reads it.

    Attributes:
        example_id: Its stable id.
        example: The example, as the data set that is wrapped has it.
    """

    example_id: int
    example: Any

    # what a collate function that was not wrapped would ask for

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"An example with an id has no `{name}` of its own. {_FORGOTTEN}")

    def __getitem__(self, key: Any) -> Any:
        raise TypeError(_FORGOTTEN)

    def __iter__(self) -> Any:
        raise TypeError(_FORGOTTEN)


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise TypeError(_FORGOTTEN)


default_collate_fn_map[Identified] = _refuse  # else `default_collate` says that it does not know the type


@dataclass(frozen=True)
class CollateWithIds:
    """Collates the examples of a :class:`WithIds`; an object and no closure, so that worker processes can be given it.

    Attributes:
        collate_fn: The user's own.
        in_batch: Which batches get the ids: ``named``, ``always`` or ``never``.
    """

    collate_fn: Callable[[list[Any]], Any]
    in_batch: str = "named"

    def __call__(self, examples: Sequence[Identified]) -> Any:
        """Return the batch with the ids.

        Raises:
            TypeError: If the examples have none.
            ValueError: If the batch has an ``example_id`` that is another.
        """
        if not all(isinstance(each, Identified) for each in examples):
            raise TypeError(
                f"`WithIds.collate` was given examples without ids ({type(examples[0]).__name__}): wrap their data set "
                "in `WithIds` too, or give its loader the collate function itself."
            )
        ids = torch.tensor([each.example_id for each in examples], dtype=torch.long)
        return self._put(self.collate_fn([each.example for each in examples]), ids)

    def _put(self, batch: Any, ids: Tensor) -> Any:
        there = field(batch, "example_id")
        if there is not None and (there.tolist() if isinstance(there, Tensor) else there) != ids.tolist():
            raise ValueError(
                "The examples carry an `example_id` that is not the one of `WithIds`: use the data set as it is, or "
                "`WithIds(dataset, collate_fn, id_column='example_id')`."
            )
        if self.in_batch == "never":
            return batch
        if isinstance(batch, MutableMapping):
            batch["example_id"] = ids
            return batch
        if isinstance(batch, Mapping):
            return {**batch, "example_id": ids}
        if "example_id" in getattr(batch, "_fields", ()):
            return batch._replace(example_id=ids)
        if is_dataclass(batch) and any(each.name == "example_id" for each in fields(batch)):
            return replace(batch, example_id=ids)  # type: ignore[type-var]
        more, every = {"example_id": ids}, self.in_batch == "always"
        if every and isinstance(batch, tuple | list):
            return (*batch, more) if isinstance(batch, tuple) else [*batch, more]
        return (batch, more) if every and isinstance(batch, Tensor) else batch


def collate_of(dataset: Any) -> CollateWithIds | None:
    """Return how the examples of a :class:`WithIds`, or of a selection of one, are collated; None of other data."""
    if isinstance(dataset, WithIds):
        return dataset.collate
    if isinstance(dataset, Subset):
        return collate_of(dataset.dataset)
    return collate_of(dataset.datasets[0]) if isinstance(dataset, ConcatDataset) else None


def plain_collate(collate_fn: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    """Return the collate function itself, for examples without ids."""
    return collate_fn.collate_fn if isinstance(collate_fn, CollateWithIds) else collate_fn
