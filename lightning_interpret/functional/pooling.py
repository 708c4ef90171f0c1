"""The features of a sequence as one vector, and what the gradient is as that vector moves."""

from __future__ import annotations

import torch
from torch import Tensor

POOLINGS = ("mean", "first", "last")


def pooled(values: Tensor, there: Tensor, pooling: str) -> Tensor:
    """Return one vector a sequence, ``(B, d)``.

    Args:
        values: ``(B, T, d)``.
        there: Bool ``(B, T)``, the places that count: no padding.
        pooling: ``mean``, ``first`` or ``last``, of those places.
    """
    if pooling == "mean":
        weights = there.to(values)[:, :, None]
        return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return values[torch.arange(len(values), device=values.device), _place(there, pooling)]


def moved(gradients: Tensor, there: Tensor, pooling: str) -> Tensor:
    """Return the gradient in the pooled vector, ``(B, d)``, when it moves because the places that make it do.

    As every place of a mean moves by v the mean moves by v, so the rate of change along v is Σ_t ∂F/∂h_t · v; of the
    ``first`` or ``last`` place it is that of this place alone.

    Args:
        gradients: ∂F/∂h, ``(B, T, d)``.
        there: Bool ``(B, T)``, the places that count.
        pooling: That of :func:`pooled`.
    """
    if pooling == "mean":
        return (gradients * there.to(gradients)[:, :, None]).sum(dim=1)
    return gradients[torch.arange(len(gradients), device=gradients.device), _place(there, pooling)]


def _place(there: Tensor, pooling: str) -> Tensor:
    length, order = there.shape[1], torch.arange(there.shape[1], device=there.device)
    if pooling == "first":
        return order.masked_fill(~there, length).min(dim=1).values.clamp(max=length - 1)
    return order.masked_fill(~there, 0).max(dim=1).values
