"""Batches are anything: tuples, mappings, ``BatchEncoding``s, dataclasses, and nests of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

LABEL_NAMES = ("labels", "label", "target", "targets")


def map_leaves(function: Callable[[Any], Any], batch: Any, whole: Callable[[Any], bool] = lambda part: False) -> Any:
    """Return the batch with ``function`` applied to each leaf; lists and tuples without a tensor are leaves.

    Args:
        function: What is applied.
        batch: The batch.
        whole: Which parts are leaves too, whatever they hold.
    """

    def inside(part: Any) -> Any:
        return map_leaves(function, part, whole)

    if whole(batch):
        return function(batch)
    if isinstance(batch, MutableMapping):  # dict and its kin, BatchEncoding, ModelOutput
        made = copy(batch)
        for key, value in batch.items():
            made[key] = inside(value)
        return made
    if isinstance(batch, Mapping):
        return {key: inside(value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(inside(value) for value in batch))
    if isinstance(batch, tuple | list) and any(_holds_tensor(value) for value in batch):
        return type(batch)(inside(value) for value in batch)
    if is_dataclass(batch) and not isinstance(batch, type):
        names = [f.name for f in fields(batch) if f.init]
        return replace(batch, **{name: inside(getattr(batch, name)) for name in names})
    return function(batch)


def leaves(batch: Any, whole: Callable[[Any], bool] = lambda part: False) -> Iterator[Any]:
    """Yield the leaves of a batch in order."""
    found: list[Any] = []
    map_leaves(found.append, batch, whole)
    return iter(found)


def batch_size(batch: Any, whole: Callable[[Any], bool] = lambda part: False) -> int:
    """Return the number of examples: the length of the first tensor that has one.

    Raises:
        ValueError: If the batch holds no tensor with a dimension.
    """
    for leaf in leaves(batch, whole):
        if isinstance(leaf, Tensor) and leaf.dim() > 0:
            return len(leaf)
    raise ValueError(f"The batch ({type(batch).__name__}) holds no tensor whose first dimension is the examples.")


def take(batch: Any, index: Tensor, whole: Callable[[Any], bool] = lambda part: False) -> Any:
    """Return the batch with its examples gathered or repeated; what does not go by example stays as it is.

    Args:
        batch: The batch.
        index: Which examples.
        whole: Which lists hold one entry an example, though there are tensors inside (the boxes of each image).
    """
    size, picked = batch_size(batch, whole), index.tolist()

    def pick(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf[index.to(leaf.device)] if leaf.dim() > 0 and len(leaf) == size else leaf
        return [leaf[i] for i in picked] if isinstance(leaf, list | tuple) and len(leaf) == size else leaf

    return map_leaves(pick, batch, whole)


def crop(batch: Any, columns: Tensor, length: int) -> Any:
    """Return the batch with only some columns of the tensors ``(B, length, ...)`` in it."""
    size = batch_size(batch)

    def cut(leaf: Any) -> Any:
        there = isinstance(leaf, Tensor) and leaf.shape[:2] == (size, length)
        return leaf[:, columns.to(leaf.device)] if there else leaf

    return map_leaves(cut, batch)


def close_up(batch: Any, kept: Tensor, *, left: bool = False, fill: Callable[[Tensor], Any] = lambda leaf: 0) -> Any:
    """Return the batch with only the kept columns of each row of the tensors ``(B, T, ...)`` in it, without gaps.

    It is as wide as its longest row; the others are padded.

    Args:
        batch: The batch.
        kept: Bool ``(B, T)``.
        left: Whether the padding comes first.
        fill: What a tensor has as padding.
    """
    size, length = kept.shape
    width = max(1, int(kept.sum(dim=1).max()))
    order = (kept if left else ~kept).long().argsort(dim=1, stable=True)
    columns = order[:, length - width :] if left else order[:, :width]

    def gather(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.shape[:2] != (size, length):
            return leaf
        index = columns.to(leaf.device)
        rows = torch.arange(size, device=leaf.device)[:, None]
        there = kept.to(leaf.device).gather(1, index).reshape(size, width, *(1,) * (leaf.dim() - 2))
        return torch.where(there, leaf[rows, index], torch.as_tensor(fill(leaf), dtype=leaf.dtype, device=leaf.device))

    return map_leaves(gather, batch)


def get(batch: Any, *names: str) -> Any:
    """Return the first of ``names`` that the batch holds, as a key or as a field, or None."""
    for name in names:
        value = batch.get(name) if hasattr(batch, "get") else getattr(batch, name, None)
        if value is not None and not callable(value):
            return value
    return None


def example_ids(batch: Any) -> Any:
    """Return the ids that a batch carries, as they are: ``example_id``, also in a mapping that is a part of a tuple."""
    parts = batch if isinstance(batch, tuple | list) and not hasattr(batch, "_fields") else ()
    named = [batch, *(part for part in parts if isinstance(part, Mapping))]
    return next((found for part in named if (found := get(part, "example_id")) is not None), None)


def as_mapping(batch: Any) -> dict[str, Any]:
    """Return the named parts of a batch.

    A tuple is read as inputs first and labels last: the inputs may be a mapping, or a tensor of ids followed by its
    attention mask, which holds zeros and ones; the labels are the last tensor with one dimension, or else the last
    other one with two: a label for each token, or several for each example.

    Raises:
        ValueError: If the batch is neither named nor such a tuple.
    """
    if hasattr(batch, "items"):
        return dict(batch.items())
    if is_dataclass(batch) and not isinstance(batch, type):
        return {f.name: getattr(batch, f.name) for f in fields(batch)}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return dict(zip(batch._fields, batch, strict=True))
    if isinstance(batch, Tensor):
        return {"input_ids": batch}
    if isinstance(batch, tuple | list) and batch:
        first, *rest = batch
        named = as_mapping(first)
        tensors, ids = [part for part in rest if isinstance(part, Tensor)], named.get("input_ids")
        masks = [
            part
            for part in tensors[:1]
            if "attention_mask" not in named and ids is not None and part.shape == ids.shape
            if bool(((part == 0) | (part == 1)).all())  # else they are labels of tokens
        ]
        others = tensors[len(masks) :]
        labels = [part for part in others if part.dim() == 1] or [part for part in others if part.dim() == 2]
        return named | ({"attention_mask": masks[0]} if masks else {}) | ({"labels": labels[-1]} if labels else {})
    raise ValueError(
        f"The batch is a {type(batch).__name__}, whose parts have no names: give a `task=` whose methods read it."
    )


def clone(batch: Any) -> Any:
    """Return the batch with its tensors cloned, so that none is an inference tensor."""
    return map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, batch)


def to(batch: Any, device: torch.device) -> Any:
    """Return the batch with its tensors on a device."""
    return map_leaves(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, batch)


def to_full_precision(batch: Any) -> Any:
    """Return the batch with tensors in half precision as float32."""
    half = (torch.float16, torch.bfloat16)
    return map_leaves(lambda leaf: leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in half else leaf, batch)


def _holds_tensor(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in leaves(value))
