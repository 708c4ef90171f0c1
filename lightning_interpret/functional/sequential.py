"""Integrated gradients of one set of units after another, each with all others as they are (Enguehard, 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.passes import Score
from lightning_interpret.functional.path import integrate

#: Passes whose points come from the paths held at once: enough that few passes are not full, and a stated bound.
PASSES_HELD = 4


@dataclass(frozen=True)
class SequentialIntegral:
    """The result of :func:`integrate_sets` for P sets of units of N rows.

    Attributes:
        contributions: ``(N, *units)``, the integrated gradients of each row's sets, all in one.
        found: ``(P,)``, the sum of each set's.
        steps: ``(P,)``, nodes that each set's result stands on.
        gradients: ``(P,)``, gradients computed.
        forwards: ``(P,)``, forward passes without a gradient.
        partial_error: ``(P,)``, of each path, as :class:`~lightning_interpret.functional.path.PathIntegral` has it.
    """

    contributions: Tensor
    found: Tensor
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
    lost: Tensor,
    error_floor: Tensor,
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
        sets: Rows ``(M,)`` of some of P sets and where their features are, bool ``(M, *shape)``; the paths of one such
            part are held at once.
        target: F(x), ``(N,)``.
        lost: What each set's contributions are to sum to, F(x) − F(x; set := x'), float64 ``(P,)``.
        error_floor: Floor of the denominator of each set's errors, ``(P,)``.
        per_unit: Sums what is given for points, ``(M, *shape)``, to the units wanted.
        chunk: Points in one pass.
        options: Those of :func:`~lightning_interpret.functional.path.integrate`.
    """
    contributions, parts, begin = torch.zeros_like(per_unit(inputs)), [], 0
    for row, features in sets:
        x, row = inputs[row.to(inputs.device)], row.to(inputs.device)
        here = slice(begin, begin := begin + len(row))

        def along(points: Tensor, paths: Tensor, row: Tensor = row) -> Tensor:
            return score(points, row[paths])

        integral = integrate(
            along,
            x,
            torch.where(features, baselines[row], x),
            target=target[row],
            baseline_target=target[row].double() - lost[here],
            error_floor=error_floor[here],
            chunk=chunk,
            per_unit=per_unit,
            **options,
        )
        contributions.index_add_(0, row, integral.contributions)
        found = integral.contributions.double().flatten(1).sum(dim=1)
        parts.append((found, integral.steps, integral.gradients, integral.forwards, integral.partial_error))
    if not parts:
        nothing, none = target.new_zeros(0, dtype=torch.float64), target.new_zeros(0, dtype=torch.long)
        parts.append((nothing, none, none, none, nothing))
    return SequentialIntegral(contributions, *(torch.cat(part) for part in zip(*parts, strict=True)))
