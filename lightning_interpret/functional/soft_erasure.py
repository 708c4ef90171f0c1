"""Erasure by degrees: elements of each unit's embedding are kept with a probability that its score sets.

After Zhao and Aletras (2023), *Incorporating Attribution Importance for Improving Faithfulness Metrics*. There the
probability is the score itself, scaled to [0, 1], so that a method with a few high scores erases little and one with
many erases much, and the two cannot be compared. With a fixed mass each erases the same share of the input. What is
returned is the plain drop, as of the other metrics of erasure: neither cut at 0 nor divided by that of an empty text.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_interpret.functional.erasure import in_chunks
from lightning_interpret.names import check_seed, check_whole

#: Probability of the class predicted at x when each element of unit t is kept with probability ``shares[m, t]``, and
#: otherwise is the baseline's: for shares ``(M, T)``, rows ``(M,)`` and seeds ``(M,)`` of what is drawn, ``(M,)``. The
#: same seed draws the same numbers, which are compared with the shares: so what a lower share keeps a higher one does.
Softly = Callable[[Tensor, Tensor, Tensor], Tensor]


def retained(scores: Tensor, counts: Tensor, mass: float | None = 0.5) -> Tensor:
    """Return the probability that each unit's elements are kept with, in [0, 1], ``(..., N, T)``; 1 where none counts.

    a = (s − min s) / (max s − min s) over the units that count, 1/2 where all scores are the same; with a mass m, it is
    min(1, max(0, a + λ)), λ such that its mean over those units is m: of all shares with this mean, those nearest to a.
    NaN in a row with a score that counts and is not finite.

    Args:
        scores: ``(..., N, T)``.
        counts: Bool ``(N, T)``, the units that count.
        mass: Mean share kept, in (0, 1); ``None`` for a itself, as without a fixed mass.

    Raises:
        ValueError: If shapes differ, or the mass is not in (0, 1).
    """
    if mass is not None and not 0 < mass < 1:
        raise ValueError(f"`mass={mass!r}` must lie in (0, 1), or be None for the scores themselves.")
    if scores.shape[-2:] != counts.shape or counts.dim() != 2:
        raise ValueError(f"`scores` {tuple(scores.shape)} and `counts` {tuple(counts.shape)} must both be (N, T).")
    values = scores.double()
    known = (values.isfinite() | ~counts).all(dim=-1, keepdim=True)
    lowest = values.masked_fill(~counts, torch.inf).amin(dim=-1, keepdim=True)
    spread = values.masked_fill(~counts, -torch.inf).amax(dim=-1, keepdim=True) - lowest
    shares = torch.where(spread > 0, (values - lowest) / spread, 0.5).masked_fill(~counts, 0)
    if mass is not None:
        wanted = mass * counts.sum(dim=-1, keepdim=True).double()
        low, high = torch.full_like(wanted, -1.0).expand_as(lowest), torch.ones_like(wanted).expand_as(lowest)
        for _ in range(52):  # to the last bit of a number in [−1, 1]
            middle = (low + high) / 2
            held = (shares + middle).clamp(0, 1).masked_fill(~counts, 0).sum(dim=-1, keepdim=True)
            low, high = torch.where(held < wanted, middle, low), torch.where(held < wanted, high, middle)
        shares = (shares + high).clamp(0, 1)
    return shares.masked_fill(~counts, 1).where(known, torch.nan)


def soft_comprehensiveness(
    scores: Tensor,
    counts: Tensor,
    softly: Softly,
    *,
    mass: float | None = 0.5,
    samples: int = 8,
    seed: int = 0,
    chunk: int = 64,
) -> Tensor:
    """Return p(x) − mean p(x with unit t kept by 1 − q(t)), ``(N,)``, q of :func:`retained`: high is good.

    Args:
        scores: ``(N, T)``; or ``(..., N, T)``, several of the same rows, whose values are ``(..., N)``.
        counts: Bool ``(N, T)``, the units that count; others are kept whole.
        softly: The model, given with what probability elements are kept.
        mass: Mean share removed; ``None`` for a itself, whose mean depends on the scores.
        samples: Draws that the probability is a mean of.
        seed: Seed of the first draw; the others follow it. Every row, and every ranking, is given the same draws.
        chunk: Points in one call of ``softly``.

    Raises:
        ValueError: If shapes differ, or an option is out of its range.
    """
    shares = 1 - retained(scores, counts, mass)
    return _lost(shares.masked_fill(~counts, 1), counts, softly, samples, seed, chunk)


def soft_sufficiency(
    scores: Tensor,
    counts: Tensor,
    softly: Softly,
    *,
    mass: float | None = 0.5,
    samples: int = 8,
    seed: int = 0,
    chunk: int = 64,
) -> Tensor:
    """Return p(x) − mean p(x with unit t kept by q(t)), ``(N,)``, q of :func:`retained`: low is good.

    ``mass`` is the mean share kept; the other arguments are those of :func:`soft_comprehensiveness`.
    """
    return _lost(retained(scores, counts, mass), counts, softly, samples, seed, chunk)


def _lost(shares: Tensor, counts: Tensor, softly: Softly, samples: int, seed: int, chunk: int) -> Tensor:
    check_whole(samples=samples)
    check_seed(seed)
    every, between = torch.arange(len(counts), device=counts.device), shares.shape[:-2]
    several = shares.flatten(0, -2)  # (O · N, T)
    points = torch.cat([several.new_ones(counts.shape), several.nan_to_num(1).repeat(samples, 1)])
    rows = every.repeat(1 + samples * (len(several) // max(1, len(counts))))
    draws = seed + torch.arange(samples, device=counts.device).repeat_interleave(len(several))
    draws = torch.cat([torch.full_like(every, seed), draws])
    numbers = torch.arange(len(points), device=counts.device)
    values = in_chunks(lambda at, of: softly(points[at], of, draws[at]), numbers, rows, chunk)
    mean = values[len(counts) :].view(samples, *between, len(counts)).mean(dim=0)
    unknown = shares.isnan().any(dim=-1) | ~counts.any(dim=-1)
    return (values[: len(counts)] - mean).masked_fill(unknown, torch.nan)
