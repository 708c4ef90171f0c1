"""How far distributions are apart: of attention over a text, or of a prediction over the classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def total_variation(first: Tensor, second: Tensor) -> Tensor:
    """Return ½ Σ|p − q| along the last dimension, in [0, 1]; of two classes, how much the probability of one moves."""
    return (first - second).abs().sum(dim=-1) / 2


def kullback_leibler(first: Tensor, second: Tensor) -> Tensor:
    """Return Σ p log(p / q) along the last dimension, in nats.

    0 log 0 is 0, also in the gradient. Where q alone is 0 it stands as the least number of its kind: the result, which
    would be infinite, is large.
    """
    least = torch.finfo(first.dtype).tiny
    return (first * (first.clamp(min=least).log() - second.clamp(min=least).log())).sum(dim=-1)


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence along the last dimension, in nats, in [0, ln 2] (Lin, 1991)."""
    middle = (first + second) / 2
    found = (kullback_leibler(first, middle) + kullback_leibler(second, middle)) / 2
    return found.clamp(0.0, math.log(2))  # single precision leaves it by 1e-7
