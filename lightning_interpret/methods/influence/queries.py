"""The gradients of queries in each block: of several batches as of one, of their sum, and what is of no use in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.influence.blocks import Gradient, Rows


@dataclass(frozen=True)
class Asked:
    """Queries that are kept as they came, in the place of gradients: for a method that runs them again.

    Attributes:
        parts: What is run, in order.
        values: What is measured there, ``(V,)``, with the module as it is.
        weights: Which of these values each query is the sum of, ``(M, V)``.
    """

    parts: Sequence[Any]
    values: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.weights)

    def finite(self) -> Tensor:
        """Return which queries have finite values only, bool ``(M,)``."""
        return ~((self.weights != 0) & ~self.values.isfinite()).any(dim=1)

    def kept(self, finite: Tensor) -> Asked:
        """Return these with nothing measured at those that are not ``finite``."""
        return replace(self, weights=self.weights.where(finite[:, None], 0))

    def summed(self) -> Asked:
        """Return the sum of all as one query."""
        return replace(self, weights=self.weights.sum(dim=0, keepdim=True))

    def joined(self, other: Asked, *, add: bool) -> Asked:
        """Return both, one after the other or added."""
        both = self.weights, other.weights
        weights = torch.cat(both, dim=1) if add else torch.block_diag(*both)
        return Asked([*self.parts, *other.parts], torch.cat([self.values, other.values]), weights)


def finite_queries(gradients: list[Gradient | None]) -> tuple[list[Gradient | None], list[bool]]:
    """Return the gradients with those of queries that have some that are not finite as zero, and which are finite.

    Else one query without a gradient would leave no example with a finite score, and the others without a record.
    """
    known = [_finite(each) for each in gradients if each is not None]
    if not known:
        return gradients, []
    finite = torch.stack(known).all(dim=0)
    if bool(finite.all()):
        return gradients, finite.tolist()

    def kept(each: Any) -> Any:
        if isinstance(each, Asked):
            return each.kept(finite)
        values = _values(each)
        zeroed = values.where(finite.reshape(-1, *[1] * (values.dim() - 1)), 0)
        return Rows(each.index, zeroed) if isinstance(each, Rows) else zeroed

    return [None if each is None else kept(each) for each in gradients], finite.tolist()


def summed(gradients: list[Gradient | None]) -> list[Gradient | None]:
    """Return the gradients of the sum of all queries, as those of one."""

    def total(each: Any) -> Any:
        if isinstance(each, Asked):
            return each.summed()
        values = _values(each).sum(dim=0, keepdim=True)
        return Rows(each.index, values) if isinstance(each, Rows) else values

    return [None if each is None else total(each) for each in gradients]


def _finite(each: Any) -> Tensor:
    return each.finite() if isinstance(each, Asked) else _values(each).isfinite().flatten(1).all(dim=1)


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


def _both(known: Any, pair: tuple[Any, ...], counts: list[int], add: bool) -> Any:
    if isinstance(known, Asked):
        return pair[0].joined(pair[1], add=add)
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
