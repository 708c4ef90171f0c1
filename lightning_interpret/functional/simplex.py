"""Projections of scores onto simplices: weights of which many are exactly 0, with exact gradients.

Shapes are ``(…, T)``; rows of which nothing is left by the mask are all 0, with no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sparsemax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return argmin ‖z − scores‖² over z ≥ 0 with Σ z = 1 (Martins and Astudillo, 2016), ``(…, T)``.

    Args:
        scores: Scores of single or double precision.
        mask: Which count, bool; the others get 0.
    """
    return capped_simplex(scores, 1.0, mask)  # z ≥ 0 and Σ z = 1 leave nothing above 1


def capped_simplex(scores: Tensor, total: Tensor | float, mask: Tensor | None = None) -> Tensor:
    """Return argmin ‖z − scores‖² over 0 ≤ z ≤ 1 with Σ z = total, ``(…, T)``.

    z = clamp(scores − λ, 0, 1), where λ solves a piecewise linear equation exactly, by sorting. This is constrained
    sparsemax with equal bounds (Malaviya, Ferreira and Martins, 2018), times the total. The gradient is that of the
    implicit function: what is strictly between 0 and 1 shares changes that sum to that of the total.

    Args:
        scores: Scores of single or double precision.
        total: What z sums to, a number or ``(…)``; no more than there is room for is shared out.
        mask: Which count, bool; the others get 0.
    """
    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    total = torch.as_tensor(total, dtype=scores.dtype, device=scores.device).expand(scores.shape[:-1])
    return _CappedSimplex.apply(scores.masked_fill(~mask, 0), total, mask)


class _CappedSimplex(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, total: Tensor, mask: Tensor) -> Tensor:
        s = scores.to(torch.float32 if scores.device.type == "mps" else torch.float64)
        lowest = s.masked_fill(~mask, torch.inf).amin(dim=-1, keepdim=True)
        s = torch.where(mask, s, lowest.nan_to_num(posinf=0.0))
        count = mask.sum(dim=-1, keepdim=True)
        total = total[..., None].to(s).clamp(min=0).minimum(count)
        # as λ comes down, Σ z(λ) grows by one more from each score on, and by one less from each score − 1 on
        points, order = torch.cat([s, s - 1], dim=-1).sort(dim=-1, descending=True)
        weight = mask.to(s)
        slopes = torch.cat([weight, -weight], dim=-1).gather(-1, order).cumsum(dim=-1)
        sums = torch.nn.functional.pad((slopes[..., :-1] * -points.diff(dim=-1)).cumsum(dim=-1), (1, 0))
        last = ((sums < total).sum(dim=-1, keepdim=True) - 1).clamp(min=0)  # the last point whose sum is too small
        short = total - sums.gather(-1, last)
        threshold = points.gather(-1, last) - short / slopes.gather(-1, last).clamp(min=1)
        return ((s - threshold).clamp(0, 1) * mask).to(scores.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (z,) = ctx.saved_tensors
        between = ((z > 0) & (z < 1)).to(gradient.dtype)
        mean = (gradient * between).sum(dim=-1) / between.sum(dim=-1).clamp(min=1)
        return between * (gradient - mean[..., None]), mean, None
