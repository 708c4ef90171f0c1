"""Ranks, and what is said with them: how alike two orders are, and how well an order finds what is wanted."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def average_ranks(values: Tensor) -> Tensor:
    """Return the rank of each value along the first dimension, from 1; the same values have the mean of their ranks."""
    rows = values.movedim(0, -1).contiguous()
    ordered = rows.sort(dim=-1).values
    below, up_to = (torch.searchsorted(ordered, rows, right=right) for right in (False, True))
    return (below + up_to + 1).movedim(-1, 0).double() / 2


def spearman(predicted: Tensor, actual: Tensor) -> Tensor:
    """Return the rank correlation of each column of two ``(S, M)``, ``(M,)``.

    NaN where ``actual`` is constant or a number is not finite; 0 where ``predicted`` alone is constant.
    """
    actual = actual.to(predicted.device)
    first, second = (ranks - ranks.mean(dim=0) for ranks in map(average_ranks, (predicted, actual)))
    sizes = first.square().sum(dim=0), second.square().sum(dim=0)
    found = (first * second).sum(dim=0) / (sizes[0] * sizes[1]).sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    known = predicted.isfinite().all(dim=0) & actual.isfinite().all(dim=0) & (sizes[1] > 0)
    return found.where(known, torch.nan)


def area_under_curve(scores: Tensor, wanted: Tensor) -> float:
    """Return the chance that what is wanted scores higher than what is not, ties counting half (AUC of the ROC).

    Args:
        scores: ``(n,)``.
        wanted: Bool ``(n,)``. NaN comes back where all are wanted, or none.
    """
    found, rest = int(wanted.sum()), int((~wanted).sum())
    if not found or not rest:
        return math.nan
    return (float(average_ranks(scores)[wanted].mean()) - (found + 1) / 2) / rest


def recall_at(scores: Tensor, wanted: Tensor, share: float) -> float:
    """Return which part of what is wanted is among the highest ``share`` of the scores; of ties, the first.

    Args:
        scores: ``(n,)``.
        wanted: Bool ``(n,)``; NaN comes back where none is.
        share: Part of all that is looked at, from 0 to 1, rounded up to whole ones.
    """
    top = scores.argsort(descending=True, stable=True)[: math.ceil(share * len(scores) - 1e-9)]
    return float(wanted[top].sum() / wanted.sum())
