"""Whether a concept's vectors are told apart from those of random concepts, over many concepts, classes and layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_interpret.functional.concept_vectors import extra
from lightning_interpret.names import choose

CORRECTIONS = ("holm", "benjamini_hochberg", "none")
_EXACT = 1e-12  # of the largest value: less is what rounding makes of none


def against_random(value: float, random: Tensor) -> float:
    """Return the two-sided p of one value beside those of random concepts ``(J,)``, under a normal distribution.

    t = (x − x̄) / (s √(1 + 1/J)) with J − 1 degrees of freedom: one value against a sample (Crawford and Howell, 1998).
    What was done to the concept was done to each random one, so that a concept which is none is one value more of the
    same distribution.

    Returns:
        NaN where a value is not finite, or J is below 2, or all the random ones are equal and the value is another: no
        spread says how far is far. 1 where it is equal to all of them.
    """
    count = len(random)
    if count < 2 or not math.isfinite(value) or not bool(random.isfinite().all()):
        return math.nan
    spread, distance = float(random.std()), value - float(random.mean())
    least = _EXACT * max(abs(value), float(random.abs().max()))
    if spread <= least:
        return 1.0 if abs(distance) <= least else math.nan
    return _two_sided(distance / (spread * math.sqrt(1 + 1 / count)), count - 1)


def welch(first: Tensor, second: Tensor) -> float:
    """Return the two-sided p of Welch's t-test that two samples have the same mean.

    It takes the values for independent. The scores of one concept's vectors over different negatives are not: they
    share its examples, so that a random set of examples fails it far more often than the level says.

    Returns:
        NaN where a value is not finite, a sample has fewer than 2, or both have no spread and differ; 1 if not.
    """
    if min(len(first), len(second)) < 2 or not bool(torch.cat([first, second]).isfinite().all()):
        return math.nan
    parts = [float(each.var()) / len(each) for each in (first, second)]
    distance, variance = float(first.mean() - second.mean()), sum(parts)
    least = _EXACT * float(torch.cat([first, second]).abs().max())
    if math.sqrt(variance) <= least:
        return 1.0 if abs(distance) <= least else math.nan
    freedom = variance**2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (first, second), strict=True))
    return _two_sided(distance / math.sqrt(variance), freedom)


def corrected(p: Tensor, correction: str = "holm") -> Tensor:
    """Return p-values corrected for how many there are, ``(n,)``; NaN stays NaN and is not counted.

    Args:
        p: The p-values ``(n,)``.
        correction: ``holm`` for the chance of any false one (Holm, 1979), ``benjamini_hochberg`` for the share of false
            ones among those found (Benjamini and Hochberg, 1995), or ``none``.

    Raises:
        ValueError: If the correction does not exist.
    """
    if choose("correction", correction, CORRECTIONS) == "none":
        return p.clone()
    found = torch.full_like(p, torch.nan)
    known = p.isfinite().nonzero().flatten()
    ordered, order = p[known].sort()
    count, rank = len(known), torch.arange(1, len(known) + 1, dtype=p.dtype)
    if correction == "holm":
        steps = ((count - rank + 1) * ordered).cummax(dim=0).values
    else:
        steps = (count / rank * ordered).flip(0).cummin(dim=0).values.flip(0)
    found[known[order]] = steps.clamp(max=1.0)
    return found


def interval(values: Tensor, level: float = 0.05) -> tuple[float, float]:
    """Return the t interval of the mean of some values ``(R,)`` at confidence 1 − level; NaN of fewer than two."""
    count, mean = len(values), float(values.mean())
    if count < 2:
        return math.nan, math.nan
    half = float(extra("scipy.stats").t.ppf(1 - level / 2, count - 1)) * float(values.std()) / math.sqrt(count)
    return mean - half, mean + half


def _two_sided(t: float, freedom: float) -> float:
    return float(2 * extra("scipy.stats").t.sf(abs(t), freedom))
