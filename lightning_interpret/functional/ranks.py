"""Ranks, and what is said with them: how alike two orders are, and how well an order finds what is wanted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Pairs of values that are compared at once, so that long rows do not fill the memory.
_PAIRS = 2**24


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


def kendall(first: Tensor, second: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return Kendall's τ-b of each row, ``(N,)``: (C − D) / √((C + D + T₁)(C + D + T₂)) over pairs of a row's values.

    C pairs are in the same order in both, D in opposite ones, T₁ are ties of the second alone and T₂ of the first.
    NaN where one of them is constant over what counts (nothing to order), fewer than two values count, or one of those
    is not finite. Time and memory are quadratic in T, in parts of bounded size.

    Args:
        first: ``(N, T)``.
        second: Same shape.
        counts: Bool ``(N, T)``, the values that count; all by default.

    Raises:
        ValueError: If shapes differ.
    """
    counts = torch.ones_like(first, dtype=torch.bool) if counts is None else counts.bool()
    if not (first.shape == second.shape == counts.shape) or first.dim() != 2:
        shapes = ", ".join(str(tuple(each.shape)) for each in (first, second, counts))
        raise ValueError(f"`first`, `second` and `counts` must be of one shape (N, T), but are {shapes}.")
    rows = max(1, _PAIRS // max(1, first.shape[1] ** 2))
    parts = [_kendall(*part) for part in zip(*(each.split(rows) for each in (first, second, counts)), strict=True)]
    known = ((first.isfinite() & second.isfinite()) | ~counts).all(dim=1)
    return torch.cat(parts).where(known, torch.nan)


def _kendall(first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
    pairs, signs = counts[:, :, None] & counts[:, None, :], []
    for values in (first, second):
        higher = (values[:, :, None] > values[:, None, :]) & pairs
        signs.append(higher.to(torch.int8) - higher.mT.to(torch.int8))
    agree = (signs[0] * signs[1]).sum(dim=(1, 2)).double()
    ordered = [sign.abs().sum(dim=(1, 2)).double() for sign in signs]
    return agree / (ordered[0] * ordered[1]).sqrt()


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
