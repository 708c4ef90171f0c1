"""The gradients of queries in each block: of several batches as of one, of their sum, and what is of no use in them."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.influence.blocks import Gradient, Rows


def finite_queries(gradients: list[Gradient | None]) -> tuple[list[Gradient | None], list[bool]]:
    """Return the gradients with those of queries that have some that are not finite as zero, and which are finite.

    Else one query without a gradient would leave no example with a finite score, and the others without a record.
    """
    known = [_values(each) for each in gradients if each is not None]
    if not known:
        return gradients, []
    finite = torch.stack([each.isfinite().flatten(1).all(dim=1) for each in known]).all(dim=0)
    if bool(finite.all()):
        return gradients, finite.tolist()

    def kept(each: Gradient) -> Gradient:
        values = _values(each)
        zeroed = values.where(finite.reshape(-1, *[1] * (values.dim() - 1)), 0)
        return Rows(each.index, zeroed) if isinstance(each, Rows) else zeroed

    return [None if each is None else kept(each) for each in gradients], finite.tolist()


def summed(gradients: list[Gradient | None]) -> list[Gradient | None]:
    """Return the gradients of the sum of all queries, as those of one."""
    return [
        Rows(each.index, each.values.sum(dim=0, keepdim=True))
        if isinstance(each, Rows)
        else None
        if each is None
        else each.sum(dim=0, keepdim=True)
        for each in gradients
    ]


def _values(gradient: Gradient) -> Tensor:
    return gradient.values if isinstance(gradient, Rows) else gradient


def joined(before: list[Gradient | None], after: list[Gradient | None], *, add: bool) -> list[Gradient | None]:
    """Return the gradients of two batches as those of one: one after the other, or added; None is nothing but zeros."""
    counts = [next(len(each) for each in gradients if each is not None) for gradients in (before, after)]
    found: list[Gradient | None] = []
    for pair in zip(before, after, strict=True):
        known = next((each for each in pair if each is not None), None)
        found.append(None if known is None else _both(known, pair, counts, add))
    return found


def _both(known: Gradient, pair: tuple[Gradient | None, ...], counts: list[int], add: bool) -> Gradient:
    if isinstance(known, Rows):
        rows = [each for each in pair if isinstance(each, Rows)]
        index = torch.cat([each.index for each in rows]).unique()
        parts = [known.values.new_zeros(count, len(index), known.values.shape[2]) for count in counts]
        for whole, each in zip(parts, pair, strict=True):
            if isinstance(each, Rows):
                whole[:, torch.searchsorted(index, each.index)] = each.values
        return Rows(index, parts[0] + parts[1] if add else torch.cat(parts))
    parts = [
        each if isinstance(each, Tensor) else known.new_zeros(count, *known.shape[1:])
        for each, count in zip(pair, counts, strict=True)
    ]
    return parts[0] + parts[1] if add else torch.cat(parts)
