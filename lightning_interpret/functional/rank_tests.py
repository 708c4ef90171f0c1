"""Whether two orders could be as alike as they are by chance."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

#: Values up to which the law of τ without ties is exact; past that the normal one is as good (SciPy draws it there).
EXACT = 33


def kendall_p_value(tau: Tensor, first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
    """Return the two-sided p-value of Kendall's τ-b of each row, ``(N,)``, under independence.

    Without ties and with up to 33 values it is exact: the share of all n! orders whose C − D is at least as far from 0
    (Kendall, 1970, section 5). Otherwise C − D is taken as normal, with its variance corrected for ties:
    (v₀ − v₁ − v₂) / 18 + Σt(t−1) Σu(u−1) / (2n(n−1)) + Σt(t−1)(t−2) Σu(u−1)(u−2) / (9n(n−1)(n−2)), where v₀ is
    n(n−1)(2n+5), v₁ and v₂ are Σt(t−1)(2t+5) of either side, and t, u are the sizes of groups of ties. NaN where τ is.

    Args:
        tau: τ-b as :func:`~lightning_interpret.functional.ranks.kendall` returns it, ``(N,)``.
        first: ``(N, T)``.
        second: Same shape.
        counts: Bool ``(N, T)``, the values that count.
    """
    n = counts.sum(dim=1).double()
    ties = [_ties(values, counts) for values in (first, second)]
    pairs, tied = n * (n - 1) / 2, [(size - 1).sum(dim=1) / 2 for size in ties]
    difference = (tau.double() * ((pairs - tied[0]) * (pairs - tied[1])).clamp(min=0).sqrt()).round()
    v0 = n * (n - 1) * (2 * n + 5)
    v1, v2 = (((size - 1) * (2 * size + 5)).sum(dim=1) for size in ties)
    triples = [((size - 1) * (size - 2)).clamp(min=0).sum(dim=1) for size in ties]
    variance = (v0 - v1 - v2) / 18
    variance = variance + 2 * tied[0] * tied[1] / (n * (n - 1)).clamp(min=1)
    variance = variance + triples[0] * triples[1] / (9 * n * (n - 1) * (n - 2)).clamp(min=1)
    normal = torch.special.erfc(difference.abs() / (2 * variance).sqrt())
    exact = (tied[0] == 0) & (tied[1] == 0) & (n <= EXACT)
    orders = _orders().to(n.device)
    inversions = ((pairs - difference.abs()) / 2).nan_to_num().long().clamp(0, orders.shape[1] - 1)
    counted = 2 * orders[n.long().clamp(0, EXACT), inversions]
    return torch.where(exact, counted.clamp(max=1), normal).where(tau.isfinite(), torch.nan)


def _ties(values: Tensor, counts: Tensor) -> Tensor:
    """Return how many values that count each one is the same as, itself among them; 1 for one that does not count."""
    rows = values.double().masked_fill(~counts, torch.inf)
    ordered = rows.sort(dim=1).values
    below, up_to = (torch.searchsorted(ordered, rows, right=right) for right in (False, True))
    return (up_to - below).double().where(counts, 1.0)


@cache
def _orders() -> Tensor:
    """Return the share of the orders of n values with at most k inversions, ``(EXACT + 1, most inversions + 1)``."""
    most = EXACT * (EXACT - 1) // 2
    shares = torch.zeros(EXACT + 1, most + 1, dtype=torch.float64)
    shares[:2, 0] = 1.0
    for n in range(2, EXACT + 1):  # the n-th value is put before 0 to n − 1 of the others
        sums = shares[n - 1].cumsum(dim=0)
        shares[n] = sums / n
        shares[n, n:] = (sums[n:] - sums[:-n]) / n
    return shares.cumsum(dim=1)
