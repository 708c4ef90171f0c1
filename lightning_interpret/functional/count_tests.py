"""Exact tests of counts: whether a share is larger than another one by chance."""

from __future__ import annotations

from math import exp, lgamma, log

import torch


def binomial_p_value(hits: int, tries: int, share: float) -> float:
    """Return the probability of at least so many hits where each try hits with ``share``: exact, one-sided."""
    if hits <= 0 or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    counts = torch.arange(hits, tries + 1, dtype=torch.double)
    terms = lgamma(tries + 1) - torch.lgamma(counts + 1) - torch.lgamma(tries - counts + 1)
    terms = terms + counts * log(share) + (tries - counts) * log(1 - share)
    return min(1.0, float(terms.logsumexp(dim=0).exp()))


def fisher_p_value(hits: int, tries: int, other_hits: int, other_tries: int) -> float:
    """Return the probability that the first share is at least as large by chance (Fisher's exact test, one-sided).

    Args:
        hits: Hits of the first kind,
        tries: of so many tries.
        other_hits: Hits of the second kind,
        other_tries: of so many tries.
    """
    whole, drawn = tries + other_tries, hits + other_hits

    def ways(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    most = min(tries, drawn)
    found = (
        exp(ways(tries, k) + ways(other_tries, drawn - k) - ways(whole, drawn))
        for k in range(max(hits, drawn - other_tries), most + 1)
    )
    return min(1.0, sum(found))
