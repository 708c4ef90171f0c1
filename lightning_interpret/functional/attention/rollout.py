"""Attention of several layers as one map from positions to the tokens of the text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normalised(maps: Tensor, there: Tensor) -> Tensor:
    """Return maps ``(B, Q, K)`` whose rows sum to 1; padded columns are exactly 0.

    A row that has nothing to divide (a query without a key) is that of a position that keeps what it has: 1 at itself,
    where there are as many queries as keys, and 0 for padding.

    Args:
        maps: Not negative.
        there: Which tokens are no padding, bool ``(B, K)``.
    """
    maps = maps.masked_fill(~there[:, None, :], 0.0)  # and no product: what padding attends to may be no number
    if maps.shape[1] == maps.shape[2]:
        maps = maps.masked_fill(~there[:, :, None], 0.0)
        nothing = (maps.sum(dim=-1) == 0) & there
        maps = maps + torch.diag_embed(nothing.to(maps))
    total = maps.sum(dim=-1, keepdim=True)
    return maps / total.masked_fill(total == 0, 1.0)


def with_residual(maps: Tensor, there: Tensor) -> Tensor:
    """Return ½A + ½I of maps ``(B, T, T)``: half of what a position has after a layer is what it had before."""
    own = torch.diag_embed(there.to(maps))
    return 0.5 * normalised(maps, there) + 0.5 * own


def rollout(layers: Sequence[Tensor], there: Tensor, *, residual: bool = True) -> Tensor:
    """Return the attention rollout ``(B, T, T)``, the product Â_L … Â_1 (Abnar and Zuidema, 2020, equation 1).

    Row i says what part of each token is mixed into position i after the last layer. Rows sum to 1, those of padding
    and padded columns are 0.

    Args:
        layers: Attention of each layer with its heads fused, ``(B, T, T)``, the first layer first.
        there: Which tokens are no padding, bool ``(B, T)``.
        residual: Whether Â is ½A + ½I; otherwise it is A.
    """
    rolled = torch.diag_embed(there.to(layers[0]))
    for maps in layers:
        rolled = (with_residual(maps, there) if residual else normalised(maps, there)) @ rolled
    return rolled


def relevance_map(layers: Sequence[Tensor], gradients: Sequence[Tensor], there: Tensor) -> Tensor:
    """Return the relevance map R ``(B, T, T)`` of self-attention (Chefer, Gur and Wolf, 2021, equations 5 and 6).

    R starts as the identity; each layer adds ĀR to it, with Ā the mean over heads of the positive part of ∇A ⊙ A.

    Args:
        layers: Attention of each layer, ``(B, H, T, T)``, the first layer first.
        gradients: The gradient of the score explained in each of them.
        there: Which tokens are no padding, bool ``(B, T)``.
    """
    relevance = torch.diag_embed(there.to(layers[0]))
    for weights, gradient in zip(layers, gradients, strict=True):
        relevance = relevance + positive(weights, gradient, there) @ relevance
    return relevance


def positive(weights: Tensor, gradient: Tensor, there: Tensor) -> Tensor:
    """Return Ā ``(B, Q, K)``, the mean over heads of the positive part of ∇A ⊙ A; 0 on padded columns."""
    return (gradient * weights).clamp(min=0).mean(dim=1) * there[:, None, :]
