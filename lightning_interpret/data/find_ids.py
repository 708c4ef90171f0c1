"""Which ids a data set's examples have, found without reading them, and the checks that ids pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset

from lightning_interpret.names import unknown


def example_ids(dataset: Any, id_column: str | None = None) -> Tensor | None:
    """Return the id of each example ``(n,)`` without reading any, or ``None`` where only reading them tells.

    Looks at an attribute ``example_ids`` (of ``WithIds``, or of a data set of the user's), at the column of a Hugging
    Face data set, and through ``Subset`` and ``ConcatDataset``.

    Args:
        dataset: A data set.
        id_column: Column of the ids; by default ``example_id``, where there is one.

    Raises:
        ValueError: If there is no such column, or ids are no integers or come more than once.
    """
    found = known_ids(dataset, id_column)
    return None if found is None else distinct(found)


def known_ids(dataset: Any, column: str | None = None) -> Tensor | None:
    """Return the id of each example ``(n,)`` as :func:`example_ids` does, also where some come more than once."""
    if isinstance(dataset, Subset):
        whole = known_ids(dataset.dataset, column)
        return None if whole is None else whole[torch.as_tensor(dataset.indices, dtype=torch.long)]
    if isinstance(dataset, ConcatDataset):
        parts = [known_ids(part, column) for part in dataset.datasets]
        known = [part for part in parts if part is not None]
        return torch.cat(known) if len(known) == len(parts) else None
    if (own := getattr(dataset, "example_ids", None)) is not None:
        if column not in (None, "example_id", getattr(dataset, "id_column", None)):
            raise ValueError(f"`id_column={column!r}`: the data set ({type(dataset).__name__}) has ids: leave it out.")
        return whole_numbers(own, "example_ids", len(dataset))
    if not _tabular(dataset):
        return None
    name = column or "example_id"
    if name not in dataset.column_names:
        if column is not None:
            raise ValueError(unknown("id_column", column, dataset.column_names))
        return None
    # this column alone is read, and at once
    return whole_numbers(dataset.select_columns([name]).with_format("numpy")[:][name], name, len(dataset))


def size_of(dataset: Any) -> int:
    """Return the number of examples.

    Raises:
        ValueError: If they cannot be read by index.
    """
    name = type(dataset).__name__
    if isinstance(dataset, Mapping):
        raise ValueError(f"The data set is a mapping ({name}) of {', '.join(map(str, dataset))}: give one of them.")
    try:
        if hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset):
            return len(dataset)
    except (TypeError, NotImplementedError):
        pass
    raise ValueError(
        f"The data set ({name}) cannot be read by index, so no example can be found again by its id: use a "
        "map-style data set, one with `__getitem__` and `__len__` (a list of the examples is one)."
    )


def field(example: Any, name: str) -> Any:
    """Return the value that an example or a batch has under a key or in a field, or None."""
    value = example.get(name) if isinstance(example, Mapping) else getattr(example, name, None)
    return None if callable(value) else value


def whole_number(value: Any, column: str, place: int) -> int:
    """Return an id as an integer.

    Raises:
        ValueError: If it is none; the message names the index of the example.
    """
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    if hasattr(value, "dtype"):  # a number of torch's or numpy's
        number = torch.as_tensor(value)
        if number.numel() == 1 and _whole(number):
            return int(number)
    told = "nothing" if value is None else f"{value!r:.40} ({type(value).__name__})"
    raise ValueError(f"Example {place}: `{column}` holds {told}, and an id is an integer of 64 bits.")


def whole_numbers(values: Any, column: str, size: int) -> Tensor:
    """Return the ids of all examples as a long tensor ``(n,)``.

    Raises:
        ValueError: If they are no integers, or not one for each example.
    """
    try:
        numbers = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        numbers = torch.tensor(float("nan"))
    if not _whole(numbers) or numbers.shape != (size,):
        raise ValueError(
            f"`{column}` does not hold one integer of 64 bits for each of the {size} examples, which an id is: name "
            "another `id_column`, or leave it out to number the examples from 0."
        )
    return numbers.long()


def distinct(ids: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return the ids ``(n,)``.

    Args:
        ids: The ids.
        rows: Which examples they are of; by default all, in order.

    Raises:
        ValueError: If one comes more than once; the message names the first few and where they stand.
    """
    values, counts = ids.unique(return_counts=True)
    if len(values) < len(ids):
        some = []
        for value in values[counts > 1][:3].tolist():
            places = (ids == value).nonzero().flatten()[:2]
            one, other = (places if rows is None else rows[places]).tolist()
            some.append(f"{value} (examples {one} and {other})")
        raise ValueError(
            f"{int((counts > 1).sum())} ids of the data set come more than once, {', '.join(some)} first, and an id "
            "names one example. Data that is joined is wrapped as a whole, `WithIds(ConcatDataset([a, b]))` with `a` "
            "and `b` as they were; where rows are repeated, number them in a column of their own: `id_column=`."
        )
    return ids


def positions(dataset: Any) -> Tensor:
    """Return where each example stands in the data set, or in that which it was selected from."""
    if isinstance(dataset, Subset):
        return positions(dataset.dataset)[torch.as_tensor(dataset.indices, dtype=torch.long)]
    rows = getattr(dataset, "_indices", None) if _tabular(dataset) else None  # of `shuffle`, `select`, `filter`
    if rows is not None:
        return torch.from_numpy(rows.column(0).to_numpy().astype("int64"))
    return torch.arange(len(dataset))


def _whole(numbers: Tensor) -> bool:
    wrong = (torch.bool, torch.uint64)  # which has no sign: it does not fit
    return not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype in wrong)


def _tabular(dataset: Any) -> bool:
    return all(hasattr(dataset, name) for name in ("column_names", "select_columns", "with_format"))
