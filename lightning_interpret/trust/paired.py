"""Whether differences of pairs are above 0: an exact test that needs no distribution, whatever their number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_EXACT, _DRAWN = 14, 9_999  # pairs up to which every flip of signs is tried; else so many drawn ones


def sign_flip(differences: Sequence[float], seed: int = 0) -> float:
    """Return the one-sided p-value that the mean of paired differences is above 0 (Fisher's randomisation test).

    Under the hypothesis of no difference each one could as well have had the other sign: p is the share of the flips of
    signs whose sum is at least the observed one, itself among them. All 2ⁿ are tried up to 14 pairs, else 9,999 drawn
    ones. So p is never below 2⁻ⁿ: fewer than 5 pairs cannot be significant at 0.05, however large they are. 1 of none.

    Args:
        differences: One number a pair.
        seed: Seed of the drawn flips.
    """
    if not len(differences):
        return 1.0
    values = torch.tensor(differences, dtype=torch.float64)
    flips = _flips(len(values), seed)
    sums = flips @ values
    above = int((sums >= values.sum() - 1e-12 * values.abs().sum()).sum())
    return above / len(flips) if len(values) <= _EXACT else (above + 1) / (len(flips) + 1)


def standard_error(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean; ``None`` of fewer than two values."""
    if len(values) < 2:
        return None
    return float(torch.tensor(values, dtype=torch.float64).std() / math.sqrt(len(values)))


def _flips(count: int, seed: int) -> Tensor:
    if count <= _EXACT:
        bits = torch.arange(2**count)[:, None] >> torch.arange(count) & 1
    else:
        bits = torch.randint(0, 2, (_DRAWN, count), generator=torch.Generator().manual_seed(seed))
    return 1.0 - 2.0 * bits.double()
