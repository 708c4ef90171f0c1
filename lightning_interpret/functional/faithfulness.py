"""How a model answers where units that an attribution ranks are absent, and where its input is perturbed.

These are the "marginal effect" family: each compares scores with what the model does *elsewhere*, at inputs with holes
or noise, so that a bad value may be the scores' fault or that of the way units are made absent. They do not say whether
an attribution adds up; the attribution error does, and comes first (after Cui and Fan, *The Neglected Baseline in Model
Interpretation*, arXiv 2605.22417). Read them beside a random order, with the baseline named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Probability of the class predicted at x when only the units of ``masks`` ``(M, T)`` are present and the others are at
#: the baseline, for the rows ``(M,)`` that the masks belong to: ``(M,)``.
Kept = Callable[[Tensor, Tensor], Tensor]

#: Shares of the units, in percent (DeYoung et al., 2020, ERASER, section 4.2).
BINS = (1, 5, 10, 20, 50)

#: Units up to which every order can be tried.
MOST_UNITS = 14


def comprehensiveness(
    scores: Tensor, counts: Tensor, kept: Kept, *, bins: Sequence[int] = BINS, chunk: int = 64
) -> Tensor:
    """Return p(x) − p(x ∖ r), ``(N, bins)``: how much is lost without the highest units r (DeYoung et al., 2020).

    High is good. The class is the one predicted at x. Units rank by signed score, evidence for the target first; of
    equal ones the first in the text comes first. r has ⌈q·n⌉ units of the n that count, computed in whole numbers: at
    least one, and 7 of 10 at 70 %, where 0.7 · 10 may be above 7 in floating point. Rounding down, as some codes do,
    gives other values.

    Args:
        scores: ``(N, T)``.
        counts: Bool ``(N, T)``, the units that count; others (special tokens, padding) are always present.
        kept: The model, given which units are present.
        bins: Shares of the units, whole percent.
        chunk: Masks in one call of ``kept``.

    Raises:
        ValueError: If a bin is no whole percent from 1 to 100, or shapes differ.
    """
    absent = highest(scores, counts, bins)
    return _lost(counts, ~absent, kept, chunk)


def sufficiency(scores: Tensor, counts: Tensor, kept: Kept, *, bins: Sequence[int] = BINS, chunk: int = 64) -> Tensor:
    """Return p(x) − p(r), ``(N, bins)``: how much is lost with the highest units r alone (DeYoung et al., 2020).

    Low is good. Ranks, rounding, arguments and errors are those of :func:`comprehensiveness`.
    """
    return _lost(counts, highest(scores, counts, bins) | ~counts, kept, chunk)


def probability_drop(full: Tensor, other: Tensor, classes: Tensor | None = None) -> Tensor:
    """Return p(x) − p(x') of one class, ``(N,)`` (DeYoung et al., 2020).

    Sufficiency where x' is the rationale alone, comprehensiveness where it is what the rationale leaves.

    Args:
        full: Probabilities at x, ``(N, C)``.
        other: Probabilities at x', ``(N, C)``.
        classes: Class of each, ``(N,)``; by default the one predicted at x, as there. Of a model that predicts from its
            rationale it is the one that it predicts: give that.

    Raises:
        ValueError: If shapes differ.
    """
    if full.shape != other.shape or full.dim() != 2:
        raise ValueError(
            f"`full` {tuple(full.shape)} and `other` {tuple(other.shape)} must be probabilities of one shape (N, C)."
        )
    which = full.argmax(dim=1) if classes is None else classes.to(full.device)
    if which.shape != full.shape[:1]:
        raise ValueError(f"`classes` must be ({len(full)},), but is {tuple(which.shape)}.")
    return (full.double() - other.double()).gather(1, which[:, None]).squeeze(1)


def highest(scores: Tensor, counts: Tensor, bins: Sequence[int] = BINS) -> Tensor:
    """Return which units are among the ⌈q·n⌉ highest of each row that count, bool ``(bins, N, T)``."""
    if scores.shape != counts.shape or scores.dim() != 2:
        raise ValueError(f"`scores` {tuple(scores.shape)} and `counts` {tuple(counts.shape)} must both be (N, T).")
    order = scores.masked_fill(~counts, -torch.inf).argsort(dim=1, descending=True, stable=True)
    # a unit that counts may be at -inf too: those that count go first, in the order that they have
    order = order.gather(1, (~counts).gather(1, order).int().argsort(dim=1, stable=True))
    place = order.argsort(dim=1)
    return (place < _sizes(counts, bins)[:, :, None]) & counts


def aopc(values: Tensor) -> Tensor:
    """Return the mean over the bins, ``(N, bins)`` to ``(N,)``: the area over the perturbation curve, as ERASER's code.

    The paper divides by the number of bins plus one, which is 5/6 of this with five.
    """
    return values.mean(dim=1)


def normalized_aopc(values: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Return (AOPC − lowest) / (highest − lowest), ``(N,)`` (Edin et al., 2025, *Normalized AOPC*).

    Models differ in what any order can reach; this is 0 at the lowest and 1 at the highest. NaN where no order matters.

    Args:
        values: AOPC, ``(N,)``.
        lowest: The lowest that an order reaches on this row, as :func:`aopc_limits` finds it.
        highest: The highest.
    """
    return (values - lowest) / (highest - lowest)


def aopc_limits(
    counts: Tensor, kept: Kept, *, bins: Sequence[int] = BINS, sufficient: bool = False, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest AOPC that any order of the units reaches, each ``(N,)``.

    All 2ⁿ sets of units are tried once, then the best chain from nothing to everything is found set by set, so that the
    n! orders need no trial.

    Args:
        counts: Bool ``(N, T)``, the units that count.
        kept: The model, given which units are present.
        bins: Shares of the units, whole percent.
        sufficient: Whether it is the AOPC of sufficiency and not of comprehensiveness.
        chunk: Masks in one call of ``kept``.

    Raises:
        ValueError: If a row has more than 14 units that count.
    """
    units = int(counts.sum(dim=1).max()) if len(counts) else 0
    if units > MOST_UNITS:
        raise ValueError(f"`counts` has {units} units in a row: every order can be tried up to {MOST_UNITS}.")
    sets = torch.arange(2**units, device=counts.device)
    holds = (sets[:, None] >> torch.arange(units, device=counts.device)) & 1 == 1  # (sets, units)
    which = (counts.cumsum(dim=1) - 1).clamp(0, max(units - 1, 0))  # the unit's number among those that count
    chosen = holds[:, which] & counts if units else counts.expand(1, *counts.shape)  # (sets, N, T)
    values = _lost(counts, chosen | ~counts if sufficient else ~chosen, kept, chunk)  # (N, sets)
    size = holds.sum(dim=1)
    times = (_sizes(counts, bins)[:, :, None] == size).sum(dim=0)  # how many bins see a set of this size
    gains = times * values
    found = []
    for extreme, none in ((torch.amin, torch.inf), (torch.amax, -torch.inf)):
        reached = torch.zeros_like(gains)
        for k in range(1, units + 1):
            of_size = (size == k).nonzero().flatten()
            before = of_size[:, None] ^ (1 << torch.arange(units, device=counts.device))  # without one of its units
            earlier = reached[:, before.flatten()].unflatten(1, before.shape).masked_fill(~holds[of_size], none)
            reached[:, of_size] = gains[:, of_size] + extreme(earlier, dim=2)
        everything = 2 ** counts.sum(dim=1) - 1
        found.append(reached.gather(1, everything[:, None]).squeeze(1) / len(bins))
    return found[0], found[1]


def infidelity(
    attributions: Tensor,
    inputs: Tensor,
    perturbations: Tensor,
    score: Callable[[Tensor, Tensor], Tensor],
    *,
    normalized: bool = False,
    chunk: int = 64,
) -> Tensor:
    """Return the mean of (I·Φ − (F(x) − F(x − I)))² over perturbations I, ``(N,)`` (Yeh et al., 2019, definition 2.1).

    Φ is a rate, per unit of input. What is an amount already (integrated gradients, gradient × input) is divided by
    x − x' first. The law that I is drawn from is a baseline too: name it.

    Args:
        attributions: Φ, ``(N, *shape)``.
        inputs: x, ``(N, *shape)``.
        perturbations: I, ``(S, N, *shape)``.
        score: F at points ``(M, *shape)`` of rows ``(M,)``.
        normalized: Whether Φ is first scaled by the factor that makes the result least, so that a scale of Φ is free.
        chunk: Points in one call of ``score``.
    """
    size, every = len(perturbations), torch.arange(len(inputs), device=inputs.device)
    points = torch.cat([inputs[None], inputs - perturbations])
    values = _in_chunks(score, points.flatten(0, 1), every.repeat(size + 1), chunk).view(size + 1, -1)
    expected = (attributions * perturbations).flatten(2).sum(dim=2)
    seen = values[0] - values[1:]
    if normalized:
        least = expected.square().mean(dim=0)
        scale = (expected * seen).mean(dim=0) / least.where(least != 0, torch.ones_like(least))
        expected = scale * expected
    return (expected - seen).square().mean(dim=0)


def max_sensitivity(
    explain: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, perturbations: Tensor, *, chunk: int = 64
) -> Tensor:
    """Return the largest ‖Φ(x + δ) − Φ(x)‖ / ‖Φ(x)‖ over perturbations δ, ``(N,)`` (Yeh et al., 2019, equation 6).

    Where Φ(x) is 0 it is not divided. A lower bound of the supremum over the ball that the δ are drawn from.

    Args:
        explain: Φ at points ``(M, *shape)`` of rows ``(M,)``: ``(M, ...)``.
        inputs: x, ``(N, *shape)``.
        perturbations: δ, ``(S, N, *shape)``.
        chunk: Points in one call of ``explain``.
    """
    size, every = len(perturbations), torch.arange(len(inputs), device=inputs.device)
    points = torch.cat([inputs[None], inputs + perturbations])
    found = _in_chunks(explain, points.flatten(0, 1), every.repeat(size + 1), chunk)
    found = found.flatten(1).unflatten(0, (size + 1, len(inputs)))
    norm = found[0].norm(dim=1)
    return ((found[1:] - found[0]).norm(dim=2) / norm.where(norm != 0, torch.ones_like(norm))).amax(dim=0)


def _lost(counts: Tensor, present: Tensor, kept: Kept, chunk: int) -> Tensor:
    """Return p(x) − p of each of K masks ``(K, N, T)``: ``(N, K)``."""
    masks = torch.cat([torch.ones_like(counts)[None], present])
    rows = torch.arange(len(counts), device=counts.device).repeat(len(masks))
    values = _in_chunks(kept, masks.flatten(0, 1), rows, chunk).view(len(masks), -1)
    return (values[0] - values[1:]).T


def _in_chunks(function: Callable[[Tensor, Tensor], Tensor], points: Tensor, rows: Tensor, chunk: int) -> Tensor:
    parts = zip(points.split(chunk), rows.split(chunk), strict=True)
    return torch.cat([function(some, of) for some, of in parts])


def _sizes(counts: Tensor, bins: Sequence[int]) -> Tensor:
    """Return ⌈q·n⌉ for each bin and row, ``(bins, N)``."""
    wrong = [share for share in bins if not (isinstance(share, int) and 1 <= share <= 100)]
    if wrong or not bins:
        raise ValueError(f"`bins={tuple(bins)}` must be whole numbers of percent from 1 to 100.")
    share = torch.tensor(bins, device=counts.device)
    return (share[:, None] * counts.sum(dim=1) + 99) // 100
