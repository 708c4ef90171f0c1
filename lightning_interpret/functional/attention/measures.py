"""What attention looks like in numbers: how spread it is, how alike its heads are, which position is read."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_interpret.functional.attention.distances import jensen_shannon


def entropy(weights: Tensor, queries: Tensor) -> Tensor:
    """Return the entropy of each head, ``(B, H)``, as a share of that of uniform attention: 0 to 1.

    Each query's entropy is divided by the log of the number of positions that it weighs (more than 0), so that causal
    attention and padding make no difference; the mean is over the queries that weigh two or more. Without any (a text
    of one token) it is 0.

    Args:
        weights: ``(B, H, Q, K)``.
        queries: Which queries are no padding, bool ``(B, Q)``.
    """
    weights = weights.double()
    positions = (weights > 0).sum(dim=-1)
    counted = (positions > 1) & queries[:, None, :]
    share = torch.special.entr(weights).sum(dim=-1) / positions.clamp(min=2).log()
    return (share * counted).sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)


def head_agreement(weights: Tensor, queries: Tensor) -> Tensor:
    """Return how alike the heads of a layer attend, ``(B,)``: 1 less their mean pairwise divergence.

    The divergence is that of Jensen and Shannon in bits, so that 1 says that all heads attend alike, and 0 that no two
    weigh a position in common; the mean is over pairs of heads and over queries. One head has no pair: NaN.

    Args:
        weights: ``(B, H, Q, K)``.
        queries: Which queries are no padding, bool ``(B, Q)``.
    """
    weights = weights.double()
    heads, counted = weights.shape[1], queries.sum(dim=-1).clamp(min=1)
    if heads == 1:
        return weights.new_full((len(weights),), math.nan)
    total = weights.new_zeros(len(weights))
    for apart in range(1, heads // 2 + 1):  # each pair once: so many heads apart, around the circle
        found = jensen_shannon(weights, weights.roll(apart, dims=1)) * queries[:, None, :]
        total = total + found.sum(dim=(1, 2)) * (0.5 if 2 * apart == heads else 1.0)
    return 1 - total / counted / (heads * (heads - 1) / 2) / math.log(2)


def read_positions(gradient: Tensor, there: Tensor) -> Tensor:
    """Return what part of the score's reading each position has, ``(B, T)``: those that it depends on, all alike.

    A head that reads one position leaves all other rows of the last attention without any gradient; one that takes a
    mean does not. Where no position has one, all that are there are read.

    Args:
        gradient: That of the score in the last layer's attention, ``(B, H, T, K)``.
        there: Which tokens are no padding, bool ``(B, T)``.
    """
    read = (gradient != 0).any(dim=-1).any(dim=1) & there
    read = torch.where(read.any(dim=1, keepdim=True), read, there)
    return read.double() / read.sum(dim=1, keepdim=True).clamp(min=1)


def position(which: str, there: Tensor) -> Tensor:
    """Return the position ``first``, ``last`` or, all alike, the ``mean`` of what is there, as weights ``(B, T)``."""
    order = there.long().cumsum(dim=1)
    one = {"first": order == 1, "last": order == order[:, -1:], "mean": there}[which] & there
    return one.double() / one.sum(dim=1, keepdim=True).clamp(min=1)
