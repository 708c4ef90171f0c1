"""Attention of several layers as one map from positions to the tokens of the text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


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


def relevance_map(
    layers: Sequence[Tensor],
    gradients: Sequence[Tensor],
    there: Tensor,
    *,
    source: int | None = None,
    crosses: Sequence[bool] = (),
) -> Tensor:
    """Return the relevance map R ``(B, T, T)`` of self-attention (Chefer, Gur and Wolf, 2021, equations 5 and 6).

    R starts as the identity; each layer adds ĀR to it, with Ā the mean over heads of the positive part of ∇A ⊙ A.

    Of an encoder-decoder the tokens are those of the source s and, behind them, of the output q, and a map is 0 but for
    the queries and keys of its layer. Cross-attention Ā ``(q, s)`` adds R̄ᵀ_qq Ā R̄_ss to the block of R from q to s
    (their equation 10), with R̄ the identity and R less the identity, its rows of sum 1 (their equations 8 and 9).

    Args:
        layers: Attention of each layer, ``(B, H, T, T)``, the first layer first.
        gradients: The gradient of the score explained in each of them.
        there: Which tokens are no padding, bool ``(B, T)``.
        source: How many tokens the source has; None of a single text.
        crosses: Whether each layer is cross-attention; none by default.
    """
    relevance = torch.diag_embed(there.to(layers[0]))
    own = relevance
    for weights, gradient, cross in zip(layers, gradients, crosses or [False] * len(layers), strict=True):
        found = positive(weights, gradient, there)
        if not cross:
            relevance = relevance + found @ relevance
            continue
        rows, columns = slice(source, None), slice(None, source)
        queries, keys = (_of_sum_one(relevance[:, part, part], own[:, part, part]) for part in (rows, columns))
        added = queries.transpose(1, 2) @ found[:, rows, columns] @ keys
        relevance = relevance + pad(
            added, (0, relevance.shape[2] - added.shape[2], relevance.shape[1] - added.shape[1], 0)
        )
    return relevance


def _of_sum_one(relevance: Tensor, own: Tensor) -> Tensor:
    """Return I + the rest of a relevance map with its rows of sum 1; a row without any is that of I."""
    rest = relevance - own
    total = rest.sum(dim=-1, keepdim=True)
    return own + rest / total.masked_fill(total == 0, 1.0)


def positive(weights: Tensor, gradient: Tensor, there: Tensor) -> Tensor:
    """Return Ā ``(B, Q, K)``, the mean over heads of the positive part of ∇A ⊙ A; 0 on padded columns."""
    return (gradient * weights).clamp(min=0).mean(dim=1) * there[:, None, :]
