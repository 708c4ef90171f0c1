"""What the score loses without some of the units (Li, Monroe and Jurafsky, 2016; Zeiler and Fergus, 2014)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def window_starts(length: int, window: int, stride: int) -> Tensor:
    """Return where windows over ``length`` places begin, so that every place is in one; the last may end early."""
    if length == 0:
        return torch.zeros(0, dtype=torch.long)
    return torch.arange(-(-max(0, length - window) // stride) + 1) * stride


def differences(
    score_without: Callable[[Tensor, Tensor], Tensor], target: Tensor, sets: Iterable[tuple[Tensor, Tensor]]
) -> Tensor:
    """Return F(x) − F(x without S) of each set S of units, float64 ``(P,)``, without gradients.

    Args:
        score_without: The scalar explained without the units ``(M, T)`` of given rows ``(M,)``.
        target: F(x), ``(N,)``.
        sets: Rows and units of the sets of each pass.
    """
    with torch.no_grad():
        lost = [target.double()[row.to(target.device)] - score_without(row, units).double() for row, units in sets]
    return torch.cat(lost or [target.new_zeros(0, dtype=torch.float64)])


def share(values: Tensor, sets: Iterable[tuple[Tensor, Tensor]], shape: tuple[int, ...]) -> Tensor:
    """Return a value for each unit, ``(N, T)``: of each set's value an equal part, of several sets the mean.

    Where no unit is in two sets, the values of the units sum to those of the sets.

    Args:
        values: Of each of P sets, ``(P,)``.
        sets: Rows ``(M,)`` and units ``(M, T)`` of the sets, in the order of ``values``; each has a unit.
        shape: ``(N, T)``.
    """
    total, held, begin = values.new_zeros(shape), values.new_zeros(shape), 0
    for row, units in sets:
        inside = units.to(values)
        part = values[begin : begin + len(row)] / inside.sum(dim=1)
        begin += len(row)
        total.index_add_(0, row.to(values.device), part[:, None] * inside)
        held.index_add_(0, row.to(values.device), inside)
    return total / held.clamp(min=1)
