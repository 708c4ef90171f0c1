"""Spans of a sequence: all stretches of up to so many tokens, a vector of each and its share of the whole.

A tensor of spans is ``(B, T, W)``: at ``[b, i, k]`` stands what belongs to the k + 1 tokens from i on.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def windows(values: Tensor, width: int) -> Tensor:
    """Return at ``[b, i, k]`` what stands k places after i, 0 past the end: ``(B, T, …) → (B, T, width, …)``."""
    padded = F.pad(values, [0, 0] * (values.dim() - 2) + [0, width - 1])
    return padded.unfold(1, width, 1).movedim(-1, 2)


def spans_within(tokens: Tensor, width: int) -> Tensor:
    """Return which spans are of such tokens alone, bool ``(B, T, width)``, for bool ``(B, T)``."""
    return windows(tokens.long(), width).cumprod(dim=2).bool()


def span_states(states: Tensor, start: Tensor, end: Tensor, product: Tensor, bias: Tensor, width: int) -> Tensor:
    """Return h_ij = tanh(U h_i + V h_j + W₄ (h_i ⊙ h_j) + b) of the spans from i to j, ``(B, T, width, D)``.

    It is the paper's tanh(W₁ h_i + W₂ h_j + W₃ (h_i − h_j) + W₄ (h_i ⊙ h_j)) with U = W₁ + W₃ and V = W₂ − W₃, which
    are applied once a token (Sun et al., 2020, arXiv 2012.01786, section 3.2).

    Args:
        states: h, ``(B, T, D)``.
        start: U, ``(D, D)``.
        end: V.
        product: W₄.
        bias: b, ``(D,)``.
        width: Most tokens of a span.
    """
    pairs = F.linear(states[:, :, None] * windows(states, width), product)
    return (pairs + F.linear(states, start, bias)[:, :, None] + windows(F.linear(states, end), width)).tanh()


def span_weights(scores: Tensor, spans: Tensor) -> Tensor:
    """Return the softmax of scores ``(B, T, W)`` over all spans that there are, in single precision at least.

    It is exactly 0 where there is no span, and everywhere in a row without any.
    """
    scores = scores if scores.dtype == torch.float64 else scores.float()
    lowest = torch.finfo(scores.dtype).min  # and not -inf, whose softmax is no number in a row without spans
    shares = scores.masked_fill(~spans, lowest).flatten(1).softmax(dim=1)
    return shares.view_as(scores).masked_fill(~spans, 0.0)


def sharpness(weights: Tensor) -> Tensor:
    """Return Σ α² of each row, ``(B,)``: 1 where one span has all the weight, 1/n where n share it evenly."""
    return weights.square().flatten(1).sum(dim=1)


def token_weights(weights: Tensor) -> Tensor:
    """Return for each token the sum of the weights ``(B, T, W)`` of the spans that it is in, ``(B, T)``."""
    length, width = weights.shape[1:]
    reach = weights.flip(2).cumsum(dim=2).flip(2)  # of the spans from i on that hold the k-th token after i
    places = torch.arange(length, device=weights.device)[:, None] + torch.arange(width, device=weights.device)
    total = weights.new_zeros(len(weights), length + width - 1)
    return total.index_add(1, places.flatten(), reach.flatten(1))[:, :length]


def top_spans(weights: Tensor, spans: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k spans of the largest weights, the largest first: weights, starts, and ends that are not included.

    Each is ``(B, k)``, or as many as there are places for a span; what is no span comes last, with a weight of −1.

    Args:
        weights: ``(B, T, W)``.
        spans: Which of them are spans, bool.
        k: How many.
    """
    width = weights.shape[2]
    values, places = weights.masked_fill(~spans, -1.0).flatten(1).topk(min(k, weights[0].numel()), dim=1)
    starts = places // width
    return values, starts, starts + places % width + 1
