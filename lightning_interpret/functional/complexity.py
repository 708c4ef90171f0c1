"""Over how many units an attribution spreads: of two that are as faithful, the one of fewer is easier to read."""

from __future__ import annotations

import torch
from torch import Tensor


def gini(scores: Tensor, counts: Tensor) -> Tensor:
    """Return the Gini index of the sizes of the scores, ``(N,)`` (Chalasani et al., 2020).

    0 where all units have the same size, (n − 1)/n where one of n has everything. NaN where no size is above 0, nothing
    counts, or a score that counts is not finite.

    Args:
        scores: ``(N, T)``.
        counts: Bool ``(N, T)``, the units that count.

    Raises:
        ValueError: If shapes differ.
    """
    sizes, total, count = _sizes(scores, counts)
    ordered = sizes.sort(dim=1).values  # what does not count is 0, and comes first
    place = torch.arange(1, sizes.shape[1] + 1, device=sizes.device) - (sizes.shape[1] - count)[:, None]
    weight = (2 * place - count[:, None] - 1).double()
    return (weight * ordered).sum(dim=1) / (count * total)


def entropy(scores: Tensor, counts: Tensor) -> Tensor:
    """Return the entropy of the sizes of the scores as shares, ``(N,)``, in nats (Bhatt et al., 2020).

    0 where one unit has everything, ln n where n have the same size. NaN where :func:`gini` is.
    """
    sizes, total, _ = _sizes(scores, counts)
    shares = sizes / total[:, None]
    return torch.special.entr(shares).sum(dim=1)


def _sizes(scores: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sizes, their sum where it is one to divide by or else NaN, and how many count."""
    if scores.shape != counts.shape or scores.dim() != 2:
        raise ValueError(f"`scores` {tuple(scores.shape)} and `counts` {tuple(counts.shape)} must both be (N, T).")
    sizes = scores.double().abs().masked_fill(~counts, 0)
    total = sizes.sum(dim=1)
    return sizes, total.where(total.isfinite() & (total > 0), torch.nan), counts.sum(dim=1)
