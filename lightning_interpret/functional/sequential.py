"""Integrated gradients of one set of units after another, each with all others as they are (Enguehard, 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.path import Score, integrate

#: Passes whose points come from the paths held at once: enough that few passes are not full, and a stated bound.
PASSES_HELD = 4


@dataclass(frozen=True)
class SequentialIntegral:
    """The result of :func:`integrate_sets` for P sets of units of N rows.

    Attributes:
        contributions: ``(N, *units)``, the integrated gradients of each row's sets, all in one.
        found: ``(P,)``, the sum of each set's.
        target: ``(P,)``, what it is to be: F(x) − F(x; set := x').
        steps: ``(P,)``, nodes that each set's result stands on.
        gradients: ``(P,)``, gradients computed.
        forwards: ``(P,)``, forward passes without a gradient.
        partial_error: ``(P,)``, of each path, as :class:`~lightning_interpret.functional.path.PathIntegral` has it.
    """

    contributions: Tensor
    found: Tensor
    target: Tensor
    steps: Tensor
    gradients: Tensor
    forwards: Tensor
    partial_error: Tensor


def integrate_sets(
    score: Score,
    inputs: Tensor,
    baselines: Tensor,
    sets: Iterable[tuple[Tensor, Tensor]],
    *,
    target: Tensor,
    per_unit: Callable[[Tensor], Tensor],
    chunk: int = 64,
    **options: Any,
) -> SequentialIntegral:
    """Integrate the gradient along a path of its own for each set of units: from x with the set at x' to x.

    The sum of a set's contributions is F(x) − F(x; set := x'), what is lost without it: no share of F(x) − F(x').

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        baselines: x', ``(N, *shape)``.
        sets: Rows ``(M,)`` of some sets and where their features are, bool ``(M, *shape)``; the paths of one such part
            are held at once.
        target: F(x), ``(N,)``.
        per_unit: Sums what is given for points, ``(M, *shape)``, to the units wanted.
        chunk: Points in one pass.
        options: Those of :func:`~lightning_interpret.functional.path.integrate`.
    """
    contributions, parts = torch.zeros_like(per_unit(inputs)), []
    for row, features in sets:
        x, row = inputs[row.to(inputs.device)], row.to(inputs.device)
        start = torch.where(features, baselines[row], x)

        def along(points: Tensor, paths: Tensor, row: Tensor = row) -> Tensor:
            return score(points, row[paths])

        paths = torch.arange(len(row), device=row.device).split(chunk)
        with torch.no_grad():
            at_start = torch.cat([along(start[some], some).double() for some in paths])
        integral = integrate(
            along,
            x,
            start,
            target=target[row],
            baseline_target=at_start,
            chunk=chunk,
            per_unit=per_unit,
            **options,
        )
        contributions.index_add_(0, row, integral.contributions)
        found, lost = integral.contributions.double().flatten(1).sum(dim=1), target[row].double() - at_start
        counts = integral.steps, integral.gradients, integral.forwards + 1
        parts.append((found, lost, *counts, integral.partial_error))
    if not parts:
        nothing, none = target.new_zeros(0, dtype=torch.float64), target.new_zeros(0, dtype=torch.long)
        parts.append((nothing, nothing, none, none, none, nothing))
    return SequentialIntegral(contributions, *(torch.cat(part) for part in zip(*parts, strict=True)))
